import { describe, expect, test } from 'vitest';
import { manifestOf } from '../../test/support/repository-place.ts';
import { commandsBeforeStart } from '../operations/recovery/start-by-hand.ts';
import { makeBackupId } from '../repository/ids.ts';
import { systemRandom } from '../common/random.ts';
import type { Manifest } from '../repository/manifest.ts';
import { commandsByHand, stockCommand } from './by-hand.ts';

const id = makeBackupId(new Date('2026-11-20T02:00:00Z'), 'd', systemRandom);

function archive(changes: Partial<Manifest>, ending = ''): Manifest {
  const plain = manifestOf(id, 'shop', [`main/archive/${id}/toc.dat${ending}`]);
  return { ...plain, format: 'directory', compression: { algorithm: 'zstd', level: 3 }, ...changes };
}

describe('the commands for an archive', () => {
  test('begin with the sums, since pg_restore takes a truncated file for a whole one', () => {
    const manifest = archive({ client: { program: 'pg_dump', version: '18.1' } });
    expect(commandsByHand(manifest, 's3://bucket/prefix')).toEqual([
      `copy all of s3://bucket/prefix/main/archive/${id}/ into a folder DIR, or: pgark download ${id} DIR`,
      'cd DIR && sha256sum -c SHA256SUMS',
      'createdb -T template0 NEW_DATABASE && pg_restore --exit-on-error -j 4 -d NEW_DATABASE .',
    ]);
  });

  test('decompress what pg_restore before 16 does not read', () => {
    const of = (version: string) => commandsByHand(archive({ client: { program: 'pg_dump', version } }), 'file:///b');
    expect(of('15.18 (Debian 15.18-0+deb12u1)')).toContain('zstd -d --rm *.zst');
    expect(of('16.0')).not.toContain('zstd -d --rm *.zst');
  });

  test.each([
    ['age', ['age1…'], '.age', 'age -d -i KEY_FILE "$f"'],
    ['openssl', ['…'], '.enc', 'openssl enc -d -aes-256-cbc -pbkdf2 -iter 10000 -pass file:KEY_FILE -in "$f"'],
  ] as const)('decrypt each file, by %s for %j', (scheme, keyFingerprints, ending, command) => {
    const encryption = { scheme, keyFingerprints: [...keyFingerprints] };
    expect(commandsByHand(archive({ encryption }, ending), 'file:///b')).toContain(
      `for f in *${ending}; do ${command} > "\${f%${ending}}" && rm "$f" || break; done`,
    );
  });
});

test('the commands for an archive by a passphrase ask for it once', () => {
  const key = `main/archive/${id}/identity.age`;
  const { objects } = manifestOf(id, 'shop', [key]);
  const manifest = archive({
    encryption: { scheme: 'age', keyFingerprints: ['passphrase'] },
    objects: objects.map((object) => ({ ...object, role: 'key' })),
    client: { program: 'pg_dump', version: '15.18' },
  });
  expect(commandsByHand(manifest, 'file:///b')?.slice(2, -1)).toEqual([
    'age -d -o identity identity.age && rm identity.age',
    'for f in *.age; do age -d -i identity "$f" > "${f%.age}" && rm "$f" || break; done',
    'rm identity',
    'zstd -d --rm *.zst',
  ]);
});

test('a single file of SQL text has one command line, and no steps', () => {
  const manifest = manifestOf(id, 'shop', ['shop.sql.gz']);
  expect(commandsByHand(manifest, 'file:///b')).toBeUndefined();
  const [object] = manifest.objects;
  expect(object && stockCommand({ ...manifest, compression: { algorithm: 'gzip', level: 5 } }, object)).toBe(
    `gunzip -c 'shop.sql.gz' | psql -X -v ON_ERROR_STOP=1 -d NEW_DATABASE`,
  );
});

test('the commands for an incremental backup end with one that puts its chain together, the full one first', () => {
  const key = `main/base/${id}/identity.age`;
  const plain = manifestOf(id, 'shop', [key]);
  const [full, middle] = ['f', 'i'].map((letter, index) =>
    makeBackupId(new Date(`2026-11-1${index}T02:00:00Z`), letter === 'f' ? 'f' : 'i', systemRandom),
  );
  const parents = [middle, full].flatMap((each) => each ?? []);
  const commands = commandsByHand(
    {
      ...plain,
      format: 'physical',
      parents,
      timeline: 3,
      encryption: { scheme: 'age', keyFingerprints: ['passphrase'] },
      objects: plain.objects.map((object) => ({ ...object, role: 'key' })),
    },
    'file:///b',
  );
  expect(commands?.slice(2, 5)).toEqual([
    'age -d -o identity identity.age && rm identity.age',
    'for f in *.age; do age -d -i identity "$f" > "${f%.age}" && rm "$f" || break; done',
    'rm identity',
  ]);
  expect(commands?.find((each) => each.startsWith('pg_combinebackup'))).toMatch(
    new RegExp(`^pg_combinebackup DATA_${full} DATA_${middle} DATA -o WHOLE`),
  );
  // What comes behind it is of what it makes, not of this backup's own part.
  const merged = commands?.findIndex((each) => each.startsWith('pg_combinebackup')) ?? -1;
  const behind = commands?.slice(merged + 1) ?? [];
  expect(behind.join('\n')).not.toContain('DATA');
  expect(behind).toEqual([
    expect.stringMatching(/^copy .* into WHOLE\/pg_wal, /),
    expect.stringMatching(/\.history into WHOLE\/pg_wal$/),
    ...commandsBeforeStart('WHOLE', 3),
    'pg_ctl -D WHOLE start',
    expect.stringMatching(/^psql /),
  ]);
});
