import type { Environment } from './environment-reader.ts';

/** A variable of another backup tool that is set, and what becomes of it here. */
export interface ForeignVariable {
  readonly name: string;
  /** Who knows it. */
  readonly tools: string;
  /** pgark's own variable for it; undefined where there is none. */
  readonly own: string | undefined;
  /** Whether the own one is set. */
  readonly ownIsSet: boolean;
  /** What else there is to say: a difference, or what takes its place. */
  readonly remark: string | undefined;
}

interface Row {
  readonly tools: string;
  readonly own?: string;
  readonly remark?: string;
}

const row = (tools: string, own?: string, remark?: string): Row => ({
  tools,
  ...(own !== undefined && { own }),
  ...(remark !== undefined && { remark }),
});

const ONCE = 'pgark backup makes one backup and ends';
const IN_FILE = 'a configuration file says it (docs/configuration.md)';
const S3 = 'postgres-backup-s3';
const LOCAL = 'postgres-backup-local';
const RAILWAY = 'Railway’s template';
const KARTOZA = 'kartoza/pg-backup';
const OFFEN = 'docker-volume-backup';
const KEY = 'BACKUP_ENCRYPTION_KEY';
const NO_GPG = 'age or openssl encrypts; what gpg encrypted is decrypted by gpg';

/** Names that pgark does not read. Those that it does read mean the same there, and need no row. */
const FOREIGN: Readonly<Record<string, Row>> = {
  SCHEDULE: row(`${S3}, ${LOCAL}`, 'BACKUP_SCHEDULE', 'cron without a field for seconds'),
  BACKUP_KEEP_DAYS: row(`${S3}, ${LOCAL}`, 'BACKUP_RETENTION_DAYS'),
  PASSPHRASE: row(S3, KEY, NO_GPG),
  S3_PREFIX: row(S3, 'BACKUP_PREFIX'),
  S3_S3V4: row(S3, undefined, 'requests are always signed by version 4'),
  POSTGRES_DATABASE: row(S3, 'POSTGRES_DB'),
  PGDUMP_EXTRA_OPTS: row(
    S3,
    undefined,
    'pgark chooses the options of pg_dump; exclude_table_data is for a configuration file',
  ),
  POSTGRES_EXTRA_OPTS: row(
    LOCAL,
    undefined,
    'pgark chooses the options of pg_dump; exclude_table_data is for a configuration file',
  ),
  POSTGRES_PASSFILE_STORE: row(LOCAL, 'PGPASSFILE'),
  POSTGRES_CLUSTER: row(LOCAL, undefined, `all databases of a server: databases: ["*"], which ${IN_FILE}`),
  BACKUP_DIR: row(LOCAL, 'BACKUP_STORAGE', 'written file:///backups'),
  BACKUP_SUFFIX: row(LOCAL, 'BACKUP_FILENAME', 'the ending follows from the compression'),
  BACKUP_ON_START: row(LOCAL, undefined, ONCE),
  BACKUP_LATEST_TYPE: row(LOCAL, undefined, 'pgark restore latest needs no link'),
  BACKUP_KEEP_MINS: row(LOCAL, undefined, `retention by periods: ${IN_FILE}`),
  BACKUP_KEEP_WEEKS: row(LOCAL, undefined, `retention by periods: ${IN_FILE}`),
  BACKUP_KEEP_MONTHS: row(LOCAL, undefined, `retention by periods: ${IN_FILE}`),
  HEALTHCHECK_PORT: row(LOCAL, 'PGARK_LISTEN', 'written host:port'),
  WEBHOOK_ERROR_URL: row(LOCAL, 'WEBHOOK_URL', 'which tells of failures by itself'),
  WEBHOOK_PRE_BACKUP_URL: row(LOCAL, undefined, `events and their receivers: ${IN_FILE}`),
  WEBHOOK_POST_BACKUP_URL: row(LOCAL, 'WEBHOOK_URL', 'with WEBHOOK_ON_SUCCESS=true'),
  WEBHOOK_EXTRA_ARGS: row(LOCAL, undefined, 'no curl is involved'),
  PGSERVICE: row('libpq', undefined, 'services are not looked up; say DATABASE_URL, or PGHOST, PGUSER and PGDATABASE'),
  BACKUP_DATABASE_URL: row(RAILWAY, 'DATABASE_URL'),
  BACKUP_CRON_SCHEDULE: row(RAILWAY, 'BACKUP_SCHEDULE'),
  AWS_S3_BUCKET: row(RAILWAY, 'S3_BUCKET'),
  AWS_S3_REGION: row(RAILWAY, 'S3_REGION'),
  AWS_S3_ENDPOINT: row(RAILWAY, 'S3_ENDPOINT'),
  AWS_S3_FORCE_PATH_STYLE: row(RAILWAY, undefined, 'with an endpoint, path style is the default'),
  RUN_ON_STARTUP: row(RAILWAY, undefined, ONCE),
  SINGLE_SHOT_MODE: row(RAILWAY, undefined, ONCE),
  BACKUP_FILE_PREFIX: row(RAILWAY, 'BACKUP_FILENAME', 'a template such as backup-{YYYY-MM-DDTHH-MM-SS}'),
  BUCKET_SUBFOLDER: row(RAILWAY, 'BACKUP_PREFIX'),
  BACKUP_OPTIONS: row(
    RAILWAY,
    undefined,
    'pgark chooses the options of pg_dump; exclude_table_data is for a configuration file',
  ),
  SUPPORT_OBJECT_LOCK: row(RAILWAY, undefined, 'checksums are sent wherever the store wants them'),
  POSTGRES_PASS: row(KARTOZA, 'POSTGRES_PASSWORD'),
  DBLIST: row(KARTOZA, 'POSTGRES_DB', `one name; several databases: ${IN_FILE}`),
  CRON_SCHEDULE: row(KARTOZA, 'BACKUP_SCHEDULE'),
  REMOVE_BEFORE: row(KARTOZA, 'BACKUP_RETENTION_DAYS'),
  MIN_SAVED_FILE: row(KARTOZA, undefined, `3 backups are always kept; another number: ${IN_FILE}`),
  DUMP_ARGS: row(
    KARTOZA,
    undefined,
    'pgark chooses the options of pg_dump; exclude_table_data is for a configuration file',
  ),
  DUMPPREFIX: row(KARTOZA, 'BACKUP_FILENAME', 'a template such as PG_{database}_{YYYY-MM-DDTHH-MM-SS}'),
  ARCHIVE_FILENAME: row(KARTOZA, 'BACKUP_FILENAME', 'a template with a time: no backup replaces another'),
  STORAGE_BACKEND: row(KARTOZA, 'BACKUP_STORAGE', 'file:///dir or s3://bucket/prefix'),
  RUN_ONCE: row(KARTOZA, undefined, ONCE),
  TARGET_DB: row(KARTOZA, undefined, 'pgark restore … --to-db NAME'),
  TARGET_ARCHIVE: row(KARTOZA, undefined, 'pgark restore FILE'),
  BACKUP_CRON_EXPRESSION: row(OFFEN, 'BACKUP_SCHEDULE'),
  BACKUP_PRUNING_PREFIX: row(OFFEN, undefined, 'pgark deletes nothing but backups that it has a record of'),
  AWS_S3_BUCKET_NAME: row(OFFEN, 'S3_BUCKET'),
  AWS_S3_PATH: row(OFFEN, 'BACKUP_PREFIX'),
  GPG_PASSPHRASE: row(OFFEN, KEY, NO_GPG),
  AGE_PUBLIC_KEYS: row(OFFEN, KEY),
  NOTIFICATION_URLS: row(OFFEN, 'WEBHOOK_URL', `other receivers: ${IN_FILE}`),
};

/** Whether another tool is known to read a variable of this name that pgark does not read. */
export function isForeignName(name: string): boolean {
  return Object.hasOwn(FOREIGN, name);
}

/** Names of both, whose values are written in another way there. */
const OTHER_VALUES: readonly (readonly [name: string, pattern: RegExp, tools: string, remark: string])[] = [
  ['BACKUP_FILENAME', /%[A-Za-z]/, OFFEN, 'times are written {YYYY-MM-DDTHH-MM-SS} here, not %Y'],
  ['POSTGRES_DB', /,/, LOCAL, `it is taken for one name with commas in it; several databases: ${IN_FILE}`],
];

/**
 * The variables of other tools that are set, `NAME_FILE` included, in the order of the table. Their values are looked at
 * only where the name is one of pgark's too, and never shown.
 */
export function foreignVariables(env: Environment): readonly ForeignVariable[] {
  const isSet = (name: string): boolean => (env[name] ?? '') !== '';
  const found = Object.entries(FOREIGN).flatMap(([known, { tools, own, remark }]) =>
    [known, `${known}_FILE`].filter(isSet).map((name) => ({
      name,
      tools,
      own,
      ownIsSet: own !== undefined && (isSet(own) || isSet(`${own}_FILE`)),
      remark,
    })),
  );
  const written = OTHER_VALUES.filter(([name, pattern]) => pattern.test(env[name] ?? '')).map(
    ([name, , tools, remark]) => ({ name, tools, own: name, ownIsSet: true, remark }),
  );
  return [...found, ...written];
}
