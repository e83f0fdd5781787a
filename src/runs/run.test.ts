import { describe, expect, test } from 'vitest';
import { at, HistoryPlace } from '../../test/support/protection.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { Secret } from '../common/secret.ts';
import type { Span } from '../common/tracer.ts';
import { keys } from '../repository/keys.ts';
import { readRunLog } from './read-log.ts';
import { type Run, type RunEnvironment, runEnveloped } from './run.ts';
import { listRunRecords } from './list-run-records.ts';

const START = at('2026-11-20T02:00:00Z');

function environmentOf(place: HistoryPlace): RunEnvironment {
  const { clock, store } = place;
  return {
    store,
    clock,
    random: systemRandom,
    logger: silentLogger,
    signal: new AbortController().signal,
    host: 'tester',
    pid: 1,
    pgarkVersion: '0.0.0',
    timers: { after: (ms, callback) => clock.after(ms, callback) },
  };
}

async function backup(place: HistoryPlace, work: (run: Run) => Promise<void>): Promise<void> {
  await runEnveloped(environmentOf(place), { kind: 'backup', source: 'shop', database: 'shop' }, async (run) => {
    await run.open();
    await work(run);
    return { value: undefined, result: { storedBytes: 7 } };
  });
}

async function onlyLog(place: HistoryPlace) {
  const [record] = await listRunRecords(place.store, { since: START });
  if (record === undefined) throw new Error('no record');
  return readRunLog(place.store, record.id);
}

function logKeys(place: HistoryPlace): string[] {
  return [...place.store.objects.keys()].filter((key) => key.startsWith(keys.runLogsPrefix));
}

describe('the log of a run', () => {
  test('lies beside its record: from its start to its end, without what is for debugging, secrets redacted', async () => {
    const place = new HistoryPlace(START);
    await backup(place, async ({ logger }) => {
      logger.debug('dump.detail', 'not kept');
      logger.child({ table: 'orders' }).info('dump.started', 'dumping', { password: new Secret('hunter2') });
    });
    const log = await onlyLog(place);
    expect(log?.lines.map(({ level, event }) => `${level} ${event}`)).toEqual([
      'INFO run.started',
      'INFO dump.started',
      'SUCCESS run.ended',
    ]);
    expect(log?.lines[1]?.fields).toEqual({ table: 'orders', password: '[redacted]' });
    expect(JSON.stringify(log)).not.toContain('hunter2');
  });

  test('ends with the error and its hint, and the error names the run', async () => {
    const place = new HistoryPlace(START);
    const failing = backup(place, async () => {
      throw new PgarkError('dump-failed', 'pg_dump was killed', { hint: 'give it memory' });
    });
    await expect(failing).rejects.toMatchObject({ code: 'dump-failed' });
    const [record] = await listRunRecords(place.store, { since: START });
    await expect(failing).rejects.toMatchObject({ runId: record?.id });
    expect((await onlyLog(place))?.lines.at(-1)).toMatchObject({
      level: 'ERROR',
      event: 'run.ended',
      message: 'backup failed: pg_dump was killed',
      fields: { code: 'dump-failed', hint: 'give it memory' },
    });
  });

  test('of a run that left no record is not written, and its error names no run', async () => {
    const place = new HistoryPlace(START);
    const refused = runEnveloped(environmentOf(place), { kind: 'backup' }, async () => {
      throw new PgarkError('postgres-unreachable', 'nobody there');
    });
    await expect(refused).rejects.toMatchObject({ runId: undefined });
    expect([...place.store.objects.keys()]).toEqual([]);
  });

  test('of a run that failed early is written where that is wanted and a repository is there, and nowhere else', async () => {
    const place = new HistoryPlace(START);
    const failEarly = (
      recordsEarlyFailure: boolean,
      code: 'postgres-unreachable' | 'store-unreachable' | 'interrupted',
    ) =>
      runEnveloped(environmentOf(place), { kind: 'backup', recordsEarlyFailure }, async () => {
        throw new PgarkError(code, 'nobody there');
      });
    await expect(failEarly(true, 'postgres-unreachable')).rejects.toMatchObject({ runId: undefined });
    expect([...place.store.objects.keys()]).toEqual([]);
    await place.repository.initialise({ pgarkVersion: '0.0.0' });
    for (const refused of [
      failEarly(false, 'postgres-unreachable'),
      failEarly(true, 'store-unreachable'),
      failEarly(true, 'interrupted'),
    ]) {
      await expect(refused).rejects.toMatchObject({ runId: undefined });
    }
    expect([...place.store.objects.keys()]).toEqual([keys.repository]);
    await expect(failEarly(true, 'postgres-unreachable')).rejects.toMatchObject({ runId: expect.any(String) });
    expect(await listRunRecords(place.store, { since: START })).toMatchObject([
      { state: 'failed', error: { code: 'postgres-unreachable' } },
    ]);
    expect((await onlyLog(place))?.lines).toHaveLength(2);
  });

  test('is not waited for where a run failed early and the store does not answer', async () => {
    const place = new HistoryPlace(START);
    place.store.head = (_key, options) =>
      new Promise((_, reject) => options?.signal?.addEventListener('abort', () => reject(options.signal?.reason)));
    const failing = runEnveloped(environmentOf(place), { kind: 'backup', recordsEarlyFailure: true }, async () => {
      throw new PgarkError('postgres-unreachable', 'nobody there');
    });
    const thrown = failing.catch((error: unknown) => error);
    await place.clock.advance(10_000);
    expect(await thrown).toMatchObject({ code: 'postgres-unreachable', runId: undefined });
  });

  test('is there for others while the run goes on, and is not written where nothing was said', async () => {
    const place = new HistoryPlace(START);
    let puts = 0;
    const put = place.store.putSmall.bind(place.store);
    place.store.putSmall = (key, body, options) => {
      if (key.startsWith(keys.runLogsPrefix)) puts += 1;
      return put(key, body, options);
    };
    await backup(place, async ({ logger }) => {
      logger.info('dump.started', 'dumping');
      expect(logKeys(place)).toEqual([]);
      await place.clock.advance(10_000);
      expect((await onlyLog(place))?.lines.at(-1)?.event).toBe('dump.started');
      await place.clock.advance(60_000);
      expect(puts).toBe(1);
      logger.info('dump.going', 'still dumping');
      await place.clock.advance(10_000);
      expect(puts).toBe(2);
    });
    expect((await onlyLog(place))?.lines).toHaveLength(4);
    await place.clock.advance(60_000);
    expect(puts).toBe(3);
  });

  test('is bounded: its last lines are kept, and how many were not; long lines are cut', async () => {
    const place = new HistoryPlace(START);
    await backup(place, async ({ logger }) => {
      for (let line = 0; line < 2_000; line += 1) logger.info('dump.line', `line ${line}`, { filler: 'x'.repeat(100) });
      logger.warning('dump.words', '€'.repeat(100_000));
    });
    const [key] = logKeys(place);
    expect(place.store.objects.get(key ?? '')?.bytes.length).toBeLessThan(66 * 1024);
    const log = await onlyLog(place);
    expect(log?.lines.length).toBeGreaterThan(200);
    expect((log?.linesCut ?? 0) + (log?.lines.length ?? 0)).toBe(2_003);
    expect(log?.lines.at(-2)).toMatchObject({ level: 'WARNING', event: 'dump.words', fields: { shortened: true } });
    expect(log?.lines.at(-3)?.message).toBe('line 1999');
  });

  test('that cannot be written fails no run', async () => {
    const place = new HistoryPlace(START);
    const put = place.store.putSmall.bind(place.store);
    place.store.putSmall = (key, body, options) =>
      key.startsWith(keys.runLogsPrefix)
        ? Promise.reject(new PgarkError('store-failed', 'no'))
        : put(key, body, options);
    await backup(place, async () => place.clock.advance(30_000));
    expect(await listRunRecords(place.store, { since: START })).toMatchObject([{ state: 'succeeded' }]);
  });
});

describe('the span of a run', () => {
  /** Remembers the facts of the spans that are made of it. */
  function recordingTracer(facts: Record<string, unknown>): Span {
    const span: Span = {
      span: (_name, given, work) => {
        span.note(given);
        return work(span);
      },
      note: (more) => void Object.assign(facts, more),
      fail: () => {},
    };
    return span;
  }

  test('has the facts of its record: what it was, and what it came to', async () => {
    const place = new HistoryPlace(START);
    const facts: Record<string, unknown> = {};
    const environment = { ...environmentOf(place), tracer: recordingTracer(facts) };
    await runEnveloped(environment, { kind: 'backup', source: 'shop', database: 'orders' }, async (run) => {
      await run.open();
      return { value: undefined, result: { storedBytes: 7, backupId: 'b' } };
    });
    const [record] = await listRunRecords(place.store, { since: START });
    expect(facts).toEqual({
      'pgark.run_id': record?.id,
      'pgark.kind': 'backup',
      'pgark.source': 'shop',
      'pgark.database': 'orders',
      'pgark.storage_location': place.store.location,
      'pgark.state': 'succeeded',
      'pgark.result.stored_bytes': 7,
      'pgark.result.backup_id': 'b',
    });
  });

  test('says whether a run failed or was interrupted', async () => {
    for (const [interrupts, state] of [
      [false, 'failed'],
      [true, 'interrupted'],
    ] as const) {
      const place = new HistoryPlace(START);
      const facts: Record<string, unknown> = {};
      const interrupt = new AbortController();
      const environment = {
        ...environmentOf(place),
        tracer: recordingTracer(facts),
        signal: interrupt.signal,
      };
      const run = runEnveloped(environment, { kind: 'prune' }, () => {
        if (interrupts) interrupt.abort();
        return Promise.reject(new Error('cut off'));
      });
      await expect(run).rejects.toMatchObject({ code: interrupts ? 'interrupted' : 'internal' });
      expect(facts).toMatchObject({ 'pgark.state': state });
    }
  });
});
