import { expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { silentLogger } from '../common/log.ts';
import type { StorageConfig } from '../config/model.ts';
import { operationContext } from '../operations/context.ts';
import { STALL_MS } from '../operations/stall-watch.ts';
import type { JobResult } from './job-report.ts';
import { measureReached } from './storage-sizes.ts';
import { Stores } from './stores.ts';

const config: StorageConfig = {
  name: 'disk',
  type: 'file',
  path: '/backups',
  maxSizeBytes: 1,
  retry: { retriesMax: 0, delayMs: 1, delayMsMax: 1 },
};
// Of what came of a job it is looked at nothing else.
const results = [{ storage: 'disk', outcome: { kind: 'committed' } }] as unknown as readonly JobResult[];

test('a storage that does not answer any more is not waited for: its size is not known', async () => {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const heard: string[] = [];
  const logger = { ...silentLogger, warning: (event: string, words: string) => void heard.push(`${event}: ${words}`) };
  const store = new FaultyStore(new MemoryStore(), { before: () => new Promise(() => {}) });
  const stores = new Stores({ openStore: () => Promise.resolve(store) }, logger);
  let sizes: unknown;
  const measuring = measureReached([config], results, { stores, context: operationContext({ logger, clock }) }).then(
    (found) => {
      sizes = found;
    },
  );
  await clock.advance(STALL_MS - 1_000);
  expect(sizes).toBeUndefined();
  await clock.advance(60_000);
  expect(sizes).toEqual([]);
  expect(heard).toEqual([
    expect.stringMatching(/^storage\.size_unknown: .* disk is not known: it was not measured within/),
  ]);
  await measuring;
});
