import { availableParallelism } from 'node:os';
import path from 'node:path';
import { connectionOf, type Place } from './place.ts';
import type { Sink } from './stores.ts';

const pgark = path.resolve(import.meta.dirname, '../bin/pgark');
const KEY = 'bench';

/** One way to do what a suite measures. */
export interface Contender {
  /** As `--only` knows it. */
  readonly name: string;
  /** What a person would type. */
  readonly label: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Where it stores something. */
  readonly into?: { readonly sink: Sink; readonly bucket: string };
  /** Removes what a run leaves behind; it is not measured. */
  readonly tidy?: () => Promise<void>;
}

/** Connections of everybody who uses several: as pgark by itself, one for each processor. */
export const JOBS = availableParallelism();

/** A line of shell, in the database of the place. */
export function shell(
  place: Place,
  name: string,
  label: string,
  script: string,
  env: Readonly<Record<string, string>> = {},
): Contender {
  return {
    name,
    label,
    program: 'bash',
    args: ['-c', `set -euo pipefail; ${script}`],
    env: { ...connectionOf(place.server, place.database), ...env },
  };
}

/**
 * The uploader of the shell's pipelines is `curl --upload-file -`: one streaming PUT, without a signature, a checksum or
 * parts. No uploader can be cheaper, and no real store would take it; whoever has to use one that they do take (aws s3
 * cp, rclone rcat, mc pipe) is slower than what stands here.
 */
export function pipeline(place: Place, bucket: string, name: string, compressor: string): Contender {
  const into = { sink: place.sinks.near, bucket };
  const script = `pg_dump | ${compressor} | ${UPLOAD} --upload-file - "$TARGET"`;
  const target = `${into.sink.endpoint}/${bucket}/${KEY}`;
  return { ...shell(place, name, `pg_dump | ${compressor} | upload`, script, { TARGET: target }), into };
}

export const UPLOAD = 'curl --silent --show-error --fail';

export interface OwnRun {
  readonly name: string;
  readonly label: string;
  readonly args: readonly string[];
  readonly into: NonNullable<Contender['into']>;
  readonly settings?: Readonly<Record<string, string>>;
}

/** pgark itself, as it is started from a checkout. */
export function own({ server, database }: Place, { name, label, args, into, settings = {} }: OwnRun): Contender {
  return {
    name,
    label,
    program: pgark,
    args,
    env: {
      DATABASE_URL: server.url(database).reveal(),
      PGARK_CLIENT_DIR: server.binDir,
      S3_ENDPOINT: into.sink.endpoint,
      S3_BUCKET: into.bucket,
      S3_ACCESS_KEY_ID: 'bench',
      S3_SECRET_ACCESS_KEY: 'bench-secret',
      ...settings,
    },
    into,
  };
}
