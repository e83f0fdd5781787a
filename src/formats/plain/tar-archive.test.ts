import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { refuseTruncatedTar } from './tar-archive.ts';

const directory = mkdtempSync(join(tmpdir(), 'pgark-tar-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** By the stock tar, with the names and in the order of pg_dump. */
function makeTar(files: Readonly<Record<string, string>>): Buffer {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  return execFileSync('tar', ['--format=ustar', '-cf', '-', ...Object.keys(files)], { cwd: directory });
}

async function* inPieces(bytes: Uint8Array, size: number): ByteStream {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

async function pass(bytes: Uint8Array, size = 700): Promise<Buffer> {
  const passed: Uint8Array[] = [];
  for await (const block of refuseTruncatedTar('x.tar')(inPieces(bytes, size))) passed.push(Buffer.from(block));
  return Buffer.concat(passed);
}

const files = {
  'toc.dat': 'PGDMP',
  '1.dat': 'x'.repeat(5000),
  '2.dat': '',
  '3.dat': 'y'.repeat(512),
  'restore.sql': 'z'.repeat(9000),
};
const tar = makeTar(files);
/** Headers and padded contents before restore.sql. */
const bytesBefore = 512 + 512 + (512 + 5120) + 512 + 1024;

describe('an archive in tar format', () => {
  test.each([1, 100, 511, 512, 513, 4096, 1 << 20])(
    'in pieces of %i bytes passes up to its script, with an end of its own',
    async (size) => {
      const passed = await pass(tar, size);
      expect(passed.subarray(0, bytesBefore).equals(tar.subarray(0, bytesBefore))).toBe(true);
      expect(passed.subarray(bytesBefore).equals(Buffer.alloc(1024))).toBe(true);
    },
  );

  test('cut off anywhere is refused, and its last file is never whole by then', async () => {
    const end = bytesBefore + 512 + 9216;
    for (let length = 0; length <= end; length += 333) {
      const passed: Uint8Array[] = [];
      const read = async (): Promise<void> => {
        const stream = refuseTruncatedTar('x.tar')(inPieces(tar.subarray(0, length), 1000));
        for await (const block of stream) passed.push(block);
      };
      await expect(read()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('truncated') });
      expect(Buffer.concat(passed).length).toBeLessThanOrEqual(bytesBefore - 512);
    }
  });

  test('whose headers are damaged is refused', async () => {
    const damaged = Buffer.from(tar);
    damaged[1024 + 130] = 0x37;
    await expect(pass(damaged)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('checksum'),
    });
  });
});
