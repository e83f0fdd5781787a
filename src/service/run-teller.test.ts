import { afterEach, expect, test } from 'vitest';
import { manifestOf } from '../../test/support/repository-place.ts';
import { HOOK_SECRET, TellingPlace } from '../../test/support/telling.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeBackupId, makeRunId } from '../repository/ids.ts';
import type { JobResult } from './job-report.ts';
import { planJobs } from './jobs.ts';
import { GLOBALS } from './run-job.ts';
import { runTeller } from './run-teller.ts';

const start = new Date('2026-11-20T02:00:00Z');
let place: TellingPlace | undefined;

afterEach(() => place?.[Symbol.asyncDispose]());

/** A job of two databases and a watchdog, or who else is told. The function returned makes up what came of a run, by what failed, and says what was pinged. */
async function watched(on: string, type = 'healthchecks') {
  const self = await TellingPlace.open({ type, on });
  place = self;
  const sources = [...self.config.databases.values()].filter(({ name }) => name === 'shop');
  const [job] = planJobs(self.config, { sources, prunes: true }, silentLogger);
  if (job === undefined) throw new Error('the configuration has a job');
  const resultsOf = (failed: readonly string[]): readonly JobResult[] =>
    ['db1', 'db2', GLOBALS].flatMap((database): readonly JobResult[] => {
      const base = { database, storage: 'r2', location: 'r2', pruned: undefined };
      const error = new PgarkError('dump-failed', 'pg_dump was killed');
      if (failed.includes(database)) return [{ ...base, outcome: undefined, error }];
      if (database === GLOBALS) return [];
      const manifest = manifestOf(makeBackupId(start, 'p', systemRandom), database, ['x']);
      const runId = makeRunId(start, systemRandom);
      return [
        { ...base, outcome: { kind: 'committed', manifest: { ...manifest, runId }, durationMs: 1 }, error: undefined },
      ];
    });
  const listener = runTeller(self.config, self.teller(), () => start);
  const run = async (failed: readonly string[], standing: readonly string[]): Promise<readonly string[]> => {
    const before = self.receiver.requests.length;
    await listener.onRunStarted?.(job);
    const results = resultsOf(failed).filter(({ database }) => !standing.includes(database ?? ''));
    const runId = makeRunId(start, systemRandom);
    await listener.onRunEnded?.({
      job,
      startedAt: start,
      endedAt: start,
      runId,
      log: '',
      results,
      standing: resultsOf(standing).filter(({ database }) => standing.includes(database ?? '')),
      sizes: [],
      globalsIn: failed.includes(GLOBALS) ? [] : ['r2'],
      nextTryAt: undefined,
    });
    const told = self.receiver.requests.slice(before).map(({ url }) => url.replace(/\?.*/, ''));
    return told.map((path) => path.replace(`/${HOOK_SECRET}`, ''));
  };
  return Object.assign((...failed: string[]) => run(failed, []), {
    /** A further attempt that is not about these, which failed before. */
    besides: (standing: readonly string[], ...failed: string[]) => run(failed, standing),
  });
}

test('a run whose globals are stored again, and of whose databases one fails, leaves a watchdog at failed', async () => {
  const run = await watched('["*"]');
  expect(await run(GLOBALS)).toEqual(['/start', '/fail']);
  expect(await run('db2')).toEqual(['/start', '/fail']);
  expect(await run()).toEqual(['/start', '']);
});

test('a watchdog that wants recoveries alone hears of the end of whichever part of a run failed', async () => {
  const run = await watched('[failure, recovery]');
  for (const part of ['db1', 'db2', GLOBALS]) {
    expect(await run(part)).toEqual(['/fail']);
    expect(await run()).toEqual(['']);
    expect(await run()).toEqual([]);
  }
});

test('an attempt that is not about what failed before leaves a watchdog at failed', async () => {
  const run = await watched('["*"]');
  expect(await run('db1', 'db2')).toEqual(['/start', '/fail']);
  expect(await run.besides(['db1'])).toEqual(['/start', '/fail']);
  expect(await run()).toEqual(['/start', '']);
});

test.each(['slack', 'webhook'])('nobody is told through %s a second time of what failed before', async (type) => {
  const run = await watched('[failure]', type);
  expect(await run('db1', 'db2')).toHaveLength(2);
  expect(await run.besides(['db1', 'db2'])).toEqual([]);
  expect(await run.besides(['db1'], 'db2')).toEqual([]);
});
