import { mediumOf } from '../common/webhook-medium.ts';
import { readDatabase } from './environment-database.ts';
import { type Environment, parseSwitch, readVariables, type Said, type SetVariables } from './environment-reader.ts';
import { readStorage } from './environment-storage.ts';
import { readKeyMaterial } from './key-material.ts';
import type { Origins } from './origins.ts';
import type { Need, Problems } from './problems.ts';
import { parseSchedule } from './schedule.ts';
import { CONFIG_VERSION } from './schema.ts';
import { defaultEventNames } from './schema-daemon.ts';
import { tracesSettings } from './traces.ts';
import { applySetting, putAt, type Setting, type Tree, type TreeValue, valueAt } from './tree.ts';

/** Names of what the environment defines, in the maps of the configuration. */
const ENVIRONMENT_STORAGE = 'default';
const ENVIRONMENT_JOB = 'backup';
const ENTRY = 'default';
const WEBHOOK = 'webhook';
const DEFAULT_SCHEDULE = '0 0 * * *';
const DEFAULT_RETENTION_DAYS = 7;
const RETENTION_BACKUPS_MIN = 3;

/** Names the parts of an environment that could not be read, when a command does not need them. */
const UNNAMED = 'database';

interface EnvironmentTree {
  /** What the file would hold. */
  readonly tree: Tree;
  /** Name of the source in it. */
  readonly source: string;
  readonly warnings: readonly string[];
}

/** Writes values into the tree and notes which variable said them. */
class TreeWriter {
  readonly tree: Tree = {};
  readonly #origins: Origins;

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  put(path: readonly string[], value: TreeValue, variable?: string): void {
    putAt(this.tree, path, value);
    if (variable !== undefined) this.#origins.setVariable(path, variable);
  }

  say(path: readonly string[], said: Said | undefined, translate = (text: string): TreeValue => text): void {
    if (said !== undefined) this.put(path, translate(said.value.trim()), said.variable);
  }
}

/** Stands in for a part that was not said or is wrong, when a command does not need it. It is never handed out. */
export function putStandIn(tree: Tree, source: string, part: Need): void {
  if (part === 'storage') {
    putAt(tree, ['storages', ENVIRONMENT_STORAGE], { type: 'file', path: '.' });
    return;
  }
  const jobs = valueAt(tree, ['databases', source, 'jobs']) as Tree | undefined;
  putAt(tree, ['databases', source], { host: '.', user: '.', database: '.', ...(jobs !== undefined && { jobs }) });
}

/** Reads the environment quick start: one database, one storage, one job. Reports what is wrong. */
export async function readEnvironment(
  env: Environment,
  options: { readonly cwd: string; readonly origins: Origins; readonly problems: Problems },
): Promise<EnvironmentTree> {
  const { origins, problems } = options;
  const variables = await readVariables(env, options);
  const writer = new TreeWriter(origins);
  const warnings: string[] = [];
  writer.put(['version'], CONFIG_VERSION);
  const traces = tracesSettings(variables);
  warnings.push(...traces.warnings);
  for (const setting of [...processSettings(variables), ...traces.settings]) {
    applySetting(writer.tree, origins, setting);
  }
  const debug = variables.get('DEBUG');
  // Other programs use DEBUG for lists of modules.
  if (debug !== undefined && parseSwitch(debug.value) === undefined) {
    warnings.push(`${debug.variable} is neither true nor false and was ignored`);
  }

  const storage = readStorage(variables, env, problems);
  const storagePath = ['storages', ENVIRONMENT_STORAGE];
  const isStorageWrong = storage === undefined || problems.has('storage');
  if (isStorageWrong) putStandIn(writer.tree, UNNAMED, 'storage');
  for (const [key, value] of Object.entries(isStorageWrong ? {} : storage.section)) {
    writer.put([...storagePath, key], value, storage?.variables[key]);
  }
  const database = readDatabase(variables, problems);
  const source = variables.value('BACKUP_NAME') ?? database?.name ?? UNNAMED;
  if (database === undefined) putStandIn(writer.tree, source, 'database');
  for (const [key, value] of Object.entries(database?.section ?? {})) {
    writer.put(['databases', source, key], value, database?.variables[key]);
  }
  readGlobals(variables, writer, ['databases', source, 'globals']);
  await readJob(variables, writer, ['databases', source], problems);
  readWebhook(variables, writer, problems);
  return { tree: writer.tree, source, warnings };
}

/** Names that count beside a configuration file too: they are about the process, not about what it backs up. */
export function processSettings(variables: SetVariables): readonly Setting[] {
  const settings: Setting[] = [];
  const say = (path: readonly string[], name: string, translate = (text: string): string => text): void => {
    const said = variables.get(name);
    if (said === undefined) return;
    const value = translate(said.value.trim());
    settings.push({ path, value, origin: `environment: ${said.variable}`, where: said.variable });
  };
  say(['timezone'], 'TZ');
  say(['server', 'listen'], 'PGARK_LISTEN');
  say(['server', 'stop_grace'], 'PGARK_STOP_GRACE', secondsOrDuration);
  say(['log', 'format'], 'LOG_FORMAT', (text) => text.toLowerCase());
  say(['log', 'level'], 'LOG_LEVEL', (text) => (text.toLowerCase() === 'warn' ? 'warning' : text.toLowerCase()));
  if (parseSwitch(variables.value('DEBUG') ?? '') === true) say(['log', 'level'], 'DEBUG', () => 'debug');
  return settings;
}

async function readJob(
  variables: SetVariables,
  writer: TreeWriter,
  source: readonly string[],
  problems: Problems,
): Promise<void> {
  const job = [...source, 'jobs', ENVIRONMENT_JOB];
  writer.put([...job, 'to'], [ENVIRONMENT_STORAGE]);
  readSchedule(variables, writer, [...job, 'schedule'], problems);
  const format = variables.get('BACKUP_FORMAT');
  if (format === undefined) writer.put([...job, 'format'], 'plain');
  else writer.say([...job, 'format'], format, (text) => text.toLowerCase());
  writer.say([...job, 'filename'], variables.get('BACKUP_FILENAME'));
  writer.say([...job, 'parallel'], variables.get('BACKUP_JOBS'));
  readCompression(variables, writer, [...job, 'compression']);
  readRetention(variables, writer, job, problems);
  await readEncryption(variables, writer, [...job, 'encryption'], problems);
  writer.say(['defaults', 'retry', 'attempts'], variables.get('RETRY_ATTEMPTS'));
  writer.say(['defaults', 'retry', 'delay'], variables.get('RETRY_DELAY'), secondsOrDuration);
  writer.say(['defaults', 'lease_term'], variables.get('BACKUP_LEASE_TERM'), secondsOrDuration);
}

function secondsOrDuration(text: string): string {
  return /^\d+$/.test(text) ? `${text}s` : text;
}

function readSchedule(variables: SetVariables, writer: TreeWriter, path: readonly string[], problems: Problems): void {
  const schedule = variables.get('BACKUP_SCHEDULE');
  const interval = variables.get('BACKUP_INTERVAL');
  const said = schedule ?? interval;
  if (said === undefined) {
    writer.put(path, DEFAULT_SCHEDULE);
    return;
  }
  const text = (one: Said): string => (one === interval ? secondsOrDuration(one.value.trim()) : one.value.trim());
  if (schedule !== undefined && interval !== undefined) {
    const [first, second] = [parseSchedule(text(schedule)), parseSchedule(text(interval))];
    if (JSON.stringify(first) !== JSON.stringify(second)) {
      const message = `contradicts ${schedule.variable} ("${interval.value}" against "${schedule.value}")`;
      problems.add({ code: 'config-conflict', where: interval.variable, message, hint: 'keep one of the two' });
    }
  }
  writer.put(path, text(said), said.variable);
}

/** The quick start is one database and one object; who wants the server's roles beside it says so. */
function readGlobals(variables: SetVariables, writer: TreeWriter, path: readonly string[]): void {
  const said = variables.get('BACKUP_GLOBALS');
  if (said === undefined) writer.put(path, 'none');
  else writer.say(path, said, (text) => text.toLowerCase());
}

function readCompression(variables: SetVariables, writer: TreeWriter, path: readonly string[]): void {
  const algorithm = variables.get('BACKUP_COMPRESSION');
  const level = variables.get('COMPRESSION_LEVEL');
  if (algorithm === undefined && level === undefined) return;
  if (level === undefined) {
    writer.say(path, algorithm, (text) => text.toLowerCase());
    return;
  }
  const isPlain = (variables.value('BACKUP_FORMAT') ?? 'plain').trim().toLowerCase() === 'plain';
  writer.put([...path, 'algorithm'], isPlain ? 'gzip' : 'zstd');
  writer.say([...path, 'algorithm'], algorithm, (text) => text.toLowerCase());
  writer.say([...path, 'level'], level);
}

function readRetention(variables: SetVariables, writer: TreeWriter, job: readonly string[], problems: Problems): void {
  const said = variables.get('BACKUP_RETENTION_DAYS');
  const text = said?.value.trim() ?? String(DEFAULT_RETENTION_DAYS);
  if (text.toLowerCase() === 'forever') return;
  const days = Number(text);
  if (!/^\d{1,5}$/.test(text) || days < 1) {
    const message = `must be a whole number of days, at least 1, or "forever"`;
    problems.add({ code: 'config-invalid', where: said?.variable ?? 'BACKUP_RETENTION_DAYS', message });
    return;
  }
  writer.put(['retention', ENTRY, 'keep', 'within'], `${days}d`, said?.variable);
  writer.put(['retention', ENTRY, 'min_backups'], RETENTION_BACKUPS_MIN);
  writer.put([...job, 'retention'], ENTRY, said?.variable);
}

/** `true` lets the key decide; so does a key alone, since nobody sets one and wants no encryption. */
async function readEncryption(
  variables: SetVariables,
  writer: TreeWriter,
  jobPath: readonly string[],
  problems: Problems,
): Promise<void> {
  const said = variables.get('BACKUP_ENCRYPTION');
  const key = variables.get('BACKUP_ENCRYPTION_KEY');
  const scheme = said === undefined ? (key === undefined ? 'none' : 'by-key') : schemeOf(said.value);
  if (scheme === undefined) {
    const message = 'must be one of none, age, openssl, aes-256-cbc, true, false';
    problems.add({ code: 'config-invalid', where: said?.variable ?? 'BACKUP_ENCRYPTION', message });
    return;
  }
  if (key === undefined) {
    if (scheme === 'none') return;
    const message = `is required beside ${said?.variable ?? ''}`;
    const hint = 'give an age public key (pgark key generate makes one), or a passphrase of 32 characters or more';
    problems.add({ code: 'config-missing', where: 'BACKUP_ENCRYPTION_KEY', message, hint });
    return;
  }
  const material = await readKeyMaterial(key.value);
  if (typeof material === 'string') {
    problems.add({ code: 'key-invalid', where: key.variable, message: material });
    return;
  }
  const entry = ['encryption', ENTRY];
  // A key beside BACKUP_ENCRYPTION=none still opens older backups, of which it may be a short passphrase for age.
  const isAge = scheme === 'age' || (scheme !== 'openssl' && (scheme === 'none' || material.kind !== 'passphrase'));
  writer.put([...entry, 'type'], isAge ? 'age' : 'openssl', said?.variable ?? key.variable);
  const field = isAge
    ? ({ recipients: 'recipients', identities: 'identity', passphrase: 'passphrase' } as const)[material.kind]
    : 'passphrase';
  writer.put(
    [...entry, field],
    material.kind === 'recipients' && isAge ? material.recipients : key.value,
    key.variable,
  );
  if (scheme !== 'none') writer.put(jobPath, ENTRY, said?.variable ?? key.variable);
}

function schemeOf(text: string): 'none' | 'age' | 'openssl' | 'by-key' | undefined {
  const word = text.trim().toLowerCase();
  if (word === 'none' || parseSwitch(word) === false) return 'none';
  if (parseSwitch(word) === true) return 'by-key';
  if (word === 'age') return 'age';
  return ['openssl', 'aes-256-cbc', 'aes256', 'aes-256'].includes(word) ? 'openssl' : undefined;
}

function readWebhook(variables: SetVariables, writer: TreeWriter, problems: Problems): void {
  const url = variables.get('WEBHOOK_URL');
  if (url === undefined) return;
  const switchOf = (name: string, standard: boolean): boolean => {
    const said = variables.get(name);
    const value = said === undefined ? standard : parseSwitch(said.value);
    if (value === undefined) {
      problems.add({ code: 'config-invalid', where: said?.variable ?? name, message: 'must be true or false' });
    }
    return value ?? standard;
  };
  const onFailure = switchOf('WEBHOOK_ON_FAILURE', true);
  const onSuccess = switchOf('WEBHOOK_ON_SUCCESS', false);
  if (!onFailure && !onSuccess) return;
  const path = ['notifications', WEBHOOK];
  const events = onFailure ? defaultEventNames : [];
  writer.put([...path, 'type'], mediumOf(url.value), url.variable);
  writer.put([...path, 'url'], url.value.trim(), url.variable);
  const decider = variables.first('WEBHOOK_ON_SUCCESS', 'WEBHOOK_ON_FAILURE');
  writer.put([...path, 'on'], onSuccess ? ['success', ...events] : events, decider?.variable);
  writer.put(['defaults', 'notify'], [WEBHOOK], url.variable);
}
