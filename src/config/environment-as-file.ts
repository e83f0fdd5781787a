import { resolve } from 'node:path';
import { Document, isCollection, isMap, isScalar, type Pair, type Scalar, type YAMLMap } from 'yaml';
import { assert } from '../common/errors.ts';
import { parseConnectionString } from './connection.ts';
import { readEnvironment } from './environment.ts';
import type { Environment } from './environment-reader.ts';
import { loadConfig } from './load.ts';
import { Origins, type Path, pathText } from './origins.ts';
import { Problems } from './problems.ts';
import { isMapping, type Tree, type TreeValue } from './tree.ts';

export interface EnvironmentAsFile {
  /** YAML. No secret stands in it. */
  readonly text: string;
  /** Variables that it refers to: they have to be set wherever it is used. */
  readonly variables: readonly string[];
}

/** What the reader meets first stands first. Traces are left out: OpenTelemetry's own variables count beside a file too. */
const ORDER = [
  'version',
  'timezone',
  'server',
  'log',
  'storages',
  'encryption',
  'retention',
  'notifications',
  'defaults',
  'databases',
] as const;

const COMMENTS: Readonly<Record<string, string>> = {
  timezone: 'Schedules are meant in it.',
  storages: 'Where backups go. Add others, and name them in the "to" of a job.',
  encryption: 'With what backups are encrypted. Keep the secret key where neither the backups nor the database are.',
  retention: 'What is kept. Whatever no rule keeps goes with the prune behind each backup.',
  notifications: 'Who is told; "pgark notify test" tries them.',
  databases: 'What is backed up. Add others below their own names.',
};

const OUTRO = ` What may come next, below the database (docs/configuration.md has every key):
   drill: { schedule: "0 7 * * 6" }     # each Saturday a restore is tried
   verify: { schedule: "0 6 * * *" }    # what is stored is read again
   expect: { max_age: 26h }             # older than this is overdue`;

/** Keys that may stand as `KEY_file`. */
const SECRETS: ReadonlySet<string> = new Set([
  'url',
  'password',
  'access_key_id',
  'secret_access_key',
  'session_token',
  'identity',
  'passphrase',
]);
/** In the environment they start at the working directory, in a file at its folder. */
const PATHS: ReadonlySet<string> = new Set(['path', 'config_file', 'sslrootcert', 'sslcert', 'sslkey', 'passfile']);
const WHOLE_NUMBERS: ReadonlySet<string> = new Set(['port', 'level', 'attempts', 'parallel']);

/**
 * The configuration that the environment says, as a file in `folder` would say it. Secrets stay in their variables and
 * files, to which it refers. Errors: those of `loadConfig`.
 */
export async function environmentAsFile(
  env: Environment,
  { cwd, folder }: { readonly cwd: string; readonly folder: string },
): Promise<EnvironmentAsFile> {
  const { PGARK_CONFIG: _file, ...settings } = env;
  await loadConfig({ env: settings, cwd });
  const origins = new Origins();
  const { tree, source } = await readEnvironment(settings, { cwd, origins, problems: new Problems() });
  const writer = new FileWriter(settings, { origins, cwd, folder });
  const entries = ORDER.flatMap((key) => (Object.hasOwn(tree, key) ? [[key, tree[key] as TreeValue] as const] : []));
  const written = writer.mapOf([], Object.fromEntries(entries));
  return { text: format(written, source), variables: [...writer.variables] };
}

class FileWriter {
  readonly variables = new Set<string>();
  readonly #env: Environment;
  readonly #origins: Origins;
  readonly #cwd: string;
  readonly #folder: string;

  constructor(
    env: Environment,
    { origins, cwd, folder }: { readonly origins: Origins; readonly cwd: string; readonly folder: string },
  ) {
    this.#env = env;
    this.#origins = origins;
    this.#cwd = cwd;
    this.#folder = folder;
  }

  /** A map, since a database may have any name. */
  mapOf(path: Path, tree: Tree): Map<string, unknown> {
    return new Map(Object.entries(tree).map(([key, value]) => this.#entry([...path, key], key, value)));
  }

  #entry(path: Path, key: string, value: TreeValue): readonly [string, unknown] {
    if (isMapping(value)) return [key, this.mapOf(path, value)];
    if (typeof value !== 'string') return [key, Array.isArray(value) ? value.map(escapeReferences) : value];
    if (SECRETS.has(key) && !isOpenUrl(path, value)) return this.#secret(path, key);
    if (PATHS.has(key) && !(key === 'sslrootcert' && value === 'system')) {
      return [key, escapeReferences(this.#pathInFile(value))];
    }
    if (WHOLE_NUMBERS.has(key) && /^\d{1,9}$/.test(value)) return [key, Number(value)];
    return [key, escapeReferences(value)];
  }

  #secret(path: Path, key: string): readonly [string, unknown] {
    const variable = this.#origins.get(path)?.where;
    const content = variable === undefined ? undefined : this.#env[variable];
    assert(variable !== undefined && content !== undefined, `a variable says ${pathText(path)}`);
    if (variable.endsWith('_FILE')) return [`${key}_file`, escapeReferences(this.#pathInFile(content))];
    this.variables.add(variable);
    return [key, `\${${variable}}`];
  }

  #pathInFile(path: string): string {
    return this.#folder === this.#cwd ? path : resolve(this.#cwd, path);
  }
}

/** An URL of a database that holds no password, nor parameters among which one may be. */
function isOpenUrl(path: Path, value: string): boolean {
  if (path[0] !== 'databases' || path.at(-1) !== 'url') return false;
  return !value.includes('?') && parseConnectionString(value).password === undefined;
}

/** `${` begins a reference in a file, and nothing in a variable. */
function escapeReferences(text: string): string {
  return text.replaceAll('${', () => '$${');
}

function format(settings: ReadonlyMap<string, unknown>, source: string): string {
  const document = new Document(settings, { version: '1.2' });
  document.commentBefore =
    ' yaml-language-server: $schema=https://unpkg.com/pgark/config.schema.json\n' +
    ' Made by pgark init. No secret stands in here: they are in variables and files, to which it refers.';
  const sections = (document.contents as unknown as YAMLMap<Scalar<string>>).items;
  for (const { key } of sections.slice(1)) {
    key.spaceBefore = true;
    const comment = COMMENTS[key.value];
    if (comment !== undefined) key.commentBefore = ` ${comment}`;
  }
  const schedule = pairAt(document, ['databases', source, 'jobs', 'backup'], 'schedule');
  if (schedule !== undefined) schedule.key.commentBefore = ' Of "pgark daemon" and "pgark once".';
  for (const path of [
    ['retention', 'default', 'keep'],
    ['databases', source, 'jobs', 'backup', 'to'],
  ]) {
    const node = document.getIn(path, true);
    if (isCollection(node)) node.flow = true;
  }
  document.comment = OUTRO;
  return document.toString({ lineWidth: 0, flowCollectionPadding: true });
}

function pairAt(document: Document, path: readonly string[], key: string): Pair<Scalar> | undefined {
  const map = document.getIn(path, true);
  if (!isMap(map)) return undefined;
  return map.items.find((pair): pair is Pair<Scalar> => isScalar(pair.key) && pair.key.value === key);
}
