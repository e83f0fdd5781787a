import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../common/clock.ts';
import { systemRandom } from '../../common/random.ts';
import { FileStore } from './file-store.ts';

const HOUR_MS = 3_600_000;
const id = (digit: string): string => digit.repeat(32);

let root = '';
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pgark-probe-leftovers-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function leave(path: string, ageMs: number): Promise<void> {
  const full = join(root, path);
  await mkdir(dirname(full), { recursive: true });
  await writeFile(full, 'x');
  const then = new Date(Date.now() - ageMs);
  await utimes(full, then, then);
  if (dirname(full) !== root) await utimes(dirname(full), then, then);
}

const left = async (): Promise<string[]> =>
  (await readdir(root, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();

test('a probe removes what probes of killed processes left, and nothing younger or of another name', async () => {
  const old = 2 * HOUR_MS;
  const stay = [
    `.pgark-probe-${id('b')}`,
    `.pgark-uploads/.pgark-probe-${id('d')}/.pgark-upload-${id('1')}`,
    '.pgark-probe-notes',
    'shop.sql.gz',
    `.pgark-uploads/shop.sql.gz/.pgark-upload-${id('2')}`,
  ];
  const [young, youngUpload, ...others] = stay;
  for (const path of [young, youngUpload]) await leave(path ?? '', HOUR_MS / 2);
  for (const path of others) await leave(path, old);
  await leave(`.pgark-probe-${id('a')}`, old);
  await leave(`.pgark-uploads/.pgark-probe-${id('c')}/.pgark-upload-${id('3')}`, old);
  await leave(`.pgark-uploads/.pgark-probe-${id('e')}/.pgark-claim-${id('4')}`, old);
  await leave(`.pgark-uploads/.pgark-clock-${id('5')}`, old);
  const store = new FileStore({ root, clock: systemClock, random: systemRandom });
  await store.probe();
  expect(await left()).toHaveLength(9);
  await store.probe({ write: true });
  expect(await left()).toEqual(stay.sort());
  expect(await readdir(join(root, '.pgark-uploads'))).not.toContain(`.pgark-probe-${id('c')}`);
});
