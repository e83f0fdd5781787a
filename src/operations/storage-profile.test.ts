import { describe, expect, test } from 'vitest';
import type { ProviderProfile } from '../storage/object-store.ts';
import { describeProfile } from './storage-profile.ts';

const GOOD: ProviderProfile = {
  conditionalWrites: true,
  partCountMax: 10_000,
  partBytesMin: 5 * 2 ** 20,
  equalParts: false,
  partChecksum: 'crc32',
  clockSkewMs: 0,
  protection: { versioning: 'off', objectLock: 'off' },
};

function notesOf(changes: Partial<ProviderProfile>): readonly string[] {
  return describeProfile({ ...GOOD, ...changes }).flatMap(({ name, state, meaning }) => {
    // What is told of has to say what it means.
    if (state === 'note') expect(meaning).toBeTruthy();
    return state === 'note' ? [name] : [];
  });
}

describe('what a profile means', () => {
  test('is nothing to tell of where all is good', () => {
    expect(notesOf({})).toEqual([]);
    expect(notesOf({ clockSkewMs: -60_000 })).toEqual([]);
  });

  test.each<[string, Partial<ProviderProfile>]>([
    ['conditional writes', { conditionalWrites: false }],
    ['checksums', { partChecksum: 'length' }],
    ['parts of an upload', { partCountMax: 1_000 }],
    ['size of parts', { equalParts: true }],
    ['versions', { protection: { versioning: 'on', objectLock: 'on' } }],
    ['clock', { clockSkewMs: 60_001 }],
  ])('is told of %s', (name, changes) => {
    expect(notesOf(changes)).toEqual([name]);
  });

  test('says of a storage that is set to lock that locking was not tried', () => {
    const valueOf = (profile: ProviderProfile): string | undefined =>
      describeProfile(profile).find(({ name }) => name === 'locking')?.value;
    expect(valueOf(GOOD)).toBeUndefined();
    expect(valueOf({ ...GOOD, lock: { mode: 'governance', days: 1 } })).toBe('not tried');
  });

  test('is told of a bucket that locks by itself, beside its versions', () => {
    const defaultLock = { mode: 'compliance', days: 30 } as const;
    expect(notesOf({ protection: { versioning: 'on', objectLock: 'on', defaultLock } })).toEqual([
      'versions',
      'default lock',
    ]);
  });

  test('has no words for parts where the store has none, and does not guess what it is not told', () => {
    const names = describeProfile({ ...GOOD, partCountMax: Number.MAX_SAFE_INTEGER }).map(({ name }) => name);
    expect(names).not.toContain('parts of an upload');
    const unknown = describeProfile({ ...GOOD, protection: { versioning: undefined, objectLock: undefined } });
    expect(unknown.filter(({ value }) => value === 'unknown').map(({ name }) => name)).toEqual([
      'versions',
      'Object Lock',
    ]);
  });
});
