import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { PgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { operationContext } from './context.ts';
import { newestProofs, recordProof } from './proofs.ts';

const NOW = new Date('2026-11-20T03:00:00Z');
const inDays = (days: number): Date => new Date(NOW.getTime() + days * 86_400_000);

async function backupIn(store: MemoryStore): Promise<Manifest> {
  const [backup] = await seedBackups(store, { source: 'main', database: 'shop', times: [inDays(-100)] });
  if (backup === undefined) throw new Error('there is no backup');
  return backup;
}

describe('of a backup with proofs that lie', () => {
  test.each([
    ['ahead of now, one that passed gives way to an earlier one', [90, true], [-1, false], false],
    ['ahead of now, one that failed counts', [90, false], [-1, true], false],
    ['ahead of now, all that passed, the newest counts if there is no other', [90, true], [80, true], true],
    ['ahead of now, one that failed comes before one that passed later', [90, true], [80, false], false],
    ['a little ahead, the newest counts', [0.04, true], [-1, false], true],
    ['behind now, the newest counts', [-1, true], [-2, false], true],
  ] as const)('%s', async (_what, newest, earlier, passed) => {
    const store = new MemoryStore({ clock: { now: () => NOW } });
    const backup = await backupIn(store);
    for (const [days, isPassed] of [newest, earlier]) {
      const at = inDays(days);
      const proof = JSON.stringify({ layout: 1, at: at.toISOString(), passed: isPassed });
      await store.putSmall(keys.proof('main', 'shop', backup.id, at, 'verify'), Buffer.from(proof));
    }
    // By the store's clock: this machine's may be behind, and then nothing that it says is ahead.
    for (const days of [0, -200]) {
      const clock = new ManualClock(inDays(days));
      const proofs = await newestProofs(store, [backup], { clock });
      expect(proofs.get(backup.id)?.verify?.passed).toBe(passed);
    }
  });
});

test('a proof has the time of the store, and this machine’s where the store tells none', async () => {
  for (const isTold of [true, false]) {
    const store = new MemoryStore({ clock: { now: () => NOW } });
    const backup = await backupIn(store);
    const faulty = new FaultyStore(store, {
      before: ({ method }) => {
        if (method === 'now' && !isTold) throw new PgarkError('store-access-denied', 'it may only be read');
      },
    });
    const context = operationContext({ clock: new ManualClock(inDays(90)) });
    await recordProof(faulty, backup, { kind: 'verify', runId: 'run', error: undefined }, context);
    const at = isTold ? NOW : inDays(90);
    expect([...store.objects.keys()]).toContain(keys.proof('main', 'shop', backup.id, at, 'verify'));
    const { verify } = (await newestProofs(store, [backup], context)).get(backup.id) ?? {};
    expect(verify).toMatchObject({ kind: 'verify', at, passed: true });
  }
});

test.each(['verify', 'drill'] as const)(
  'a proof by %s that cannot be recorded is a warning that says why',
  async (kind) => {
    const memory = new MemoryStore();
    const backup = await backupIn(memory);
    const store = new FaultyStore(memory, {
      before: ({ method }) => {
        if (method === 'putSmall') throw new PgarkError('store-access-denied', 'it may only be read');
      },
    });
    const warnings: unknown[] = [];
    const logger: Logger = { ...silentLogger, warning: (...said) => warnings.push(said) };
    const result = { kind, runId: 'run', error: undefined };
    expect(await recordProof(store, backup, result, operationContext({ logger }))).toBe(false);
    await recordProof(store, backup, { ...result, isToldOf: true }, operationContext({ logger }));
    expect(warnings).toEqual([
      [
        `${kind}.proof_not_recorded`,
        expect.stringContaining('it may only be read'),
        { backupId: backup.id, code: 'store-access-denied' },
      ],
    ]);
  },
);
