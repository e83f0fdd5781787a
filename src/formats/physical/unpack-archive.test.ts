import { mkdtemp, readdir, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Member, tarOf } from '../../../test/support/base-archive.ts';
import type { FileSum } from './file-ledger.ts';
import { TargetFolder } from './target-files.ts';
import { unpackArchive } from './unpack-archive.ts';

let outside: string;
let target: string;

beforeEach(async () => {
  outside = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-unpack-')));
  target = path.join(outside, 'data');
  await new TargetFolder(outside, undefined).replace('bystander', 'as it was');
  await new TargetFolder(outside, undefined).folder('data' as never);
});
afterEach(async () => rm(outside, { recursive: true, force: true }));

async function unpack(members: readonly Member[], chunkBytes = 700): Promise<readonly FileSum[]> {
  const archive = tarOf(members);
  const files: FileSum[] = [];
  async function* source(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < archive.length; at += chunkBytes) yield archive.subarray(at, at + chunkBytes);
  }
  await unpackArchive(source(), { oid: '7' }, new TargetFolder(target, undefined), (file) => void files.push(file));
  return files;
}

const content = Buffer.from('content');

describe('an archive is unpacked', () => {
  test('file by file, with names that are no UTF-8, and told of by path, size and digest', async () => {
    const long = Buffer.alloc(5_000, 'x');
    const files = await unpack([
      { name: './global', type: '5', mode: 0o700 },
      { name: 'global/pg_control', content: long },
      { name: 'caf\u00e9', content, mode: 0o640 },
      { name: 'empty' },
    ]);
    expect(files.map(({ path: name, bytes }) => [name, bytes])).toEqual([
      ['pg_tblspc/7/global/pg_control', 5_000],
      ['pg_tblspc/7/caf\u00e9', 7],
      ['pg_tblspc/7/empty', 0],
    ]);
    expect(await readFile(path.join(target, 'global', 'pg_control'))).toEqual(long);
    const names = await readdir(target, { encoding: 'buffer' });
    expect(names.map((name) => name.toString('latin1')).sort()).toEqual(['caf\u00e9', 'empty', 'global']);
  });

  test.each<[string, readonly Member[], string]>([
    ['up and out', [{ name: '../bystander', content }], 'no path within a data directory'],
    ['out by the middle', [{ name: 'base/../../bystander', content }], 'no path within a data directory'],
    ['to a fixed place', [{ name: '/tmp/bystander', content }], 'no path within a data directory'],
    ['to itself', [{ name: 'a/./b', content }], 'no path within a data directory'],
    ['by a folder', [{ name: '..', type: '5' }], 'no path within a data directory'],
    [
      'by a link',
      [
        { name: 'out', type: '2', target: '..' },
        { name: 'out/bystander', content },
      ],
      'holds a link',
    ],
  ])('and never leads %s', async (_, members, words) => {
    await expect(unpack(members)).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(words) });
    expect(await readFile(path.join(outside, 'bystander'), 'utf8')).toBe('as it was');
    expect((await readdir(outside)).sort()).toEqual(['bystander', 'data']);
  });

  test('and follows no link that is there, nor writes over a file', async () => {
    await symlink(path.join(outside, 'bystander'), path.join(target, 'PG_VERSION'));
    await expect(unpack([{ name: 'PG_VERSION', content }])).rejects.toMatchObject({ code: 'restore-failed' });
    await symlink(outside, path.join(target, 'base'));
    await expect(unpack([{ name: 'base', type: '5' }])).rejects.toMatchObject({ code: 'restore-failed' });
    expect(await readFile(path.join(outside, 'bystander'), 'utf8')).toBe('as it was');
  });
});
