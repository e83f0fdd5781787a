import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from './load.ts';

async function problemOf(jobs: string): Promise<unknown> {
  await using folder = await makeTempDirectory();
  await writeFile(
    folder.join('pgark.yaml'),
    `version: 1
storages:
  near: { type: file, path: near }
  near_again: { type: file, path: ./near/ }
  far: { type: file, path: far }
retention:
  short: { keep: { within: 3d, last: 2 } }
  brief: { keep: { last: 2, within: 72h }, min_backups: 3 }
  long: { keep: { monthly: 12 } }
databases:
  shop:
    url: postgres://app@db/shop
    jobs:
${jobs.replaceAll(/^/gm, '      ')}
`,
  );
  return await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path }).then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('two jobs of one source', () => {
  test.each([
    ['with other rules', 'a: { to: [near, far], retention: short }\nb: { to: [far], retention: long }', 'storage far '],
    [
      'of two formats',
      'a: { to: [near], format: plain, retention: short }\nb: { to: [near], format: directory, retention: long }',
      'storage near ',
    ],
    ['of which one keeps all', 'a: { to: [near], retention: short }\nb: { to: [near] }', 'b keeps all'],
    [
      'with two names of one directory',
      'a: { to: [near], retention: short }\nb: { to: [near_again], retention: long }',
      'same place as near_again',
    ],
  ])('%s in one storage would delete each other’s backups, and are refused', async (_title, jobs, words) => {
    const error = await problemOf(jobs);
    expect(error).toMatchObject({ code: 'config-conflict', hint: expect.stringContaining('different storages') });
    expect(String(error)).toContain('the jobs a and b of shop');
    expect(String(error)).toContain(words);
  });

  test.each([
    ['write to different storages', 'a: { to: [near], retention: short }\nb: { to: [far], retention: long }'],
    ['have the same rules under two names', 'a: { to: [near], retention: short }\nb: { to: [near], retention: brief }'],
    ['both keep all', 'a: { to: [near] }\nb: { to: [near] }'],
    ['are one a dump and one physical', 'a: { to: [near] }\nb: { to: [near], format: physical, retention: long }'],
  ])('that %s get on', async (_title, jobs) => {
    expect(await problemOf(jobs)).toBeUndefined();
  });
});
