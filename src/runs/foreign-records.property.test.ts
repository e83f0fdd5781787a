import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { damagedBytes, damagedJson, refusedOr } from '../../test/support/damage.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { compactRuns } from './compact-runs.ts';
import { readCompactedRuns } from './compacted-runs.ts';
import { listRunRecords } from './list-run-records.ts';
import { type RunRecord, serialiseRunRecord } from './run-record.ts';

const START = new Date('2026-11-20T02:00:00.000Z');
const NOW = new Date('2026-11-27T02:00:00.000Z');

function recordOf(): RunRecord {
  return {
    layout: 1,
    id: makeRunId(START, systemRandom),
    kind: 'backup',
    state: 'failed',
    source: 'main',
    database: 'shop',
    destinations: ['r2'],
    host: 'h',
    pid: 1,
    startedAt: START.toISOString(),
    endedAt: START.toISOString(),
    result: { bytes: 1, whole: true, name: 'x' },
    error: { code: 'corrupt', message: 'm', hint: 'h', exit: 20 },
    pgarkVersion: '0.1.0',
  };
}

test('a record that somebody else wrote is read, or left out, and hides no other, nor keeps any from being compacted', async () => {
  await fc.assert(
    fc.asyncProperty(damagedJson(recordOf()), fc.boolean(), async (text, isTwice) => {
      const [own, foreign] = [recordOf(), recordOf()];
      const store = new MemoryStore();
      await store.putSmall(keys.run(START, own.id), serialiseRunRecord(own));
      await store.putSmall(keys.run(START, foreign.id), Buffer.from(text));
      if (isTwice) {
        const compacted = `{"layout":1,"month":"2026-11","sources":[],"runs":[${text},${JSON.stringify(own)}]}`;
        const id = makeRunId(START, systemRandom);
        await store.putSmall(keys.compactedRuns('2026-11', id), gzipSync(compacted));
      }
      const before = await refusedOr(() => listRunRecords(store, { since: new Date(0) }));
      expect(before?.map(({ id }) => id)).toContain(own.id);
      const options = { now: NOW, random: systemRandom, logger: silentLogger };
      expect(await refusedOr(() => compactRuns(store, options))).toBeDefined();
      const after = await listRunRecords(store, { since: new Date(0) });
      expect(after.map(({ id }) => id)).toContain(own.id);
    }),
  );
});

test('compacted records of any bytes are read or refused, and unfold to no more than there is room for', async () => {
  const whole = gzipSync(JSON.stringify({ layout: 1, month: '2026-11', sources: [], runs: [recordOf()] }));
  await fc.assert(
    fc.asyncProperty(damagedBytes(whole), async (bytes) => {
      const store = new MemoryStore();
      await store.putSmall('compacted', bytes);
      await refusedOr(() => readCompactedRuns(store, 'compacted', {}));
    }),
  );
});
