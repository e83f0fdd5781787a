import path from 'node:path';
import type { ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';

const pgark = path.resolve(import.meta.dirname, '../bin/pgark');
const KEY = 'bench';

/** One way to get a dump into the store. */
export interface Contender {
  /** As `--only` knows it. */
  readonly name: string;
  /** What a person would type. */
  readonly label: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface Place {
  readonly server: ThrowawayServer;
  readonly database: string;
  readonly endpoint: string;
}

/** A public key that nobody has the other half of; what is sealed here is thrown away. */
const AGE_RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';

/**
 * The uploader of the shell's pipelines is `curl --upload-file -`: one streaming PUT, without a signature, a checksum or
 * parts. No uploader can be cheaper, and no real store would take it; whoever has to use one that they do take (aws s3
 * cp, rclone rcat, mc pipe) is slower than what stands here.
 */
export function contenders(place: Place, bucket: string): readonly Contender[] {
  const pipelines: readonly (readonly [name: string, compressor: string])[] = [
    ['gzip', 'gzip'],
    ['pigz', 'pigz -p2'],
    ['zstd', 'zstd -3'],
  ];
  return [
    ...pipelines.map(([name, compressor]) => pipeline(place, bucket, name, compressor)),
    ownBackup(place, bucket, 'pgark-gzip', 'pgark backup', {}),
    ownBackup(place, bucket, 'pgark-zstd', 'pgark backup (zstd)', { BACKUP_COMPRESSION: 'zstd' }),
    ownBackup(place, bucket, 'pgark-zstd-age', 'pgark backup (zstd, age)', {
      BACKUP_COMPRESSION: 'zstd',
      BACKUP_ENCRYPTION: 'age',
      BACKUP_ENCRYPTION_KEY: AGE_RECIPIENT,
    }),
  ];
}

function pipeline(place: Place, bucket: string, name: string, compressor: string): Contender {
  const { server, database, endpoint } = place;
  return {
    name,
    label: `pg_dump | ${compressor} | upload`,
    program: 'bash',
    args: [
      '-c',
      `set -o pipefail; pg_dump | ${compressor} | curl --silent --show-error --fail --upload-file - "$TARGET"`,
    ],
    env: {
      PGHOST: server.host,
      PGPORT: String(server.port),
      PGUSER: server.user,
      PGPASSWORD: server.password.reveal(),
      PGDATABASE: database,
      TARGET: `${endpoint}/${bucket}/${KEY}`,
    },
  };
}

function ownBackup(
  place: Place,
  bucket: string,
  name: string,
  label: string,
  settings: Readonly<Record<string, string>>,
): Contender {
  return {
    name,
    label,
    program: pgark,
    args: ['backup'],
    env: {
      DATABASE_URL: place.server.url(place.database).reveal(),
      S3_ENDPOINT: place.endpoint,
      S3_BUCKET: bucket,
      S3_ACCESS_KEY_ID: 'bench',
      S3_SECRET_ACCESS_KEY: 'bench-secret',
      ...settings,
    },
  };
}
