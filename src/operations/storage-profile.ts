import { formatBytes, formatDuration } from '../common/bytes.ts';
import type { BucketProtection, ProviderProfile } from '../storage/object-store.ts';

/** One thing that was found out of a storage. */
export interface StorageTrait {
  readonly name: string;
  /** In a word or two. */
  readonly value: string;
  readonly state: 'ok' | 'note';
  /** What it means for pgark: always of a note. */
  readonly meaning?: string;
}

/** A clock that is further off may make leases of other machines look over, or signatures wrong. */
const SKEW_MS_MAX = 60_000;
/** What Amazon S3 takes. */
const PARTS_USUAL = 10_000;

/** What conditional writes mean. */
export function describeConditionalWrites({ conditionalWrites }: ProviderProfile): StorageTrait & { meaning: string } {
  const name = 'conditional writes';
  return conditionalWrites
    ? { name, value: 'yes', state: 'ok', meaning: 'work: leases keep runs on different hosts apart' }
    : {
        name,
        value: 'no',
        state: 'note',
        meaning: 'do not work here: only the lock on the database server keeps runs apart, and only one host may prune',
      };
}

export function describeClock({ clockSkewMs }: ProviderProfile): StorageTrait {
  const name = 'clock';
  const off = Math.abs(clockSkewMs);
  if (off <= SKEW_MS_MAX) return { name, value: off < 1_000 ? 'right' : `off by ${formatDuration(off)}`, state: 'ok' };
  return {
    name,
    value: `off by ${formatDuration(off)}`,
    state: 'note',
    meaning: `this machine's clock is ${Math.round(-clockSkewMs / 1_000)} s away from the store's`,
  };
}

/** What is locked stays, also what was only to try it. */
const LOCKING: StorageTrait = {
  name: 'locking',
  value: 'not tried',
  state: 'ok',
  meaning: 'the key needs s3:PutObjectRetention for object_lock, which the first backup shows',
};

/** All that a profile tells of a storage, in the order that people read it. */
export function describeProfile(profile: ProviderProfile): readonly StorageTrait[] {
  return [
    describeConditionalWrites(profile),
    describeChecksum(profile),
    ...describeParts(profile),
    ...(profile.protection === undefined ? [] : describeProtection(profile.protection)),
    ...(profile.lock === undefined ? [] : [LOCKING]),
    describeClock(profile),
  ];
}

function describeChecksum({ partChecksum }: ProviderProfile): StorageTrait {
  const name = 'checksums';
  if (partChecksum !== 'length') return { name, value: partChecksum, state: 'ok' };
  return {
    name,
    value: 'none',
    state: 'note',
    meaning:
      'the store confirms the length of what it took, and no digest of it: let backups be read back (--verify-after full), which finds what was damaged on its way',
  };
}

/** Nothing where the store has no parts that anybody has to reckon with. */
function describeParts({ partCountMax, partBytesMin, equalParts }: ProviderProfile): readonly StorageTrait[] {
  if (partCountMax >= Number.MAX_SAFE_INTEGER || partCountMax <= 1) return [];
  const isLow = partCountMax < PARTS_USUAL;
  return [
    {
      name: 'parts of an upload',
      value: `at most ${partCountMax}`,
      state: isLow ? 'note' : 'ok',
      ...(isLow && {
        meaning: 'a large object needs large parts, and with them memory; if one runs out of parts, set part_size',
      }),
    },
    {
      name: 'size of parts',
      value: `${equalParts ? 'all the same, ' : ''}at least ${formatBytes(partBytesMin)}`,
      state: equalParts ? 'note' : 'ok',
      ...(equalParts && {
        meaning:
          'parts cannot grow while an upload goes on: if an object far outgrows the estimate of its size, set part_size',
      }),
    },
  ];
}

function describeProtection({ versioning, objectLock, defaultLock }: BucketProtection): readonly StorageTrait[] {
  const traits: StorageTrait[] = [
    {
      name: 'versions',
      value: versioning ?? 'unknown',
      state: versioning === 'on' ? 'note' : 'ok',
      ...(versioning === 'on' && {
        meaning:
          'what retention deletes stays as an earlier version and takes room until a lifecycle rule of the bucket removes it',
      }),
      ...(versioning === undefined && { meaning: 'the store does not say, or this key may not ask' }),
    },
    {
      name: 'Object Lock',
      value: objectLock ?? 'unknown',
      state: 'ok',
      ...(objectLock === undefined && { meaning: 'the store does not say, or this key may not ask' }),
    },
  ];
  if (defaultLock === undefined) return traits;
  const { mode, days } = defaultLock;
  return [
    ...traits,
    {
      name: 'default lock',
      value: `${mode}, ${days} days`,
      state: 'note',
      meaning:
        'the bucket locks every object, those too that pgark writes over and over, such as leases: each of their versions stays for that long',
    },
  ];
}
