import { describe, expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { bytesOf, byteStringOf, type ByteString, readable, toByteString } from '../../postgres/toc/byte-string.ts';
import { writeAt } from './fetch-wal.ts';
import { FileLedger } from './file-ledger.ts';
import { withoutOldServer, withRecoverySettings } from './recovery-settings.ts';
import { parseTablespaceMapping, placeTablespaces, writeTablespaceMap } from './tablespace-map.ts';

describe('a ledger of files', () => {
  const fileOf = (path: string, bytes = 3, sha256 = 'ab'.repeat(32)) => ({ path: path as ByteString, bytes, sha256 });
  const make = (): FileLedger => new FileLedger((why) => new PgarkError('corrupt', why));

  test('is content only if both sides have the very same', () => {
    const ledger = make();
    ledger.note(fileOf('a'));
    ledger.note(fileOf('b'));
    ledger.compare(fileOf('b'));
    expect(() => ledger.end()).toThrow('a of archive or backup_manifest are not in the other');
    ledger.compare(fileOf('a'));
    ledger.end();
  });

  test.each([
    ['one that is noted twice', (ledger: FileLedger) => ledger.note(fileOf('a')), 'a is there twice'],
    ['one that is not noted', (ledger: FileLedger) => ledger.compare(fileOf('c')), 'c is in only one'],
    ['another length', (ledger: FileLedger) => ledger.compare(fileOf('a', 4)), 'a has 4 bytes in one and 3'],
    [
      'another digest',
      (ledger: FileLedger) => ledger.compare(fileOf('a', 3, 'ac'.repeat(32))),
      'a has not the SHA-256',
    ],
  ])('refuses %s', (_, step, words) => {
    const ledger = make();
    ledger.note(fileOf('a'));
    expect(() => step(ledger)).toThrow(words);
  });
});

describe('settings for a recovery', () => {
  test('come last, and replace what an earlier recovery or a standby left', () => {
    const before = `# Do not edit\nwork_mem = '8MB'\nrecovery_target_lsn = '0/1'\n Primary_Conninfo='x'\nrestore_command 'cp'\nrecovery_min_apply_delay = '8h'\n`;
    const after = withRecoverySettings(toByteString(before), { timeline: 7 }, 'by pgark');
    expect(after.split('\n').slice(0, 3)).toEqual(['# Do not edit', `work_mem = '8MB'`, '# by pgark']);
    expect(after).toContain(`archive_cleanup_command = ''\n`);
    expect(after).toContain(`restore_command = 'false'\n`);
    expect(after).toContain(`recovery_target_timeline = '7'\n`);
    expect(after).toContain(`synchronous_standby_names = ''\n`);
    expect(after).toContain(`max_logical_replication_workers = '0'\n`);
    expect(after).toContain(`recovery_end_command = '[ ! -f pg_wal/pgark/end ] || /bin/sh pg_wal/pgark/end'\n`);
    expect(after).toContain(`hot_standby = 'off'\n`);
    expect(after.match(/^recovery_min_apply_delay.*$/gm)).toEqual([`recovery_min_apply_delay = '0'`]);
    expect(after).not.toContain('0/1');
    expect(after.match(/primary_conninfo/gi)).toHaveLength(1);
    expect(withRecoverySettings(after, { timeline: 7 }, 'by pgark').match(/^[a-z_]+ =/gm)).toEqual(
      after.match(/^[a-z_]+ =/gm),
    );
  });
});

describe('targets of an earlier recovery, and the data directory of the old server', () => {
  test('become comments, and nothing else is changed', () => {
    const before = toByteString(
      `# recovery_target_lsn = '0/1'\nrecovery_target_time = '2020-01-01'\n  Recovery_Target 'immediate'\nrecovery_target_action = 'pause'\n#data_directory = 'ConfigDir'\ndata_directory='/old' # here\nport = 5432\n`,
    );
    const after = readable(withoutOldServer(before) ?? toByteString(''));
    expect(after.split('\n')).toEqual([
      `# recovery_target_lsn = '0/1'`,
      expect.stringMatching(/^# of the .*: recovery_target_time = '2020-01-01'$/),
      expect.stringMatching(/^ {2}# of the .*: Recovery_Target 'immediate'$/),
      `recovery_target_action = 'pause'`,
      `#data_directory = 'ConfigDir'`,
      expect.stringMatching(/^# of the .*: data_directory='\/old' # here$/),
      'port = 5432',
      '',
    ]);
    expect(withoutOldServer(toByteString(after))).toBeUndefined();
  });
});

describe('settings in another encoding than UTF-8', () => {
  test('stay the bytes that they are', () => {
    const latin1 = Buffer.from(`cluster_name = 'Zürich'\n`, 'latin1');
    const after = bytesOf(withRecoverySettings(byteStringOf(latin1), { timeline: 1 }, 'of the source größe'));
    expect(after.subarray(0, latin1.length).equals(latin1)).toBe(true);
    expect(after.toString()).toContain('# of the source größe\n');
  });
});

describe('tablespaces', () => {
  const there = [
    { oid: '16384', location: '/mnt/fast/' },
    { oid: '16385', location: '/mnt/a=b' },
  ];

  test.each([
    ['/a=/b', { from: '/a', to: '/b' }],
    ['/mnt/a\\=b=/c/', { from: '/mnt/a=b', to: '/c' }],
    ['/a', undefined],
    ['/a=/b=/c', undefined],
    ['a=/b', undefined],
    ['/a=b', undefined],
    ['=/b', undefined],
  ])('are mapped by %s', (text, expected) => {
    expect(parseTablespaceMapping(text)).toEqual(expected);
  });

  test('go where they are mapped to, or into the data directory', () => {
    expect(placeTablespaces(there, [{ from: '/mnt/fast', to: '/new' }], '/data')).toEqual([
      { oid: '16384', path: '/new', isInside: false },
      { oid: '16385', path: '/data/tablespaces/16385', isInside: true },
    ]);
    expect(writeTablespaceMap([{ oid: '1', path: '/a\\b\nc', isInside: false }])).toBe('1 /a\\\\b\\\nc\n');
  });

  test.each([
    ['a path that had none', [{ from: '/other', to: '/new' }], 'no tablespace of the backup was at /other'],
    ['the data directory', [{ from: '/mnt/fast', to: '/data/x' }], 'in or above the data directory'],
    ['what is above it', [{ from: '/mnt/fast', to: '/' }], 'in or above the data directory'],
    [
      'one folder twice',
      [
        { from: '/mnt/fast', to: '/new' },
        { from: '/mnt/a=b', to: '/new/b' },
      ],
      'two tablespaces would go into /new/b',
    ],
  ])('are not mapped to %s', (_, mappings, words) => {
    expect(() => placeTablespaces(there, mappings, '/data')).toThrow(words);
  });
});

describe('bytes of a file', () => {
  test('are written to the last, although a write may take a part only', async () => {
    const written = Buffer.alloc(12);
    const shortOfBreath = {
      write: (bytes: Uint8Array, from: number, length: number, position: number) => {
        const bytesWritten = Math.min(3, length);
        written.set(bytes.subarray(from, from + bytesWritten), position);
        return Promise.resolve({ bytesWritten, buffer: bytes });
      },
    };
    await writeAt(shortOfBreath as Parameters<typeof writeAt>[0], Buffer.from('0123456789'), 2);
    expect(written.toString('latin1', 2)).toBe('0123456789');
  });
});
