/** One environment variable that pgark reads; `NAME_FILE` is read for each of them too. */
export interface EnvironmentName {
  readonly name: string;
  readonly section: 'Database' | 'Storage' | 'Backup' | 'Encryption' | 'Notification' | 'Process';
  readonly meaning: string;
  readonly standard?: string;
}

const names = (
  section: EnvironmentName['section'],
  rows: readonly (readonly [name: string, meaning: string, standard?: string])[],
): readonly EnvironmentName[] =>
  rows.map(([name, meaning, standard]) => ({ section, name, meaning, ...(standard !== undefined && { standard }) }));

/** All names, in the order of the documentation, whose table is made from this. */
export const environmentNames: readonly EnvironmentName[] = [
  ...names('Database', [
    ['DATABASE_URL', 'Connection URL; preferred over the other groups.'],
    ['POSTGRES_CONNECTION_STRING', 'The same under another name.'],
    ['POSTGRES_HOST', 'Host of the server.'],
    ['POSTGRES_PORT', 'Port.', '5432'],
    ['POSTGRES_USER', 'Role.'],
    ['POSTGRES_PASSWORD', 'Password.'],
    ['POSTGRES_DB', 'Database.'],
    ['PGHOST', 'Host of the server, or directory of its socket.'],
    ['PGPORT', 'Port.', '5432'],
    ['PGUSER', 'Role.'],
    ['PGPASSWORD', 'Password.'],
    ['PG_PASSWORD', 'The same as PGPASSWORD.'],
    ['PGDATABASE', 'Database.'],
    ['PGSSLMODE', 'disable, allow, prefer, require, verify-ca or verify-full.', 'prefer'],
    ['PGSSLROOTCERT', 'Certificates of the authority that signed the server’s.'],
    ['PGSSLCERT', 'Client certificate.'],
    ['PGSSLKEY', 'Key of the client certificate.'],
    ['PGPASSFILE', 'Password file in libpq’s format.', '~/.pgpass'],
  ]),
  ...names('Storage', [
    ['BACKUP_STORAGE', 'file:///dir, file:./dir, s3://bucket/prefix or rclone:remote:path.', 'file:./backups'],
    ['S3_BUCKET', 'Bucket.'],
    ['S3_ENDPOINT', 'URL of the store; https where no scheme is given. Serves S3_URL=s3://… too.', 'AWS'],
    ['S3_REGION', 'Region. Serves S3_URL too.', 'us-east-1'],
    ['S3_ACCESS_KEY_ID', 'Access key.', 'the AWS chain'],
    ['S3_SECRET_ACCESS_KEY', 'Secret key.', 'the AWS chain'],
    ['S3_URL', 'Endpoint, endpoint/bucket, or s3://bucket/prefix.'],
    ['S3_PATH', 'bucket/prefix; below a bucket that S3_URL names, the prefix.'],
    ['S3_ACCESS_KEY', 'Access key that goes with S3_URL.', 'the AWS chain'],
    ['S3_SECRET_KEY', 'Secret key that goes with S3_URL.', 'the AWS chain'],
    ['RCLONE_S3_PROVIDER', 'Provider by rclone’s name; the native S3 adapter is used.'],
    ['RCLONE_S3_BUCKET', 'bucket, or bucket/prefix.'],
    ['RCLONE_S3_ENDPOINT', 'URL of the store.', 'AWS'],
    ['RCLONE_S3_REGION', 'Region.', 'us-east-1'],
    ['RCLONE_S3_ACCESS_KEY_ID', 'Access key.', 'the AWS chain'],
    ['RCLONE_S3_SECRET_ACCESS_KEY', 'Secret key.', 'the AWS chain'],
    ['BUCKET_NAME', 'Bucket that goes with the AWS names.'],
    ['AWS_ACCESS_KEY_ID', 'Access key, part of the AWS chain.'],
    ['AWS_SECRET_ACCESS_KEY', 'Secret key, part of the AWS chain.'],
    ['AWS_SESSION_TOKEN', 'Token of temporary keys, part of the AWS chain.'],
    ['AWS_REGION', 'Region, where the AWS chain gives the keys.', 'us-east-1'],
    ['AWS_DEFAULT_REGION', 'The same, if AWS_REGION is not set.'],
    ['AWS_ENDPOINT_URL_S3', 'URL of the store, where the AWS chain gives the keys.'],
    ['AWS_ENDPOINT_URL', 'The same, if AWS_ENDPOINT_URL_S3 is not set.'],
    ['RCLONE_CONFIG', 'Path of rclone.conf, for rclone: storages.', 'rclone’s own'],
    ['BACKUP_PREFIX', 'Folder of the backups.', 'postgres-backups with S3_BUCKET or BUCKET_NAME, otherwise none'],
  ]),
  ...names('Backup', [
    ['BACKUP_SCHEDULE', 'Cron expression of five fields, @daily and its like, or an interval.', '0 0 * * *'],
    ['BACKUP_INTERVAL', 'Seconds, a duration such as 6h, or a cron expression.'],
    ['BACKUP_FORMAT', 'plain, directory or physical.', 'plain'],
    ['BACKUP_FILENAME', 'Template of a plain backup’s name.', '{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz'],
    [
      'BACKUP_NAME',
      'Name of the source in pgark; each server that shares a storage needs its own.',
      'the database’s name',
    ],
    [
      'BACKUP_GLOBALS',
      'auto, no-passwords or none: the server’s roles and tablespaces, stored beside the backups.',
      'none',
    ],
    ['BACKUP_COMPRESSION', 'gzip, zstd or none.', 'gzip for plain, otherwise zstd'],
    ['COMPRESSION_LEVEL', 'gzip 1–9, zstd 1–19.', '5 (gzip), 2 (zstd)'],
    ['BACKUP_JOBS', 'Connections that dump at once (directory only).', 'by the number of cores'],
    ['BACKUP_RETENTION_DAYS', 'Days that backups are kept, never fewer than 3 of them; or forever.', '7'],
    ['BACKUP_LEASE_TERM', 'A run that is not heard of for this long counts as dead; at least 2s.', '60s'],
    ['RETRY_ATTEMPTS', 'Retries after the first try.', '3'],
    ['RETRY_DELAY', 'Wait before the first retry, in seconds or as a duration; doubles each time.', '5'],
  ]),
  ...names('Encryption', [
    [
      'BACKUP_ENCRYPTION',
      'none, age, openssl (or aes-256-cbc); true lets the key decide.',
      'none, or true where there is a key',
    ],
    [
      'BACKUP_ENCRYPTION_KEY',
      'Public keys of age, an age identity (AGE-SECRET-KEY-…), or a passphrase (32 characters or more for openssl).',
    ],
  ]),
  ...names('Notification', [
    ['WEBHOOK_URL', 'Receives a JSON body; Slack’s and Discord’s addresses get theirs.'],
    ['WEBHOOK_ON_SUCCESS', 'Tell of successes.', 'false'],
    ['WEBHOOK_ON_FAILURE', 'Tell of failures, overdue backups and recoveries.', 'true'],
  ]),
  ...names('Process', [
    ['PGARK_CONFIG', 'Path of the configuration file; with one, only this section’s names count.'],
    ['PGARK_LISTEN', 'host:port of health and metrics.', '127.0.0.1:8080'],
    ['PGARK_STOP_GRACE', 'How long running jobs may go on after SIGTERM; seconds or a duration.', '5s'],
    [
      'PGARK_CLIENT_DIR',
      'Folder of pg_dump, psql and pg_restore; only this one is looked at.',
      'packages’ folders and PATH',
    ],
    ['LOG_LEVEL', 'debug, info, warning, error or success.', 'info'],
    ['LOG_FORMAT', 'auto, json or text; auto is json for daemon, once and wal receive off a terminal.', 'auto'],
    ['DEBUG', 'true is LOG_LEVEL=debug.', 'false'],
    ['TZ', 'Time zone of the schedule.', 'UTC'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'Receiver of traces by OTLP over HTTP; /v1/traces is appended.', 'none are sent'],
    ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'The same as a whole URL; preferred.'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'Headers for it: name=value,name=value, percent-encoded.'],
    ['OTEL_SERVICE_NAME', 'Name of the service in traces.', 'pgark'],
    ['OTEL_SDK_DISABLED', 'true sends no traces.', 'false'],
  ]),
];
