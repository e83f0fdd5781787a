import { PgarkError } from '../../common/errors.ts';
import type { ProviderProfile } from '../object-store.ts';

export type RemoteHash = 'sha256' | 'md5' | 'sha1';

/** What matters here of what `rclone backend features` says of a remote. */
export interface RemoteTraits {
  /** Takes a stream whose length is not known; rclone would collect it on the local disk otherwise. */
  readonly streams: boolean;
  /**
   * How an object comes to be visible only when it is complete:
   * - `move`: written under a name of its own, then renamed by the remote.
   * - `direct`: written under its name, since object storages show nothing that is not complete.
   * - `none`: the remote can do neither.
   */
  readonly publication: 'move' | 'direct' | 'none';
  /** Keeps objects in buckets: a folder that is not there is an empty one, a bucket that is not there is an error. */
  readonly bucketBased: boolean;
  /** The remote would take the first part of each key for a bucket's name. */
  readonly bucketMissing: boolean;
  /** The hash that the remote knows of its objects; undefined if none that node:crypto knows too. */
  readonly hash: RemoteHash | undefined;
  /** Asking for hashes reads no object. */
  readonly hashIsCheap: boolean;
  /** Times closer than this may be the same, in nanoseconds. */
  readonly timeUnitNs: bigint;
}

const HASHES: readonly RemoteHash[] = ['sha256', 'md5', 'sha1'];
const SECOND_NS = 1_000_000_000n;

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads the JSON of `rclone backend features REMOTE`: https://rclone.org/commands/rclone_backend/ . */
export function parseFeatures(text: string): RemoteTraits {
  const parsed = parseJson(text);
  const features = isRecord(parsed) ? parsed['Features'] : undefined;
  if (!isRecord(parsed) || !isRecord(features)) {
    throw new PgarkError('store-unsupported', 'rclone does not say in a known form what the remote can do', {
      hint: 'install a newer rclone (1.60 or later)',
    });
  }
  const known = Array.isArray(parsed['Hashes']) ? parsed['Hashes'] : [];
  const hash = HASHES.find((name) => known.includes(name));
  const bucketBased = features['BucketBased'] === true;
  const precision =
    typeof parsed['Precision'] === 'number' ? BigInt(Math.max(1, Math.trunc(parsed['Precision']))) : SECOND_NS;
  return {
    streams: features['PutStream'] === true,
    publication: features['Move'] === true ? 'move' : bucketBased ? 'direct' : 'none',
    bucketBased,
    bucketMissing: bucketBased && features['BucketBasedRootOK'] === true && parsed['Root'] === '',
    hash,
    hashIsCheap: hash !== undefined && features['SlowHash'] !== true,
    // Lists of object storages tell milliseconds where a look at one object tells seconds.
    timeUnitNs: bucketBased && precision < SECOND_NS ? SECOND_NS : precision,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** rclone cuts and joins parts by itself; leases are advisory, since no remote of rclone's has conditional writes. */
export function profileOf({ hash }: RemoteTraits, clockSkewMs: number): ProviderProfile {
  return {
    conditionalWrites: false,
    partCountMax: Number.MAX_SAFE_INTEGER,
    partBytesMin: 1,
    equalParts: false,
    partChecksum: hash ?? 'length',
    clockSkewMs,
  };
}

/** Rejects with `store-unsupported` what cannot hold backups; reading from it is fine. */
export function assertWritable({ streams, publication }: RemoteTraits, location: string): void {
  if (!streams) {
    throw new PgarkError(
      'store-unsupported',
      `${location} takes no streams: rclone would collect each backup on the local disk first`,
      {
        hint: 'use a remote with "StreamUpload" in the table of https://rclone.org/overview/',
      },
    );
  }
  if (publication === 'none') {
    throw new PgarkError(
      'store-unsupported',
      `${location} can neither rename nor write in one step: a backup that was cut off would look like a whole one`,
      { hint: 'use a remote with "Move" in the table of https://rclone.org/overview/, or an object storage' },
    );
  }
}
