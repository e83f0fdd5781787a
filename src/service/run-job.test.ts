import { describe, expect, test } from 'vitest';
import { serviceWorld } from '../../test/support/service-world.ts';
import { PgarkError } from '../common/errors.ts';
import { systemRandom } from '../common/random.ts';
import { systemClock } from '../common/clock.ts';
import { Repository } from '../repository/repository.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import { type JobRequest, runJob } from './run-job.ts';

/** A job whose key cannot be used, over a store that holds a repository; nor can its server be reached. */
async function jobWithBadKey({ isKeyMended = false } = {}) {
  const { generation, store } = await serviceWorld({ BACKUP_FORMAT: 'directory' });
  await new Repository(store, { clock: systemClock, random: systemRandom }).initialise({ pgarkVersion: '0' });
  const [job] = generation.jobs;
  if (job === undefined) throw new Error('the configuration has no job');
  const error = new PgarkError('key-invalid', 'the key is none', { hint: 'make one' });
  const world = {
    ...generation.world(undefined),
    adapters: { sealerOf: () => (isKeyMended ? Promise.resolve(undefined) : Promise.reject(error)) },
  };
  const run = (dryRun: boolean) => {
    const request: JobRequest = { job, retention: undefined, readBack: false, dryRun };
    return runJob(request, world);
  };
  const records = () => listRunRecords(store, { since: new Date(Date.now() - 3_600_000) });
  return { run, records };
}

describe('a job whose key cannot be used', () => {
  test('leaves a record of the failure, by whose id it is reported', async () => {
    const { run, records } = await jobWithBadKey();
    const report = await run(false);
    expect(report.results).toMatchObject([{ database: 'shop', error: { code: 'key-invalid' } }]);
    expect(await records()).toMatchObject([
      { id: report.runId, kind: 'backup', state: 'failed', database: 'shop', error: { code: 'key-invalid' } },
    ]);
  });

  test('leaves none in a dry run', async () => {
    const { run, records } = await jobWithBadKey();
    expect((await run(true)).results).toMatchObject([{ error: { code: 'key-invalid' } }]);
    expect(await records()).toEqual([]);
  });
});

test.each([
  ['before its database is looked at', 'key-invalid', false],
  ['of its database', 'postgres-unreachable', true],
])('what fails %s leaves a record that says in which format', async (_when, code, isKeyMended) => {
  const { run, records } = await jobWithBadKey({ isKeyMended });
  await run(false);
  expect(await records()).toMatchObject([{ kind: 'backup', format: 'directory', error: { code } }]);
});
