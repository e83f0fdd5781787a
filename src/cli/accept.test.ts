import { expect, test } from 'vitest';
import { fileStorages } from '../../test/support/file-storages.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { readAcceptedSizes } from '../repository/accepted-sizes.ts';
import type { Manifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';

const HOUR_MS = 3_600_000;
const suspicions = [{ rule: 'size_change', message: 'it is much smaller' }];

/** `near` and `far` have suspicious backups of these ages in hours. */
async function setScene(ages: { readonly near: readonly number[]; readonly far: readonly number[] }) {
  const storages = await fileStorages('near', 'far');
  const seed = (name: 'near' | 'far'): Promise<Manifest[]> =>
    seedBackups(storages.open(name), {
      source: 'shop',
      database: 'shop',
      times: ages[name].map((hours) => new Date(Date.now() - hours * HOUR_MS)),
      suspicions,
    });
  const accepted = async (name: string): Promise<readonly string[]> => [
    ...(await readAcceptedSizes(storages.open(name), {})),
  ];
  return { storages, near: await seed('near'), far: await seed('far'), accepted };
}

const copyTo = (store: Repository['store'], manifest: Manifest | undefined) =>
  manifest && new Repository(store, { clock: systemClock, random: systemRandom }).commit(manifest);

test('accept latest accepts the newest of all storages, in all that have it, and no other one', async () => {
  const { storages, near, far, accepted } = await setScene({ near: [9, 1], far: [5] });
  await using _ = storages;
  const newest = near[1]?.id;
  const first = await storages.run('accept', 'latest');
  expect(first).toMatchObject({ exit: 0, stdout: `accepted the size of ${newest} (it is much smaller)\n` });
  expect(first.stderr).toContain(`${far[0]?.id} of `);
  expect([await accepted('near'), await accepted('far')]).toEqual([[newest], []]);
  await copyTo(storages.open('far'), near[1]);
  expect(await storages.run('accept', 'latest')).toMatchObject({
    exit: 0,
    stdout: expect.stringMatching(/^near: accepted the size of (\S+) .*\nfar: accepted the size of \1 /),
  });
  expect([await accepted('near'), await accepted('far')]).toEqual([[newest], [newest]]);
});

test('accept says which storage is away, with 4; and of a backup that none has, with 10', async () => {
  const { storages, near, accepted } = await setScene({ near: [1], far: [5] });
  await using _ = storages;
  expect(await storages.run('accept', '20010101T000000Z-paaaaaa')).toMatchObject({ exit: 10 });
  await storages.takeAway('far');
  const { exit, stdout, stderr } = await storages.run('accept', 'latest', '-o', 'json');
  expect(exit).toBe(4);
  expect(JSON.parse(stdout)).toMatchObject({
    id: near[0]?.id,
    storages: [
      { storage: 'near', state: 'accepted' },
      { storage: 'far', state: 'failed', error: { code: expect.any(String) } },
    ],
  });
  expect(stderr).toMatch(/^storage far: error .*\n {2}hint .*\nerror {2}1 of 2 storages failed: far$/m);
  expect(await accepted('near')).toEqual([near[0]?.id]);
});
