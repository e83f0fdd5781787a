import { describe, expect, test } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import type { BackupDestination } from '../../src/operations/backup.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { backUp, backupsIn, outcomesOf } from '../support/destinations.ts';
import { FaultyStore, type StoreCall } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { createDatabase } from '../support/postgres.ts';

/** Calls of a backup are far fewer; a sweep that does not end is a defect. */
const CALLS_MAX = 200;
const LEASE_TERM_MS = 60_000;

function into(name: string, store: ObjectStore): { readonly destination: BackupDestination } {
  return { destination: { name, store, needsDelete: true } };
}

describe('each call to one of two stores fails once in a backup', () => {
  test.each(['before', 'after'] as const)(
    '%s it is carried out: the other has the backup each time, and the next run leaves nothing but whole ones',
    async (when) => {
      await using database = await createDatabase({
        name: 'faults',
        sql: 'create table t as select generate_series(1, 100) as id',
      });
      let failures = 0;
      for (let number = 1; number <= CALLS_MAX; number += 1) {
        let storeAheadMs = 0;
        const clock = { now: () => new Date(Date.now() + storeAheadMs) };
        const [sound, memory] = [new MemoryStore({ clock }), new MemoryStore({ clock })];
        const fail = (call: StoreCall): void => {
          if (call.number === number) throw new PgarkError('store-unreachable', `call ${number} was cut off`);
        };
        const faulty = new FaultyStore(memory, { [when]: fail });
        const options = { nameTemplate: '{id}/{database}', leaseTermMs: LEASE_TERM_MS };
        const first = outcomesOf(await backUp(database, [into('faulty', faulty), into('sound', sound)], options));
        expect(first['sound']?.manifest).toBeDefined();
        expect(await backupsIn(sound)).toEqual({ count: 1, leftovers: [] });
        if (first['faulty']?.error !== undefined) failures += 1;
        const reached = faulty.calls >= number;
        // A run whose lease could not be given back is dead when the store says so.
        storeAheadMs = 2 * LEASE_TERM_MS;
        const second = outcomesOf(await backUp(database, [into('faulty', memory), into('sound', sound)], options));
        expect([second['faulty']?.error, second['sound']?.error]).toEqual([undefined, undefined]);
        expect(await backupsIn(sound)).toEqual({ count: 2, leftovers: [] });
        const { count, leftovers } = await backupsIn(memory);
        expect(leftovers).toEqual([]);
        expect(count).toBeGreaterThanOrEqual(first['faulty']?.error === undefined ? 2 : 1);
        if (!reached) break;
        expect(number).toBeLessThan(CALLS_MAX);
      }
      expect(failures).toBeGreaterThan(5);
    },
    300_000,
  );
});
