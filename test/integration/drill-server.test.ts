import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { drill } from '../../src/operations/drill/drill.ts';
import type { DrillOutcome, DrillRequest } from '../../src/operations/drill/drill-request.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { proofsIn, workFolder } from '../support/drills.ts';
import { backUpServer } from '../support/physical.ts';
import { archiveLoad, fetchFrom, type WrittenRow } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { NO_KEYS, type Receiving, startReceiving } from '../support/wal-receiving.ts';

/** Where a command line that names only the bucket looks. */
const PREFIX = 'postgres-backups';

let cluster: Cluster;
let work: Awaited<ReturnType<typeof workFolder>>;
let bucket: TestBucket;
let store: ObjectStore;
let receiving: Receiving;
let rows: readonly WrittenRow[];
/** How many of them were there when the backup had ended. */
let rowsBefore: number;

beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  work = await workFolder();
  bucket = await createBucket();
  store = openS3Store(bucket.name, { prefix: PREFIX });
  receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
  await receiving.streams();
  ({ rows, rowsBefore } = await archiveLoad(cluster, receiving, {
    backUp: () => backUpServer(cluster, [s3()]),
    more: 500,
  }));
});
afterAll(async () => {
  await receiving[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
  await store.close();
  await bucket[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

const s3 = (): Parameters<typeof backUpServer>[1][number] => ({
  destination: { name: 's3', store, needsDelete: false },
});

/** All rows are there, from the first to a last one between these. */
const rowsBetween = (least: number, most: number) => [
  { sql: `select count(*) = max(n) and max(n) between ${least} and ${most} from numbered` },
];

function drillServer(changes: Partial<DrillRequest>, fraction = 0.5): Promise<DrillOutcome> {
  const context = operationContext();
  const random = { ...context.random, fraction: () => fraction };
  return drill(
    {
      store,
      filter: {},
      selector: { kind: 'latest' },
      keys: NO_KEYS,
      assertions: [],
      scratch: { kind: 'own', workFolder: work.path },
      fetch: fetchFrom(bucket.env),
      ...changes,
    },
    { ...context, random },
  );
}

describe('a drill of a whole server', { timeout: 480_000 }, () => {
  test('brings it back with all that is archived, and looks through tables and indexes', async () => {
    const outcome = await drillServer({ assertions: rowsBetween(rows.length, rows.length) });
    expect(outcome).toMatchObject({ assertions: 1, compared: { by: 'files', amcheck: 'passed' } });
    const last = rows.at(-1)?.time ?? '';
    expect(String(outcome.recovered?.lastTransaction) <= last).toBe(true);
    await work.expectEmpty();
    const proof = (await proofsIn(store)).at(-1);
    expect(proof).toMatchObject({ passed: true, recoveredTo: { timeline: 1, lsn: expect.stringMatching(/^0\//) } });
  });

  test('takes any point between the backup and the end of what is archived, and one that is named to its own end', async () => {
    const found: string[] = [];
    for (const fraction of [0, 0.999]) {
      const { recovered } = await drillServer(
        { selector: { kind: 'random' }, assertions: rowsBetween(20, rows.length) },
        fraction,
      );
      found.push(recovered?.lastTransaction ?? '');
    }
    // Of 500 rows behind the backup at least a hundred were written in between.
    const times = rows.slice(rowsBefore).map(({ time }) => time);
    expect(String(found[0]) < String(times[100]) && String(times[400]) < String(found[1])).toBe(true);
    const [{ backupId } = { backupId: '' }] = (await proofsIn(store)) as { readonly backupId: string }[];
    await drillServer({ selector: { kind: 'name', name: backupId }, assertions: rowsBetween(20, rowsBefore + 1) });
    await work.expectEmpty();
  });

  test('is not possible on a server that is there', async () => {
    const scratch = { kind: 'given', connection: cluster.connection } as const;
    await expect(drillServer({ scratch })).rejects.toMatchObject({ code: 'usage' });
  });
});
