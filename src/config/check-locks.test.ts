import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory, type TempDirectory } from '../../test/support/temp.ts';
import { warnOfShortLocks } from './check-locks.ts';
import { loadConfig } from './load.ts';
import type { Config, JobConfig, SourceConfig, StorageConfig } from './model.ts';
import type { Need } from './problems.ts';
import { parseSchedule } from './schedule.ts';

type Facts = { schedule?: string; fullEvery?: number; incremental?: boolean; days?: number };

function warningsOf({ schedule, fullEvery, incremental = true, days }: Facts): readonly string[] {
  const parsed = schedule === undefined ? undefined : parseSchedule(schedule);
  const job = {
    name: 'nightly',
    format: 'physical',
    incremental,
    to: ['vault', 'disk'],
    ...(fullEvery === undefined ? {} : { fullEvery }),
    ...(parsed === undefined ? {} : { schedule: parsed }),
  } as unknown as JobConfig;
  const source = { name: 'shop', jobs: new Map([['nightly', job]]) } as unknown as SourceConfig;
  const vault = {
    name: 'vault',
    type: 's3',
    ...(days === undefined ? {} : { objectLock: { mode: 'governance', days } }),
  };
  const storages = new Map([
    ['vault', vault as unknown as StorageConfig],
    ['disk', { name: 'disk', type: 'file', path: '/x' } as unknown as StorageConfig],
  ]);
  return warnOfShortLocks({ databases: new Map([['shop', source]]), storages });
}

test('says where a chain lasts longer than it is locked, and what to do', () => {
  expect(warningsOf({ schedule: '0 2 * * *', days: 29 })).toEqual([
    'databases.shop.jobs.nightly: a chain of 30 incremental backups lasts up to 30d, and storage vault locks for 29d: its full backup can be deleted while newer ones need it; raise object_lock.days, or lower full_every',
  ]);
});

test.each([
  ['0 2 * * 1-5', 5, 6, 7],
  ['0 2 * * *', 30, 29, 31],
  ['0 2 * * 0', 4, 27, 29],
  ['12h', 14, 6, 7],
  ['@hourly', 24, 0, 2],
] as const)('goes by the schedule: %s, a full one of %i', (schedule, fullEvery, tooFew, enough) => {
  expect(warningsOf({ schedule, fullEvery, days: tooFew })).toHaveLength(1);
  expect(warningsOf({ schedule, fullEvery, days: enough })).toEqual([]);
});

test.each<Facts>([
  { schedule: '0 2 * * *' },
  { schedule: '0 2 * * *', days: 1, incremental: false },
  { schedule: '0 2 * * *', days: 1, fullEvery: 1 },
  { days: 1 },
])('says nothing of what has no lock, no chains or no schedule: %o', (facts) => {
  expect(warningsOf(facts)).toEqual([]);
});

test('a chain of whole weeks does not last longer where clocks are put back meanwhile', async () => {
  await using folder = await configOf('0 3 * * 0', 4, 28);
  const { timezone, warnings } = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  expect({ timezone, warnings }).toEqual({ timezone: 'Europe/Berlin', warnings: [] });
});

test('is a warning of a configuration as it is read, but for who asks for a storage only', async () => {
  await using folder = await configOf('@daily', 7, 3);
  const load = (needs?: readonly Need[]): Promise<Config> =>
    loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path, ...(needs && { needs }) });
  const said = [expect.stringMatching(/^databases\.shop\.jobs\.base: a chain of 7 .* up to 7d, .* for 3d: /)];
  expect((await load()).warnings).toEqual(said);
  expect((await load(['database', 'storage'])).warnings).toEqual(said);
  expect((await load(['storage'])).warnings).toEqual([]);
});

async function configOf(schedule: string, fullEvery: number, days: number): Promise<TempDirectory> {
  const folder = await makeTempDirectory();
  await writeFile(
    folder.join('pgark.yaml'),
    `version: 1
timezone: Europe/Berlin
storages:
  vault: { type: s3, bucket: backups, region: r, access_key_id: k, secret_access_key: s, object_lock: { mode: governance, days: ${days} } }
databases:
  shop:
    url: postgres://app@db/shop
    jobs: { base: { format: physical, incremental: true, full_every: ${fullEvery}, schedule: "${schedule}" } }
`,
  );
  return folder;
}
