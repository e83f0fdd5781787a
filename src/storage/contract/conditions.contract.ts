import { describe, expect, test } from 'vitest';
import { isPgarkError } from '../../common/errors.ts';
import type { ObjectInfo, ObjectStore } from '../object-store.ts';
import { type ContractContext, bytesText, readAll, readObject, textBytes, uploadsOf } from './harness.contract.ts';

const RACERS = 8;

/** Writes on condition, which leases are built on. */
export function describeConditions(context: ContractContext): void {
  if (!context.options.conditionalWrites) return;
  const clientOf = (racer: number): ObjectStore => (racer % 2 === 0 ? context.store : context.other);
  const failed = { code: 'store-condition-failed' };

  /** All at once; the one that won, after a check that all others lost for the right reason. */
  const race = async (run: (racer: number) => Promise<ObjectInfo>): Promise<{ racer: number; info: ObjectInfo }> => {
    const outcomes = await Promise.allSettled(Array.from({ length: RACERS }, (_, racer) => run(racer)));
    const winners: { racer: number; info: ObjectInfo }[] = [];
    for (const [racer, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled') winners.push({ racer, info: outcome.value });
      else expect(outcome.reason).toMatchObject(failed);
    }
    expect(winners).toHaveLength(1);
    const [winner] = winners;
    if (winner === undefined) throw new Error('nobody won');
    return winner;
  };

  describe('a conditional write', () => {
    test('creates an object only if it is absent', async () => {
      const folder = context.folder();
      await context.store.putSmall(`${folder}lease`, textBytes('mine'), { condition: { ifAbsent: true } });
      const second = context.other.putSmall(`${folder}lease`, textBytes('yours'), { condition: { ifAbsent: true } });
      await expect(second).rejects.toMatchObject(failed);
      expect(bytesText(await readObject(context.other, `${folder}lease`))).toBe('mine');
      await context.store.delete(`${folder}lease`);
      await context.other.putSmall(`${folder}lease`, textBytes('yours'), { condition: { ifAbsent: true } });
      expect(bytesText(await readObject(context.store, `${folder}lease`))).toBe('yours');
      expect(await uploadsOf(context.store, folder)).toEqual([]);
    });

    test('replaces an object only if it is the one that was seen', async () => {
      const folder = context.folder();
      const first = await context.store.putSmall(`${folder}lease`, textBytes('term 1'));
      const second = await context.store.putSmall(`${folder}lease`, textBytes('term 2'), {
        condition: { ifMatch: first.etag },
      });
      expect(second.etag).not.toBe(first.etag);
      const late = context.other.putSmall(`${folder}lease`, textBytes('late'), { condition: { ifMatch: first.etag } });
      await expect(late).rejects.toMatchObject(failed);
      expect(bytesText(await readObject(context.other, `${folder}lease`))).toBe('term 2');
      const seen = await context.other.head(`${folder}lease`);
      expect(seen?.etag).toBe(second.etag);
      const { info, body } = await context.other.get(`${folder}lease`);
      expect(bytesText(await readAll(body))).toBe('term 2');
      await context.other.putSmall(`${folder}lease`, textBytes('term 3'), { condition: { ifMatch: info.etag } });
      expect(bytesText(await readObject(context.store, `${folder}lease`))).toBe('term 3');
    });

    test('that wants an object fails where there is none, and does not make one', async () => {
      const folder = context.folder();
      const first = await context.store.putSmall(`${folder}lease`, textBytes('gone soon'));
      await context.store.delete(`${folder}lease`);
      const run = context.store.putSmall(`${folder}lease`, textBytes('back?'), { condition: { ifMatch: first.etag } });
      await expect(run).rejects.toMatchObject(failed);
      expect(await context.other.head(`${folder}lease`)).toBeUndefined();
      expect(await uploadsOf(context.store, folder)).toEqual([]);
    });

    test('tells contents of the same length apart', async () => {
      const folder = context.folder();
      const etags = new Set<string>();
      for (let turn = 0; turn < 20; turn += 1) {
        etags.add((await context.store.putSmall(`${folder}lease`, textBytes(`term ${turn + 10}`))).etag);
      }
      expect(etags.size).toBe(20);
    });

    test('of several that create has exactly one winner', async () => {
      for (let round = 0; round < 5; round += 1) {
        const key = `${context.folder()}lease`;
        const winner = await race((racer) =>
          clientOf(racer).putSmall(key, textBytes(`racer ${racer}`), { condition: { ifAbsent: true } }),
        );
        expect(bytesText(await readObject(context.store, key))).toBe(`racer ${winner.racer}`);
        expect((await context.other.head(key))?.etag).toBe(winner.info.etag);
      }
    });

    test('of several that replace has exactly one winner', async () => {
      const key = `${context.folder()}lease`;
      let { etag } = await context.store.putSmall(key, textBytes('start'));
      for (let round = 0; round < 5; round += 1) {
        const seen = etag;
        const winner = await race((racer) =>
          clientOf(racer).putSmall(key, textBytes(`round ${round} racer ${racer}`), { condition: { ifMatch: seen } }),
        );
        expect(bytesText(await readObject(context.store, key))).toBe(`round ${round} racer ${winner.racer}`);
        etag = winner.info.etag;
      }
    });

    test('loses no update of a counter that many raise', async () => {
      const key = `${context.folder()}counter`;
      await context.store.putSmall(key, textBytes('0'));
      const raise = async (client: ObjectStore): Promise<void> => {
        for (let done = 0; done < 10; ) {
          const { info, body } = await client.get(key);
          const next = Number(bytesText(await readAll(body))) + 1;
          try {
            await client.putSmall(key, textBytes(String(next)), { condition: { ifMatch: info.etag } });
            done += 1;
          } catch (error) {
            if (!isPgarkError(error, 'store-condition-failed')) throw error;
          }
        }
      };
      await Promise.all([0, 1, 2, 3].map((racer) => raise(clientOf(racer))));
      expect(bytesText(await readObject(context.store, key))).toBe('40');
    });
  });
}
