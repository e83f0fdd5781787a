import { expect } from 'vitest';
import { type Clock, systemClock } from '../../../src/common/clock.ts';
import { MIB } from '../../../src/common/bytes.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import type { Cluster } from '../../support/cluster.ts';
import { keysOf } from '../../support/destinations.ts';
import { createBucket } from '../../support/s3.ts';
import {
  Archived,
  dropSlots,
  flushedLsn,
  load,
  type Receiving,
  startReceiving,
  startWitnessed,
  walFolder,
} from '../../support/wal-receiving.ts';
import { CasePlace } from './place.ts';
import { type Lane, type Swept, UNREACHED } from './sweep.ts';
import { openWires, type WireName } from './wires.ts';

/** The receiver's pauses pass so many times as fast. */
const HASTE = 20;
const CLOCK: Clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs() * HASTE,
  sleep: (ms, signal) => systemClock.sleep(ms / HASTE, signal),
};

/** WAL comes in whole segments and a part of one; the receiver is stopped when all is archived. */
async function receiveSome(cluster: Cluster, receiving: Receiving): Promise<void> {
  await receiving.streams();
  await cluster.sql(load(200));
  await cluster.sql('select pg_switch_wal()');
  await cluster.sql(load(20));
  await receiving.archives(await flushedLsn(cluster));
}

/** The receiver never gives up: whatever happens once, all is archived in the end. */
export function walReceiving(wire: WireName): Swept {
  const openLane = async (): Promise<Lane> => {
    const stack = new AsyncDisposableStack();
    const { cluster, witness } = stack.use(await startWitnessed());
    const bucket = stack.use(await createBucket());
    const wires = stack.use(await openWires(wire, { host: '127.0.0.1', port: cluster.port }));
    let cases = 0;
    const newPlace = (): Promise<CasePlace> => {
      cases += 1;
      return CasePlace.copyOf(bucket, 'nothing', wires.http, `case-${cases}`);
    };
    const receive = (store: ObjectStore, port: number): Receiving =>
      startReceiving(connected(cluster, port), [store], { slot: `case_${cases}`, flushMs: 4_000, clock: CLOCK });
    return {
      async cases() {
        await using place = await newPlace();
        const store = place.openThrough({ retriesMax: 0 });
        wires.count();
        {
          await using receiving = receive(store, wires.port);
          await receiveSome(cluster, receiving);
        }
        await dropSlots(cluster);
        return wires.cases();
      },
      async run(fault) {
        await using place = await newPlace();
        const store = place.openFaulty(fault);
        wires.inject(fault);
        let alarms: readonly string[];
        {
          await using receiving = receive(store, wires.port);
          await receiveSome(cluster, receiving);
          alarms = receiving.alarms.map(({ kind }) => kind);
        }
        const isReached = wires.calm();
        expect(alarms).not.toContain('gap');
        {
          await using receiving = receive(place.openLater(), cluster.port);
          await receiveSome(cluster, receiving);
        }
        await cluster.sql('select pg_switch_wal()');
        const archived = new Archived(place.store, await walFolder(cluster), MIB);
        await archived.onlyStretch();
        expect(await archived.expectAsWitness(witness)).toBeGreaterThanOrEqual(2);
        const uploads: string[] = [];
        for await (const { key } of place.store.listUploads('')) uploads.push(key);
        const strange = (await keysOf(place.store)).filter(
          (key) => !/^(shop\/wal\/|\.pgark\/(wal|leases)\/|\.pgark\/repository\.json$)/.test(key),
        );
        expect({ uploads, strange }).toEqual({ uploads: [], strange: [] });
        await dropSlots(cluster);
        return isReached ? ['done', ...new Set(alarms)].join(' after ') : UNREACHED;
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  };
  return { name: `wal receive, ${wire}`, openLane };
}

function connected(cluster: Cluster, port: number): Pick<Cluster, 'connection'> {
  return { connection: { ...cluster.connection, port } };
}
