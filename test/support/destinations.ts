import { type Clock, systemClock } from '../../src/common/clock.ts';
import type { PgarkError } from '../../src/common/errors.ts';
import type { Logger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import {
  backup,
  type BackupDestination,
  type BackupOutcome,
  type BackupRequest,
  type DestinationOutcome,
} from '../../src/operations/backup.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { keys } from '../../src/repository/keys.ts';
import { Repository } from '../../src/repository/repository.ts';
import { listRunRecords } from '../../src/runs/list-run-records.ts';
import type { RunRecord } from '../../src/runs/run-record.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { postgresFacts, s3Facts } from './facts.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { openFileStore } from './file-place.ts';
import type { TestDatabase } from './postgres.ts';
import { createBucket } from './s3.ts';
import { openS3Store } from './s3-store.ts';

/** A destination of a test's own, and a look inside that no fault touches. */
export interface TestDestination extends AsyncDisposable {
  readonly destination: BackupDestination;
  /** The same place without a proxy before it. */
  readonly store: ObjectStore;
  /** Before the S3 server. */
  readonly proxy: FaultProxy;
}

export async function s3Destination(name: string): Promise<TestDestination> {
  const stack = new AsyncDisposableStack();
  const bucket = stack.use(await createBucket());
  const proxy = stack.use(await startFaultProxy(s3Facts().endpoint));
  const open = (options: { endpoint?: string }): ObjectStore => {
    const store = openS3Store(bucket.name, options);
    stack.defer(() => store.close());
    return store;
  };
  const store = open({});
  return {
    destination: { name, store: open({ endpoint: proxy.endpoint }), needsDelete: false },
    store,
    proxy,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export async function fileDestination(name: string): Promise<Omit<TestDestination, 'proxy'>> {
  const { store, dispose } = await openFileStore();
  return { destination: { name, store, needsDelete: false }, store, [Symbol.asyncDispose]: dispose };
}

export interface BackUpOptions extends Partial<BackupRequest> {
  /** Of a proxy before PostgreSQL. */
  readonly port?: number;
  readonly logger?: Logger;
  /** How much faster than others its pauses pass. */
  readonly haste?: number;
  /** Instead of the system's. */
  readonly clock?: Clock;
}

export async function backUp(
  database: TestDatabase,
  destinations: readonly { readonly destination: BackupDestination }[],
  { port, logger, haste = 1, clock: time = systemClock, ...changes }: BackUpOptions = {},
): Promise<BackupOutcome> {
  const { password, ...server } = { ...postgresFacts(), ...(port === undefined ? {} : { port }) };
  const request: BackupRequest = {
    source: 'shop',
    connection: { ...server, password: new Secret(password), database: database.name, sslMode: 'disable' },
    destinations: destinations.map(({ destination }) => destination),
    seal: { compression: { algorithm: 'none', level: 0 } },
    nameTemplate: '{database}_{YYYY-MM-DDTHH:MM:SSZ}',
    excludeTableData: [],
    leaseTermMs: 60_000,
    readBack: false,
    dryRun: false,
    ...changes,
  };
  const clock: Clock = {
    now: () => time.now(),
    monotonicMs: () => time.monotonicMs(),
    sleep: (ms, signal) => time.sleep(ms / haste, signal),
  };
  return backup(request, operationContext({ clock, ...(logger === undefined ? {} : { logger }) }));
}

/** What came of each destination, by its name; the backup has to be committed somewhere. */
export function outcomesOf(outcome: BackupOutcome): Readonly<Record<string, DestinationOutcome>> {
  if (outcome.kind !== 'committed') throw new Error('nothing was committed');
  return Object.fromEntries(outcome.destinations.map((each) => [each.name, each]));
}

export async function keysOf(store: ObjectStore, prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list(prefix)) found.push(key);
  return found;
}

/** So many backups, each whole to the last byte, and beside them nothing: no object, no upload, no intent. */
export async function backupsIn(store: ObjectStore): Promise<{ count: number; leftovers: readonly string[] }> {
  const context = operationContext();
  const repository = new Repository(store, context);
  const { manifests, damaged } = await repository.backups();
  const request = { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } };
  const { backups } = manifests.length === 0 ? { backups: [] } : await verify(request, context);
  const leftovers = [
    ...damaged.map(({ key }) => key),
    ...backups.flatMap(({ failure }) => (failure === undefined ? [] : [failure.message])),
    ...(await keysOf(store, keys.intentsPrefix)),
  ];
  for await (const { key } of store.listUploads('')) leftovers.push(`upload of ${key}`);
  for await (const { key } of repository.unclaimedObjects(manifests)) leftovers.push(key);
  return { count: manifests.length, leftovers };
}

/** The records of backups, the oldest first. */
export async function recordsIn(store: ObjectStore): Promise<RunRecord[]> {
  const records = await listRunRecords(store, { since: new Date(0) });
  return records.filter(({ kind }) => kind === 'backup');
}

/** The error that something has to reject with. */
export async function errorOf(promise: Promise<unknown>): Promise<PgarkError> {
  try {
    await promise;
  } catch (error) {
    return error as PgarkError;
  }
  throw new Error('it did not fail');
}
