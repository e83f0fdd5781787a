import { basename, join, relative, resolve } from 'node:path';
import { PgarkError } from '../common/errors.ts';
import { type ConnectionParts, ConnectionStringError, parseConnectionString } from '../config/connection.ts';
import { environmentNames } from '../config/environment-names.ts';
import type { Environment } from '../config/environment-reader.ts';
import { parseSchedule } from '../config/schedule.ts';
import { parseTarget } from '../config/storage-target.ts';
import { text } from './option-text.ts';
import type { Questions } from './questions.ts';

type Options = Readonly<Record<string, unknown>>;
type Settings = Readonly<Record<string, string>>;

/** What the configuration is made of: the settings of the quick start, and what files they name. */
export interface InitAnswers {
  readonly env: Environment;
  /** Secrets that were typed, by the name of the file that is to hold each. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Whether a key pair is to be made. */
  readonly makesKey: boolean;
}

interface Place {
  readonly cwd: string;
  readonly environment: Environment;
  /** Of the configuration. */
  readonly file: string;
}

const SCHEDULE = '0 2 * * *';
const KEEP_DAYS = '7';
const STORAGE = 'file:./backups';
const FORMAT = 'directory';

/** The settings of the environment as they are; what the flags say takes the place of what it says. */
export function answersOfEnvironment(options: Options, { environment }: Place): InitAnswers {
  const flags = flagSettings(options);
  const said = Object.keys(flags).map((name) => name.replace(/_FILE$/, ''));
  const rest = Object.entries(environment).filter(([name]) => !said.includes(name.replace(/_FILE$/, '')));
  return {
    env: { ...Object.fromEntries(rest), ...flags },
    secrets: new Map(),
    makesKey: options['encrypt'] === true,
  };
}

/**
 * The settings that flags say; what they leave open is asked, or is as it is usual. Errors: `usage` where something is missing
 * and nobody is there to ask, which names all of it; `interrupted`.
 */
export async function answersOfFlags(
  options: Options,
  place: Place,
  questions: Questions | undefined,
): Promise<InitAnswers> {
  const flags = flagSettings(options);
  if (questions !== undefined) return ask(flags, options, place, questions);
  const missing = [
    ...(flags['DATABASE_URL_FILE'] === undefined ? ['--database-url-file FILE'] : []),
    ...(flags['BACKUP_STORAGE'] === undefined ? ['--storage URL'] : []),
  ];
  if (missing.length > 0) {
    throw new PgarkError('usage', `init needs ${missing.join(' and ')}, and there is no terminal to ask at`, {
      hint: 'give them, or --from-env to write down what the environment says',
    });
  }
  return {
    env: { ...standards(flags['BACKUP_STORAGE'] ?? '', place), ...flags },
    secrets: new Map(),
    makesKey: options['encrypt'] === true,
  };
}

/** What is usual, and the keys and the endpoint of a storage, which have no flags: secrets are not for command lines. */
function standards(storage: string, { environment }: Place): Settings {
  const names = environmentNames.filter(({ section, name }) => section === 'Storage' && name !== 'BACKUP_STORAGE');
  const said = names
    .flatMap(({ name }) => [name, `${name}_FILE`])
    .flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]] as const]));
  return {
    BACKUP_SCHEDULE: SCHEDULE,
    BACKUP_FORMAT: FORMAT,
    BACKUP_GLOBALS: 'auto',
    BACKUP_RETENTION_DAYS: KEEP_DAYS,
    ...(parseTarget(storage)?.type === 'file' ? {} : Object.fromEntries(said)),
  };
}

/** Error: `usage` for what may be a secret. */
function flagSettings(options: Options): Settings {
  const recipient = text(options['encrypt']);
  if (recipient !== undefined && !recipient.startsWith('age1')) {
    throw new PgarkError('usage', '--encrypt takes the public key of an age key pair (age1…), or nothing', {
      hint: 'secrets are not for command lines: set BACKUP_ENCRYPTION_KEY_FILE, and use --from-env',
    });
  }
  const named = {
    DATABASE_URL_FILE: text(options['databaseUrlFile']),
    BACKUP_STORAGE: text(options['storage']),
    BACKUP_SCHEDULE: text(options['schedule']),
    BACKUP_FORMAT: text(options['format']),
    BACKUP_RETENTION_DAYS: text(options['keep']),
    BACKUP_NAME: text(options['name']),
    BACKUP_ENCRYPTION: recipient && 'age',
    BACKUP_ENCRYPTION_KEY: recipient,
  };
  return Object.fromEntries(
    Object.entries(named).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const])),
  );
}

async function ask(flags: Settings, options: Options, place: Place, questions: Questions): Promise<InitAnswers> {
  const secrets = new Map<string, string>();
  const env: Record<string, string> = { ...flags };
  const keep = (variable: string, ending: string, secret: string): void => {
    const path = besides(place, ending);
    secrets.set(path, secret);
    env[`${variable}_FILE`] = relative(place.cwd, path);
  };
  if (env['DATABASE_URL_FILE'] === undefined) {
    const url = await questions.ask('Database, postgres://user:password@host/database (not shown)', {
      hidden: true,
      complaint: complaintOfUrl,
    });
    if (isOpen(url)) env['DATABASE_URL'] = url;
    else keep('DATABASE_URL', 'database-url', url);
  }
  env['BACKUP_STORAGE'] ??= await questions.ask('Storage, file:DIR, s3://bucket/prefix or rclone:remote:path', {
    standard: STORAGE,
    complaint: (answer) => (parseTarget(answer) === undefined ? 'that names no kind of storage' : undefined),
  });
  Object.assign(env, { ...standards(env['BACKUP_STORAGE'], place), ...env });
  if (parseTarget(env['BACKUP_STORAGE'])?.type === 's3' && !saysKeys(env)) await askKeys(env, keep, questions);
  if (flags['BACKUP_SCHEDULE'] === undefined) {
    env['BACKUP_SCHEDULE'] = await questions.ask('Schedule, cron in UTC or an interval such as 6h', {
      standard: SCHEDULE,
      complaint: (answer) => {
        const schedule = parseSchedule(answer);
        return typeof schedule === 'string' ? schedule : undefined;
      },
    });
  }
  if (flags['BACKUP_RETENTION_DAYS'] === undefined) {
    env['BACKUP_RETENTION_DAYS'] = await questions.ask('Days that backups are kept, or forever', {
      standard: KEEP_DAYS,
      complaint: (answer) => (/^([1-9]\d{0,4}|forever)$/.test(answer) ? undefined : 'a number of days, or forever'),
    });
  }
  const isDecided = options['encrypt'] !== undefined;
  const answer = isDecided
    ? ''
    : await questions.ask('Encrypt with a new age key (yes or no)', {
        standard: 'yes',
        complaint: (given) => (/^(y|yes|n|no)$/i.test(given) ? undefined : 'yes or no'),
      });
  return { env, secrets, makesKey: isDecided ? options['encrypt'] === true : /^y/i.test(answer) };
}

async function askKeys(
  env: Record<string, string>,
  keep: (variable: string, ending: string, secret: string) => void,
  questions: Questions,
): Promise<void> {
  const endpoint = await questions.ask('Endpoint of the store (empty: AWS)');
  if (endpoint !== '') env['S3_ENDPOINT'] = endpoint;
  const id = await questions.ask('Access key id (empty: as the AWS tools find it)');
  if (id === '') return;
  const complaint = (answer: string): string | undefined => (answer === '' ? 'it is needed beside the id' : undefined);
  const secret = await questions.ask('Secret access key (not shown)', { hidden: true, complaint });
  keep('S3_ACCESS_KEY_ID', 's3-access-key-id', id);
  keep('S3_SECRET_ACCESS_KEY', 's3-secret-access-key', secret);
}

function saysKeys(env: Environment): boolean {
  return Object.keys(env).some((name) => /ACCESS_KEY(_ID)?(_FILE)?$/.test(name));
}

/** Whether it may be seen: it has no password, nor parameters among which one may be. */
function isOpen(url: string): boolean {
  return !url.includes('?') && parseConnectionString(url).password === undefined;
}

function complaintOfUrl(answer: string): string | undefined {
  let parts: ConnectionParts;
  try {
    parts = parseConnectionString(answer);
  } catch (error) {
    if (!(error instanceof ConnectionStringError)) throw error;
    return `that is no connection URL: ${error.message}`;
  }
  const missing = (['host', 'user', 'database'] as const).filter((part) => parts[part] === undefined);
  return missing.length === 0 ? undefined : `it names no ${missing.join(' and no ')}`;
}

/** `/etc/pgark/pgark.database-url` beside `/etc/pgark/pgark.yaml`. */
export function besides({ cwd, file }: Pick<Place, 'cwd' | 'file'>, ending: string): string {
  const path = resolve(cwd, file);
  return join(path, '..', `${basename(path).replace(/\.ya?ml$/, '')}.${ending}`);
}
