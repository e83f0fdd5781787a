import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { assert, messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';
import { buildConfig } from './build.ts';
import { warnOfShortLocks } from './check-locks.ts';
import { checkSections } from './check.ts';
import { BuildContext } from './context.ts';
import { processSettings, putStandIn, readEnvironment } from './environment.ts';
import { type Environment, ignoredVariables, readVariables } from './environment-reader.ts';
import type { Config, LogConfig } from './model.ts';
import { Origins, pathText } from './origins.ts';
import { type Need, Problems } from './problems.ts';
import { tracesSettings } from './traces.ts';
import { applySetting, type Setting, valueAt } from './tree.ts';
import { unknownVariables } from './unknown-variables.ts';

/** A configuration is written by hand; what is larger is another file. */
const CONFIG_BYTES_MAX = 1024 * 1024;
const ALL_PARTS = ['database', 'storage'] as const satisfies readonly Need[];

/** Settings of the command line; they win over everything. */
export interface ConfigFlags {
  readonly logLevel?: string;
  readonly logFormat?: string;
  readonly listen?: string;
}

export interface LoadOptions {
  /** `--config`; else PGARK_CONFIG; else the environment's other names make the configuration. */
  readonly file?: string;
  readonly env: Environment;
  /** Relative paths in flags and variables start here; those in the file start at its directory. */
  readonly cwd: string;
  readonly flags?: ConfigFlags;
  /**
   * What the command cannot do without, of an environment configuration. What is not needed may be missing or wrong; it
   * is then absent from the maps. Default: both. A file must always be right as a whole. What is to be thought over about
   * backups that databases make is warned of where they are needed.
   */
  readonly needs?: readonly Need[];
  /** Told what the log is to look like once a file was read, or could not be, whatever else is wrong: it is not read twice. */
  readonly onLogFormat?: (format: LogConfig['format']) => void;
}

/**
 * Loads the configuration: flag > file > environment > default. With a file, the environment's names are ignored but
 * for those of the process (LOG_LEVEL, LOG_FORMAT, DEBUG, TZ, PGARK_LISTEN, OTEL_…), and `warnings` names the ignored ones.
 * It also names variables that look like pgark's own and are none.
 * Everything that is wrong is said at once, in a PgarkError `config-missing`, `config-invalid`, `config-conflict`,
 * `config-unreadable`, `key-invalid` (exit 1), `cron-invalid` (exit 2) or `storage-config-invalid` (exit 3).
 */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  const { needs = ALL_PARTS } = options;
  const file = options.file ?? options.env['PGARK_CONFIG'];
  const config = await (file === undefined || file === '' ? loadEnvironment(options) : loadFile(file, options));
  // Who only wants a storage, as a server for each segment of its WAL, makes no backups.
  if (!needs.includes('database')) return config;
  return { ...config, warnings: [...config.warnings, ...warnOfShortLocks(config)] };
}

/**
 * What the log is to look like, as far as that can be told while the configuration as a whole cannot be read: for the errors
 * of those who have not read it. What is no regular file, such as a pipe, gives what it has only once, if ever: it is left alone.
 */
export async function loadLogFormat(options: Pick<LoadOptions, 'file' | 'env' | 'cwd'>): Promise<LogConfig['format']> {
  const { env, cwd } = options;
  const problems = new Problems();
  const variables = await readVariables(env, { cwd, problems, sections: ['Process'] });
  const file = options.file ?? env['PGARK_CONFIG'];
  return logFormatOf(file === undefined || file === '' ? undefined : await treeOf(file), processSettings(variables));

  async function treeOf(name: string): Promise<unknown> {
    const path = resolve(cwd, name);
    try {
      const isRegular = await stat(path).then(
        (found) => found.isFile(),
        () => false,
      );
      if (!isRegular) return undefined;
      const source = await readSource(name, path);
      return (await yamlReader())(source, { file: name, env, origins: new Origins(), problems });
    } catch (error) {
      if (error instanceof PgarkError) return undefined;
      throw error;
    }
  }
}

/** Whoever has no file goes without its parser. */
async function yamlReader() {
  return (await import('./yaml-file.ts')).readYaml;
}

function logFormatOf(tree: unknown, settings: readonly Setting[]): LogConfig['format'] {
  const isFormat = (value: unknown): value is LogConfig['format'] =>
    value === 'auto' || value === 'json' || value === 'text';
  const ofEnvironment = settings.find(({ path }) => pathText(path) === 'log.format')?.value;
  return [valueAt(tree, ['log', 'format']), ofEnvironment].find(isFormat) ?? 'auto';
}

async function loadEnvironment(options: LoadOptions): Promise<Config> {
  const { needs = ALL_PARTS } = options;
  const origins = new Origins();
  const problems = new Problems();
  const { tree, source, warnings } = await readEnvironment(options.env, { cwd: options.cwd, origins, problems });
  for (const setting of flagSettings(options.flags)) applySetting(tree, origins, setting);
  const context = new BuildContext({ origins, problems, baseDir: options.cwd });
  let sections = checkSections(context, tree);
  if (sections === undefined) {
    problems.throwIfAny(needs);
    for (const part of ALL_PARTS) if (problems.has(part)) putStandIn(tree, source, part);
    sections = checkSections(context, tree);
  }
  assert(sections !== undefined, 'an environment without problems passes the schema');
  const unknown = unknownVariables(options.env, ['BACKUP_', 'PGARK_']);
  const all = [...warnings, ...unknown];
  const config = await buildConfig(context, sections, { source: 'environment', warnings: all });
  problems.throwIfAny(needs);
  const leftOut = problems.error(ALL_PARTS);
  return {
    ...config,
    ...(leftOut && { leftOut }),
    ...(problems.has('database') && { databases: new Map<string, never>() }),
    ...(problems.has('storage') && { storages: new Map<string, never>() }),
  };
}

async function loadFile(file: string, options: LoadOptions): Promise<Config> {
  const { env, cwd } = options;
  const path = resolve(cwd, file);
  const origins = new Origins();
  const problems = new Problems();
  const chosenBy = options.file === undefined ? 'environment: PGARK_CONFIG' : 'flag: --config';
  origins.set(['source'], { origin: chosenBy, where: file, isWhole: true });
  const read = await readSource(file, path).catch((error: unknown) => ({ error }));
  const readYaml = await yamlReader();
  const tree = typeof read === 'string' ? readYaml(read, { file, env, origins, problems }) : undefined;
  const variables = await readVariables(env, { cwd, problems, sections: ['Process'] });
  options.onLogFormat?.(logFormatOf(tree, processSettings(variables)));
  if (typeof read !== 'string') throw read.error;
  const traces = tracesSettings(variables);
  for (const setting of [...processSettings(variables), ...traces.settings]) {
    if (!isSaid(tree, setting.path)) applySetting(tree, origins, setting);
  }
  for (const setting of flagSettings(options.flags)) applySetting(tree, origins, setting);
  const context = new BuildContext({ origins, problems, baseDir: dirname(path), file });
  const sections = tree === undefined ? undefined : checkSections(context, tree);
  if (sections === undefined) problems.throwIfAny([]);
  assert(sections !== undefined, 'a file without problems passes the schema');
  const ignored = ignoredVariables(env);
  const warnings = [
    ...(isSaid(tree, ['traces', 'url']) ? [] : traces.warnings),
    ...(ignored.length === 0
      ? []
      : [`${file} is the configuration; these variables are ignored: ${ignored.join(', ')}`]),
    ...unknownVariables(env, ['PGARK_']),
  ];
  const config = await buildConfig(context, sections, { source: { file: path }, warnings });
  problems.throwIfAny([]);
  return config;
}

/** Whether the file has the value, or names a file that has it. */
function isSaid(tree: unknown, path: readonly string[]): boolean {
  return [path, [...path.slice(0, -1), `${path.at(-1)}_file`]].some((each) => valueAt(tree, each) !== undefined);
}

async function readSource(file: string, path: string): Promise<string> {
  const unreadable = (why: string, cause?: unknown): PgarkError =>
    new PgarkError('config-unreadable', `cannot read the configuration file ${file}: ${why}`, { cause });
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw unreadable(systemCodeOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error), error);
  }
  if (bytes.length > CONFIG_BYTES_MAX) throw unreadable(`${bytes.length} bytes are too many for a configuration`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw unreadable('it is not UTF-8', error);
  }
}

function flagSettings(flags: ConfigFlags | undefined): readonly Setting[] {
  const rows = [
    [['log', 'level'], '--log-level', flags?.logLevel],
    [['log', 'format'], '--log-format', flags?.logFormat],
    [['server', 'listen'], '--listen', flags?.listen],
  ] as const;
  return rows.flatMap(([path, name, value]) =>
    value === undefined ? [] : [{ path, value, origin: `flag: ${name}`, where: name }],
  );
}
