import { z } from 'zod';
import { sslModes } from './connection.ts';
import {
  drillSection,
  expectSection,
  hooksSection,
  notificationSection,
  retrySection,
  serverSection,
  tracesSection,
  verifySection,
  walSection,
} from './schema-daemon.ts';
import {
  durationMs,
  flag,
  integer,
  rateBytesPerSecond,
  schedule,
  secretKeys,
  sizeBytes,
  strict,
  text,
  texts,
} from './schema-parts.ts';

/** The version of the configuration file that this pgark reads. */
export const CONFIG_VERSION = 1;

export const s3Providers = [
  'aws',
  'minio',
  'cloudflare',
  'backblaze',
  'digitalocean',
  'wasabi',
  'ceph',
  'garage',
  'scaleway',
  'google',
] as const;

const LEASE_TERM_MS_MIN = 2_000;
const PART_BYTES_MIN = 8 * 2 ** 20;
const PART_BYTES_MAX = 5 * 2 ** 30;

const everyStorage = {
  max_size: sizeBytes
    .optional()
    .describe(
      'Warn after a backup if all of pgark’s own there is more than this. Nothing is refused or deleted for it.',
    ),
  retry: retrySection.optional().describe('Overrides defaults.retry.'),
};

const storageSection = z.discriminatedUnion('type', [
  strict({
    type: z.literal('file'),
    path: text.describe('Directory of the backups, relative to the configuration file.'),
    ...everyStorage,
  }),
  strict({
    type: z.literal('s3'),
    bucket: text.describe('Bucket; it must exist.'),
    prefix: z.string().optional().describe('Folder in the bucket. Default: none.'),
    endpoint: text.optional().describe('URL of the store; https where no scheme is given. Default: AWS.'),
    region: text.optional().describe('Default: us-east-1.'),
    provider: z.enum(s3Providers).optional().describe('Default: told by the endpoint.'),
    ...secretKeys('access_key_id', 'Access key.'),
    ...secretKeys('secret_access_key', 'Secret key.'),
    ...secretKeys('session_token', 'Session token of temporary keys.'),
    credentials: z
      .literal('default-chain')
      .optional()
      .describe('Find credentials as the AWS tools do: variables, profile, web identity, instance role.'),
    force_path_style: flag
      .optional()
      .describe('Bucket in the path, not in the host name. Default: true with an endpoint.'),
    ca_file: text.optional().describe('Certificates of the authority that signed the endpoint’s certificate.'),
    part_size: sizeBytes
      .refine((bytes) => bytes >= PART_BYTES_MIN && bytes <= PART_BYTES_MAX, 'must be from 8MiB to 5GiB')
      .optional()
      .describe('Size of uploaded parts. Default: by the estimated size, at least 8MiB.'),
    object_lock: strict({
      mode: z.enum(['governance', 'compliance']),
      days: integer(1, 36_500).describe('Days that an object cannot be deleted.'),
    }).optional(),
    ...everyStorage,
  }),
  strict({
    type: z.literal('rclone'),
    remote: text.describe('Remote and path: gdrive:backups/pg.'),
    config_file: text.optional().describe('rclone.conf, relative to the configuration file. Default: rclone’s own.'),
    ...everyStorage,
  }),
]);

const encryptionSection = z.discriminatedUnion('type', [
  strict({
    type: z.literal('age'),
    recipients: texts.min(1).optional().describe('Public keys (age1…) that can open the backups.'),
    recipients_file: text.optional().describe('File with one public key a line.'),
    ...secretKeys(
      'identity',
      'Secret key (AGE-SECRET-KEY-1…) for restores; its recipient is used where none is given.',
    ),
    ...secretKeys('passphrase', 'Passphrase instead of keys.'),
  }),
  strict({
    type: z.literal('openssl'),
    ...secretKeys('passphrase', 'Passphrase of at least 32 characters.'),
  }),
]);

const count = integer(1, 1_000_000).optional();
const retentionSection = strict({
  keep: strict({
    last: count.describe('The newest backups.'),
    within: durationMs.optional().describe('Everything younger than this.'),
    hourly: count.describe('The last backup of each of so many hours.'),
    daily: count.describe('… of so many days.'),
    weekly: count.describe('… of so many weeks.'),
    monthly: count.describe('… of so many months.'),
    yearly: count.describe('… of so many years.'),
  }).refine((keep) => Object.values(keep).some((rule) => rule !== undefined), 'needs at least one rule'),
  min_backups: integer(1, 1_000_000).optional().describe('Never keep fewer than this of a server. Default: 3.'),
  keep_proven: integer(1, 1_000)
    .optional()
    .describe('Never delete the newest so many of a server that a drill has restored. Default: 1.'),
  max_total_size: sizeBytes.optional().describe('Delete the oldest beyond this size, down to min_backups.'),
});

const algorithms = ['gzip', 'zstd', 'none'] as const;
const compressionSection = z.union(
  [
    z.enum(algorithms),
    strict({
      algorithm: z.enum(algorithms).describe('gzip, zstd or none.'),
      level: integer(1, 19, 'must be a whole number: from 1 to 9 for gzip, from 1 to 19 for zstd')
        .optional()
        .describe('gzip 1–9 (5), zstd 1–19 (2).'),
    }),
  ],
  { error: () => `must be ${algorithms.join(', ')}, or { algorithm, level }` },
);

const jobSection = strict({
  format: z
    .enum(['plain', 'directory', 'physical'])
    .optional()
    .describe(
      'plain: one SQL file; directory: parallel archive; physical: the whole server. Default: directory, or plain where there is a filename.',
    ),
  incremental: flag
    .optional()
    .describe(
      'Store what changed since the last physical backup (physical only, PostgreSQL 17 or newer). Default: false.',
    ),
  full_every: integer(1, 1_000)
    .optional()
    .describe(
      'Of an incremental job: a full backup after so many, itself included, that build on each other. Default: 30.',
    ),
  schedule: schedule.optional().describe('Cron expression, @daily, or an interval such as 6h. Default: only by hand.'),
  jitter: durationMs.optional().describe('Start up to this much later, by chance. Default: 0s.'),
  to: texts.min(1).optional().describe('Names of storages. Default: the only one.'),
  retention: text.optional().describe('Name of a retention. Default: keep everything.'),
  encryption: text.optional().describe('Name of an encryption; "none" for none. Default: the database’s.'),
  compression: compressionSection
    .optional()
    .describe('Default: defaults.compression, else gzip for plain, zstd otherwise.'),
  filename: text.optional().describe('Template of the object’s name (plain only).'),
  parallel: integer(1, 64)
    .optional()
    .describe('Connections that dump at once (directory only). Default: one for each processor, at most 8.'),
  checkpoint: z
    .enum(['fast', 'spread'])
    .optional()
    .describe('Checkpoint before the backup: at once, or at the server’s own pace (physical only). Default: fast.'),
  max_rate: rateBytesPerSecond
    .optional()
    .describe('Limit of what the server sends, 32KiB/s to 1GiB/s (physical only). Default: none.'),
  exclude_table_data: texts.optional().describe('Tables whose rows are left out: "audit.*".'),
});

const databaseSection = strict({
  ...secretKeys('url', 'postgres://user:password@host:port/database?sslmode=verify-full'),
  host: text.optional().describe('Fills what the URL leaves unsaid, as do the next ones.'),
  port: integer(1, 65_535).optional().describe('Default: 5432.'),
  user: text.optional().describe('Role.'),
  ...secretKeys('password', 'Password.'),
  database: text.optional().describe('Database to connect to.'),
  sslmode: z.enum(sslModes).optional().describe('Default: prefer.'),
  sslrootcert: text.optional().describe('Certificates of the authority; or "system".'),
  sslcert: text.optional().describe('Client certificate.'),
  sslkey: text.optional().describe('Key of the client certificate.'),
  passfile: text.optional().describe('Password file in libpq’s format.'),
  databases: texts
    .min(1)
    .optional()
    .describe('Databases of the server: "*", "shop_*", "!template*". Default: the URL’s.'),
  globals: z
    .enum(['auto', 'no-passwords', 'none'])
    .optional()
    .describe('Roles and tablespaces; auto: with passwords where the role may read them. Default: auto.'),
  protection: z
    .enum(['normal', 'production'])
    .optional()
    .describe('production: restore --clean of it needs --yes NAME too, as --in-place always does. Default: normal.'),
  encryption: text.optional().describe('Name of an encryption. Default: none.'),
  notify: texts.optional().describe('Names of notifications. Default: defaults.notify.'),
  jobs: z.record(text, jobSection).optional().describe('Backups by name.'),
  wal: walSection.optional().describe('Continuous archiving over a replication slot.'),
  verify: verifySection.optional().describe('Regular verification of stored backups.'),
  drill: drillSection.optional().describe('Regular test restores.'),
  hooks: hooksSection.optional().describe('Programs to run around backups and restores.'),
  expect: expectSection.optional().describe('What is normal; anything else raises an alarm.'),
});

const defaultsSection = strict({
  notify: texts.optional().describe('Names of notifications for every database.'),
  retry: retrySection.optional().describe('Retries of storage requests, and of scheduled runs that failed.'),
  compression: compressionSection.optional().describe('For every job.'),
  bandwidth: rateBytesPerSecond
    .optional()
    .describe('Limit of what all runs of a process together send to storages and get from them. Default: none.'),
  concurrency: integer(1, 64).optional().describe('Jobs that may run at once. Default: 2.'),
  lease_term: durationMs
    .refine((ms) => ms >= LEASE_TERM_MS_MIN, 'must be at least 2s')
    .optional()
    .describe('A run that is not heard of for this long counts as dead. Default: 60s.'),
});

/** The configuration file. `pgark.yaml` and the environment names both become this before they become a `Config`. */
export const configSchema = strict({
  version: z
    .literal(CONFIG_VERSION, { error: () => `must be ${CONFIG_VERSION}: this pgark reads no other version` })
    .describe('Version of this file’s format.'),
  timezone: text
    .refine(isTimezone, 'is no IANA time zone such as Europe/Berlin')
    .optional()
    .describe('Time zone of the schedules. Default: UTC.'),
  server: serverSection.optional().describe('Health and metrics.'),
  log: strict({
    level: z.enum(['debug', 'info', 'warning', 'error', 'success']).optional().describe('Default: info.'),
    format: z
      .enum(['auto', 'json', 'text'])
      .optional()
      .describe('auto: json for daemon, once and wal receive where stderr is no terminal, else text.'),
  }).optional(),
  traces: tracesSection.optional().describe('Spans of OpenTelemetry for every run. Default: none.'),
  storages: z.record(text, storageSection).describe('Where backups go, by name.'),
  encryption: z.record(text, encryptionSection).optional().describe('Keys, by name.'),
  retention: z.record(text, retentionSection).optional().describe('Rules for what is kept, by name.'),
  notifications: z.record(text, notificationSection).optional().describe('Who is told, by name.'),
  defaults: defaultsSection.optional().describe('For all databases and storages.'),
  databases: z.record(text, databaseSection).describe('What is backed up, by name.'),
});

function isTimezone(name: string): boolean {
  if (name === 'UTC') return true;
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

/** The file after it was checked: units read, names not yet resolved. */
export type Sections = z.output<typeof configSchema>;
export type StorageSection = Sections['storages'][string];
export type EncryptionSection = NonNullable<Sections['encryption']>[string];
export type DatabaseSection = Sections['databases'][string];
export type JobSection = NonNullable<DatabaseSection['jobs']>[string];
export type NotificationSection = NonNullable<Sections['notifications']>[string];
export type CompressionSection = z.output<typeof compressionSection>;
export type RetrySection = z.output<typeof retrySection>;
