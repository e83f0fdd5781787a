import { open } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { putTimelineHistory } from '../../src/formats/wal/store-piece.ts';
import { operationContext } from '../../src/operations/context.ts';
import { drill } from '../../src/operations/drill/drill.ts';
import type { DrillOutcome, DrillRequest } from '../../src/operations/drill/drill-request.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { errorOf } from '../support/destinations.ts';
import { Cluster } from '../support/cluster.ts';
import { s3Facts } from '../support/facts.ts';
import { DamagingStore } from '../support/damaging-store.ts';
import { type Fault, startFaultProxy } from '../support/fault-proxy.ts';
import { proofsIn, workFolder } from '../support/drills.ts';
import { backUpServer, manifestOf } from '../support/physical.ts';
import { archiveLoad, fetchFrom, type WrittenRow } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { smallDisk } from '../support/small-disk.ts';
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
  // As servers are that are not made for others to look through them.
  await cluster.sql('create database strict');
  await sqlIn('strict', [
    `create table t as select n, md5(n::text) as text from generate_series(1, 20000) n`,
    `create function refuse() returns event_trigger language plpgsql as $$ begin raise 'no extensions'; end $$`,
    `create event trigger strict on ddl_command_start when tag in ('CREATE EXTENSION') execute function refuse()`,
    `alter database strict set default_transaction_read_only = on`,
    `alter database strict set statement_timeout = '1ms'`,
  ]);
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

async function sqlIn(database: string, statements: readonly string[]): Promise<void> {
  const client = new Client({ host: '127.0.0.1', port: cluster.port, user: 'postgres', database });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

const s3 = (): Parameters<typeof backUpServer>[1][number] => ({
  destination: { name: 's3', store, needsDelete: false },
});

/** All rows are there, from the first to a last one between these. */
const rowsBetween = (least: number, most: number) => [
  { sql: `select count(*) = max(n) and max(n) between ${least} and ${most} from numbered` },
];

function drillServer(
  changes: Partial<DrillRequest>,
  fraction: number | (() => number) = 0.5,
  logger: Logger = silentLogger,
): Promise<DrillOutcome> {
  const context = operationContext({ logger });
  const random = { ...context.random, fraction: typeof fraction === 'number' ? () => fraction : fraction };
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
    const shut = `select string_agg(datname, ',') from pg_database where not datallowconn`;
    const outcome = await drillServer({
      assertions: [...rowsBetween(rows.length, rows.length), { sql: shut, equals: 'template0' }],
    });
    expect(outcome).toMatchObject({ assertions: 2, compared: { by: 'files', amcheck: 'passed' } });
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

  test('takes the server as it was at a time', async () => {
    const row = rows[rows.length - 100];
    const n = row?.n ?? 0;
    const time = new Date(row?.time ?? '');
    const { recovered } = await drillServer({ selector: { kind: 'at', time }, assertions: rowsBetween(n - 20, n) });
    expect(String(recovered?.lastTransaction) <= String(row?.time)).toBe(true);
    await work.expectEmpty();
  });

  test('follows the timeline of the newest base backup, whatever a copy of the server has archived', async () => {
    const systemIdentifier = await cluster.value('select system_identifier from pg_control_system()');
    const place = { store, folder: { source: 'main', systemIdentifier } };
    const fork = rows[0]?.lsn ?? '';
    await putTimelineHistory(place, '00000002.history', Buffer.from(`1\t${fork}\tno recovery target specified\n`));
    const messages: string[] = [];
    const logger: Logger = { ...silentLogger, warning: (_, message) => messages.push(message), child: () => logger };
    const latest = await drillServer({ assertions: rowsBetween(rows.length, rows.length) }, 0, logger);
    expect(latest.recovered?.plan?.timeline).toBe(1);
    const random = await drillServer({ selector: { kind: 'random' }, assertions: rowsBetween(20, rows.length) }, 0.5);
    expect(random.recovered?.plan?.timeline).toBe(1);
    expect(messages).toEqual([expect.stringMatching(/^timeline 1 is tried, which goes on from .*, the newest base/)]);
    for (const ending of ['', '.sha256']) await store.delete(`main/wal/${systemIdentifier}/00000002.history${ending}`);
    await work.expectEmpty();
  });

  test('says nothing of the backup where there is no room for it', async () => {
    await using disk = await smallDisk();
    const before = await proofsIn(store);
    await expect(drillServer({ scratch: { kind: 'own', workFolder: disk.path } })).rejects.toMatchObject({
      code: 'drill-impossible',
      exitCode: 1,
      message: expect.stringMatching(/cannot be tried here: .* would take about .*, and its disk has .* free/),
      hint: expect.stringContaining('--work-dir'),
    });
    expect(await proofsIn(store)).toEqual(before);
  });

  test.runIf(process.getuid?.() === 0)(
    'says whom the server runs as where only root may read the storage',
    async () => {
      const said = 'echo \'error  cannot list /srv: EACCES\' >&2; echo \'{"error":{"code":"store-failed"}}\'; exit 1';
      const fetch = { commandFor: () => ['/bin/sh', '-c', said], directory: '/', environment: {} };
      expect(await errorOf(drillServer({ fetch }))).toMatchObject({
        code: 'drill-impossible',
        message: expect.stringContaining('EACCES'),
        hint: expect.stringMatching(/runs as postgres/),
      });
      await work.expectEmpty();
    },
  );

  test.each<[string, Fault, object, boolean]>([
    [
      'nothing of the backup where the storage lets nobody read once the recovery has begun',
      { kind: 'answer', status: 403, code: 'ExpiredToken' },
      { code: 'drill-impossible', exitCode: 1, message: expect.stringMatching(/cannot be tried here: .*restore file/) },
      false,
    ],
    [
      'that it does not restore where the storage gives damaged WAL then',
      { kind: 'damage', what: 'answer' },
      { code: 'recovery-failed', exitCode: 20 },
      true,
    ],
  ])('says %s', async (_, fault, expected, isRecorded) => {
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    proxy.setFaults(({ operation, url }) =>
      operation === 'GetObject' && url.pathname.includes('/wal/') ? fault : undefined,
    );
    const before = await proofsIn(store);
    const fetch = fetchFrom({ ...bucket.env, S3_ENDPOINT: proxy.endpoint });
    expect(await errorOf(drillServer({ fetch }))).toMatchObject(expected);
    const proofs = await proofsIn(store);
    expect(proofs.slice(before.length).map(({ passed }) => passed)).toEqual(isRecorded ? [false] : []);
    await work.expectEmpty();
  });

  test('passes where WAL is damaged on the way the first time, and tries the same point again', async () => {
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    let isRepeated = false;
    proxy.setFaults(({ operation, url }) =>
      !isRepeated && operation === 'GetObject' && url.pathname.includes('/wal/')
        ? { kind: 'damage', what: 'answer' }
        : undefined,
    );
    const warning = (event: string): void => void (isRepeated ||= event === 'drill.repeated');
    const logger: Logger = { ...silentLogger, warning, child: () => logger };
    const before = await proofsIn(store);
    const fetch = fetchFrom({ ...bucket.env, S3_ENDPOINT: proxy.endpoint });
    // Another draw would give the very beginning.
    const fraction = (): number => (isRepeated ? 0 : 0.999);
    const { recovered } = await drillServer({ fetch, selector: { kind: 'random' } }, fraction, logger);
    expect(isRepeated).toBe(true);
    const late = rows.slice(rowsBefore)[400]?.time ?? '';
    expect(String(recovered?.lastTransaction) > late).toBe(true);
    expect((await proofsIn(store)).slice(before.length)).toMatchObject([{ passed: true }]);
    await work.expectEmpty();
  });

  test('is not possible on a server that is there', async () => {
    const scratch = { kind: 'given', connection: cluster.connection } as const;
    await expect(drillServer({ scratch })).rejects.toMatchObject({ code: 'usage' });
  });

  test('fails where the sums are damaged, which no restore reads', async () => {
    const isSums = (key: string): boolean => key.endsWith('/SHA256SUMS');
    const error = await errorOf(drillServer({ store: new DamagingStore(store, isSums) }));
    expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining('/SHA256SUMS') });
    expect((await proofsIn(store)).at(-1)).toMatchObject({ passed: false, error: { code: 'corrupt' } });
    await work.expectEmpty();
  });

  test('finds an index that lacks a row, also in a database that lets nobody in', async () => {
    await cluster.sql('create database shut');
    const ready = (is: boolean) =>
      `update pg_index set indisready = ${is} where indexrelid = 'public.lacking_n'::regclass`;
    await sqlIn('shut', [
      'create table lacking as select n from generate_series(1, 2000) n',
      'create index lacking_n on lacking (n)',
      ready(false),
      'insert into lacking values (0)',
      ready(true),
    ]);
    await cluster.sql('alter database shut allow_connections false');
    const { id } = manifestOf(await backUpServer(cluster, [s3()]));
    const error = await errorOf(drillServer({ selector: { kind: 'name', name: id } }));
    expect(error).toMatchObject({ code: 'drill-failed', exitCode: 20 });
    expect(error.message).toMatch(/found the restored server damaged: .*shut\.public\.lacking_n/);
    expect((await proofsIn(store)).at(-1)).toMatchObject({ backupId: id, passed: false });
    await cluster.sql('drop database shut');
    await work.expectEmpty();
  });

  test('an index whose function names no schemas is no damage, and is named', async () => {
    await cluster.sql('create database unqualified');
    await sqlIn('unqualified', [
      'create table t as select n from generate_series(1, 100) n',
      'create function half(n int) returns int immutable language sql as $$ select n / 2 $$',
      'create function called(n int) returns int immutable language plpgsql as $$ begin return half(n); end $$',
      'create index by_call on t (called(n))',
    ]);
    const { id } = manifestOf(await backUpServer(cluster, [s3()]));
    const messages: string[] = [];
    const logger: Logger = { ...silentLogger, warning: (_, message) => messages.push(message), child: () => logger };
    const outcome = await drillServer({ selector: { kind: 'name', name: id } }, 0, logger);
    expect(outcome.compared).toEqual({ by: 'files', amcheck: 'rows-in-part' });
    expect(messages).toEqual([
      expect.stringMatching(/unqualified\.public\.by_call.*function half\(integer\) does not/),
    ]);
    await cluster.sql('drop database unqualified');
    await work.expectEmpty();
  });

  test('finds a page that was damaged before it was backed up', async () => {
    await cluster.sql('create table damaged as select n from generate_series(1, 2000) n');
    await cluster.sql('vacuum freeze damaged');
    await cluster.sql('checkpoint');
    const relation = await cluster.value(`select pg_relation_filepath('damaged')`);
    const file = await open(path.join(cluster.dataDirectory, relation), 'r+');
    await file.write(Buffer.alloc(2_048, 0x01), 0, 2_048, 4_096);
    await file.close();
    const { id } = manifestOf(await backUpServer(cluster, [s3()]));
    const error = await errorOf(drillServer({ selector: { kind: 'name', name: id } }));
    expect(error).toMatchObject({ code: 'drill-failed', exitCode: 20 });
    expect(error.message).toMatch(/pg_amcheck found the restored server damaged: .*postgres\.public\.damaged/);
    expect(error.hint).toContain('pg_amcheck --heapallindexed on the original');
    expect((await proofsIn(store)).at(-1)).toMatchObject({ backupId: id, passed: false });
    await work.expectEmpty();
  });
});
