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

/** A job of two databases and a watchdog. The function returned makes up what came of a run, by what failed, and says what was pinged. */
async function watched(on: string) {
  const self = await TellingPlace.open({ type: 'healthchecks', on });
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
  return async (...failed: string[]): Promise<readonly string[]> => {
    const before = self.receiver.requests.length;
    await listener.onRunStarted?.(job);
    const results = resultsOf(failed);
    const runId = makeRunId(start, systemRandom);
    await listener.onRunEnded?.({
      job,
      startedAt: start,
      endedAt: start,
      runId,
      log: '',
      results,
      globalsIn: failed.includes(GLOBALS) ? [] : ['r2'],
      nextTryAt: undefined,
    });
    const told = self.receiver.requests.slice(before).map(({ url }) => url.replace(/\?.*/, ''));
    return told.map((path) => path.replace(`/${HOOK_SECRET}`, ''));
  };
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
