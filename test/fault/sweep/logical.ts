import { expect } from 'vitest';
import type { BackupRequest } from '../../../src/operations/backup.ts';
import type { RestoreOutcome } from '../../../src/operations/restore.ts';
import { dataKeysOf } from '../../../src/repository/repository.ts';
import { keys } from '../../../src/repository/keys.ts';
import type { Manifest } from '../../../src/repository/manifest.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import { restoreInto } from '../../support/archive-restoring.ts';
import { backUp, outcomesOf } from '../../support/destinations.ts';
import { s3Facts } from '../../support/facts.ts';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy.ts';
import { createDatabase, type TestDatabase } from '../../support/postgres.ts';
import { databaseNames, futureDatabase } from '../../support/restoring.ts';
import { createBucket, type TestBucket } from '../../support/s3.ts';
import { httpCases, injectHttp, isOvercome } from './http-faults.ts';
import { CasePlace, LEASE_TERM_MS } from './place.ts';
import { type FaultCase, type Lane, outcomeOf, type Swept } from './sweep.ts';

type LogicalFormat = 'plain' | 'directory';

/** More than one part of an upload. */
const ROWS = 1_150;
const SQL = `CREATE TABLE data AS SELECT n, (SELECT string_agg(md5((n * 256 + m)::text), '') FROM generate_series(1, 256) m) AS text
    FROM generate_series(1, ${ROWS}) n;
  ALTER TABLE data ADD PRIMARY KEY (n);
  CREATE TABLE changed (at int);
  CREATE SEQUENCE counter START 4711;
  CREATE VIEW seen AS SELECT n FROM data;
  SELECT lo_from_bytea(4711, 'content')`;
const CONTENT = `SELECT (SELECT md5(string_agg(md5(d::text), '' ORDER BY n)) FROM data d) AS data,
  (SELECT count(*)::int FROM changed) AS changed, (SELECT last_value::int FROM counter) AS counter,
  (SELECT count(*)::int FROM seen) AS seen, lo_get(4711)::text AS object`;
const BASE = 'base';

/** A database of which a bucket holds a backup, and which was changed since. */
class LogicalLane {
  readonly stack: AsyncDisposableStack;
  readonly database: TestDatabase;
  readonly bucket: TestBucket;
  readonly proxy: FaultProxy;
  readonly format: LogicalFormat;
  /** What the backup that is there holds, and what the database holds. */
  readonly before: unknown;
  readonly now: unknown;
  #cases = 0;

  private constructor(
    made: Pick<LogicalLane, 'stack' | 'database' | 'bucket' | 'proxy' | 'format' | 'before' | 'now'>,
  ) {
    this.stack = made.stack;
    this.database = made.database;
    this.bucket = made.bucket;
    this.proxy = made.proxy;
    this.format = made.format;
    this.before = made.before;
    this.now = made.now;
  }

  static async open(format: LogicalFormat): Promise<LogicalLane> {
    const stack = new AsyncDisposableStack();
    const database = stack.use(await createDatabase({ name: 'swept', sql: SQL }));
    const bucket = stack.use(await createBucket());
    const proxy = stack.use(await startFaultProxy(s3Facts().endpoint));
    await using base = await CasePlace.copyOf(bucket, 'nothing', proxy, BASE);
    base.keep();
    await backUpInto(database, base.store, format);
    const before = await contentOf(database);
    await database.query('INSERT INTO changed VALUES (1)');
    return new LogicalLane({ stack, database, bucket, proxy, format, before, now: await contentOf(database) });
  }

  /** A place of its own, with a copy of the backup. */
  async place(): Promise<CasePlace> {
    this.#cases += 1;
    return CasePlace.copyOf(this.bucket, BASE, this.proxy, `case-${this.#cases}`);
  }

  async expectRestores(place: CasePlace, { id }: Manifest, content: unknown): Promise<void> {
    await using restored = futureDatabase('swept back');
    await restoreInto(restored, place.store, { selector: { kind: 'name', name: id }, analyse: false });
    expect({ id, content: await contentOf(restored) }).toEqual({ id, content });
  }
}

async function contentOf(database: TestDatabase): Promise<unknown> {
  return (await database.query(CONTENT))[0];
}

async function backUpInto(
  database: TestDatabase,
  store: ObjectStore,
  format: LogicalFormat,
  changes: Partial<BackupRequest> & { readonly port?: number } = {},
): Promise<Manifest> {
  const outcome = await backUp(database, [{ destination: { name: 'store', store, needsDelete: true } }], {
    format,
    leaseTermMs: LEASE_TERM_MS,
    nameTemplate: '{database}-{id}.sql',
    jobs: 2,
    pieceBytes: 3 * 2 ** 20,
    ...changes,
  });
  const { error, manifest } = outcomesOf(outcome)['store'] ?? {};
  if (manifest === undefined) throw error ?? new Error('nothing was committed');
  return manifest;
}

/** What is a committed backup's own. */
function keysOfBackup(manifest: Manifest): readonly string[] {
  return [keys.manifest(manifest.source, manifest.database.name, manifest.id), ...dataKeysOf(manifest)];
}

function isReached({ position }: FaultCase, proxy: FaultProxy): boolean {
  return proxy.seen.length > position;
}

export function backupOverHttp(format: LogicalFormat): Swept {
  const openLane = async (): Promise<Lane> => {
    const lane = await LogicalLane.open(format);
    const { proxy, database } = lane;
    return {
      async cases() {
        await using place = await lane.place();
        proxy.setFaults(() => undefined);
        await backUpInto(database, place.openFaulty({ retriesMax: 0 }), format);
        return httpCases(proxy);
      },
      async run(fault) {
        await using place = await lane.place();
        const [base] = await place.manifests();
        if (base === undefined) throw new Error('there is no backup to begin with');
        const tags = await place.tags(keysOfBackup(base));
        const store = place.openFaulty(fault);
        injectHttp(proxy, fault);
        const { said, value } = await outcomeOf(backUpInto(database, store, format));
        const reached = isReached(fault, proxy);
        if (isOvercome(fault)) expect(said).toBe('done');
        await backUpInto(database, place.openLater(), format);
        const manifests = await place.expectSound();
        const ids = manifests.map(({ id }) => id);
        expect(ids).toEqual(expect.arrayContaining([base.id, ...(value === undefined ? [] : [value.id])]));
        expect(ids.length).toBeLessThanOrEqual(3);
        expect(ids.length).toBeGreaterThanOrEqual(value === undefined ? 2 : 3);
        expect(await place.tags(keysOfBackup(base))).toEqual(tags);
        await place.expectReleased([`shop/${database.name}`]);
        expect((await place.states('backup')).at(-1)).toBe('succeeded');
        // What lies there of the first is what it was, byte for byte, and that restores.
        for (const manifest of manifests.slice(1)) await lane.expectRestores(place, manifest, lane.now);
        return reached ? said : 'unreached';
      },
      [Symbol.asyncDispose]: () => lane.stack.disposeAsync(),
    };
  };
  return { name: `backup ${format}, HTTP`, openLane };
}

export function restoreOverHttp(format: LogicalFormat): Swept {
  const openLane = async (): Promise<Lane> => {
    const lane = await LogicalLane.open(format);
    const { proxy } = lane;
    const restore = (database: TestDatabase, store: ObjectStore): Promise<RestoreOutcome> =>
      restoreInto(database, store, { analyse: false, jobs: 2 });
    return {
      async cases() {
        await using place = await lane.place();
        await using restored = futureDatabase('swept back');
        proxy.setFaults(() => undefined);
        await restore(restored, place.openFaulty({ retriesMax: 0 }));
        expect(await contentOf(restored)).toEqual(lane.before);
        return httpCases(proxy);
      },
      async run(fault) {
        await using place = await lane.place();
        await using restored = futureDatabase('swept back');
        const store = place.openFaulty(fault);
        injectHttp(proxy, fault);
        const { said } = await outcomeOf(restore(restored, store));
        const reached = isReached(fault, proxy);
        if (isOvercome(fault)) expect(said).toBe('done');
        if (said !== 'done') {
          expect(await databaseNames(restored.name)).toEqual([]);
          await restore(restored, place.openLater());
        }
        expect(await contentOf(restored)).toEqual(lane.before);
        expect(await place.expectSound()).toHaveLength(1);
        return reached ? said : 'unreached';
      },
      [Symbol.asyncDispose]: () => lane.stack.disposeAsync(),
    };
  };
  return { name: `restore ${format}, HTTP`, openLane };
}
