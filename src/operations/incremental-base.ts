import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { PhysicalObjects } from '../formats/physical/physical-objects.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import { connect } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { haveSummariesSince, type IncrementalFacts } from '../postgres/replication/incremental-facts.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { FULL_EVERY_DEFAULT } from '../retention/policy.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { insteadOf, OtherLogError, warnOfFull } from './full-instead.ts';
import { whyOtherLog } from './same-log.ts';

/** How an incremental backup is wanted. */
export interface IncrementalRequest {
  /** Id of the backup that it is relative to; then no full one is made in its place. Default: the newest. */
  readonly from?: string | undefined;
  /** Backups of a chain, its full one included: then a full one is due. Default: 30. */
  readonly fullEvery?: number | undefined;
  /** To read the list of the files of a backup that is encrypted. */
  readonly keys: DecryptionKeys;
}

/** The first version that makes incremental backups. */
const MAJOR_MIN = 17;

/** The server that is backed up, as it is now. */
interface CurrentServer extends IncrementalFacts {
  readonly major: number;
  readonly systemIdentifier: string;
  readonly timeline: number;
}

export interface BaseSearch {
  readonly request: IncrementalRequest;
  readonly source: string;
  readonly database: string;
  readonly connection: ConnectionParameters;
  readonly stores: readonly ObjectStore[];
  readonly server: CurrentServer;
  readonly applicationName: string;
  readonly logger: Logger;
}

/** A backup that an incremental one can be relative to. */
export interface IncrementalBase {
  readonly manifest: Manifest;
  readonly objects: PhysicalObjects;
}

/** Why there is no incremental backup; `isUsual` where that is as it should be. */
class Unfit extends Error {
  readonly isUsual: boolean;

  constructor(why: string, isUsual = false) {
    super(why);
    this.isUsual = isUsual;
  }
}

/**
 * The backup that an incremental one is made relative to: one that all storages have. Undefined, with the reason in the log,
 * where a full backup is to be made: none is there yet, the chain is long enough, the server or the storages do not allow
 * it. Errors: where the backup was named, `usage` and `backup-not-found`.
 */
export async function findIncrementalBase(
  search: BaseSearch,
  context: Pick<OperationContext, 'signal' | 'clock' | 'random'>,
): Promise<IncrementalBase | undefined> {
  const { from } = search.request;
  try {
    return await find(search, context);
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    if (from !== undefined) {
      throw new PgarkError('usage', `no incremental backup can be made from ${from}: ${error.message}`, {
        hint: 'leave --from out, and --incremental where a full backup is wanted',
      });
    }
    if (error.isUsual) search.logger.info('backup.full_due', insteadOf(error.message));
    else warnOfFull(search.logger, error.message);
    return undefined;
  }
}

/** Error: `backup-not-found` for the first backup of the chain that is not in the store. */
export async function confirmChain(
  store: ObjectStore,
  { id, source, database, parents }: Manifest,
  signal: AbortSignal,
): Promise<void> {
  for (const each of [id, ...parents]) {
    if ((await store.head(keys.manifest(source, database.name, each), { signal })) !== undefined) continue;
    throw new PgarkError('backup-not-found', `${each}, which the backup is relative to, is not in ${store.location}`, {
      hint: 'make a full backup there: pgark backup --format physical',
    });
  }
}

async function find(
  search: BaseSearch,
  context: Pick<OperationContext, 'signal' | 'clock' | 'random'>,
): Promise<IncrementalBase> {
  const { request, server } = search;
  const { signal } = context;
  if (server.major < MAJOR_MIN) {
    throw new Unfit(`the server is PostgreSQL ${server.major}, and ${MAJOR_MIN} is the first that makes them`);
  }
  if (server.summarizesWal !== true) {
    throw new Unfit('summarize_wal is off on the server (ALTER SYSTEM SET summarize_wal = on, and reload it)');
  }
  const { manifest, store } = await newestIn(search, context);
  checkFit(manifest, server);
  const chainLength = manifest.parents.length + 1;
  if (request.from === undefined && chainLength >= (request.fullEvery ?? FULL_EVERY_DEFAULT)) {
    throw new Unfit(`the chain of ${manifest.id} has ${chainLength} backups, and is as long as it may be`, true);
  }
  const objects = new PhysicalObjects(manifest, { store, keys: request.keys, signal });
  await readListing(objects, signal);
  await checkSummaries(search, objects, signal);
  return { manifest, objects };
}

/**
 * Error: `OtherLogError` where the server's log turns out not to be the one that the backup was made in. Once the server has
 * begun an incremental backup it has summaries of all before; what was not known when the backup was looked for is known then.
 */
export async function confirmSameLog(
  { objects }: IncrementalBase,
  { connection, applicationName }: Pick<BaseSearch, 'connection' | 'applicationName'>,
  signal: AbortSignal,
): Promise<void> {
  const opening = connect(connection, { applicationName, signal });
  const why = await withSession(opening, signal, (session) => whyOtherLog(session, objects));
  if (why !== undefined) throw new OtherLogError(objects.manifest.id, why);
}

/** Error: `Unfit` where the server is not the one that was backed up, or not any more. */
function checkFit({ id, server, timeline, startLsn }: Manifest, current: CurrentServer): void {
  if (server.systemIdentifier !== current.systemIdentifier) {
    throw new Unfit(`${id} is of another server, with the system identifier ${server.systemIdentifier ?? 'unknown'}`);
  }
  if (timeline !== current.timeline || startLsn === undefined) {
    throw new Unfit(`${id} is of timeline ${timeline ?? 'unknown'}, and the server is on ${current.timeline}`);
  }
}

/** The newest one that all storages have with its whole chain, or the one that was named. */
async function newestIn(
  { request, source, database, stores }: BaseSearch,
  context: Pick<OperationContext, 'signal' | 'clock' | 'random'>,
): Promise<{ readonly manifest: Manifest; readonly store: ObjectStore }> {
  const { signal } = context;
  const filter = { source, database, kind: 'physical' } as const;
  const listings: { readonly store: ObjectStore; readonly found: ReadonlyMap<string, Manifest> }[] = [];
  for (const store of stores) {
    try {
      const { manifests } = await new Repository(store, context).backups(filter, { signal });
      listings.push({ store, found: new Map(manifests.map((manifest) => [manifest.id, manifest])) });
    } catch (error) {
      signal.throwIfAborted();
      // A storage that is away drops out by its own check; one that is back by then has its chain confirmed.
      if (!(error instanceof PgarkError)) throw error;
    }
  }
  const [first, ...others] = listings;
  if (first === undefined) throw new Unfit('no storage can be read');
  const { from } = request;
  if (from !== undefined && !listings.some(({ found }) => found.has(from))) {
    throw new PgarkError('backup-not-found', `there is no physical backup ${from} of ${source}`, {
      hint: 'pgark list shows what there is; --from wants an id',
    });
  }
  const newestFirst = [...first.found.values()].reverse();
  const wanted = newestFirst.filter(({ id }) => from === undefined || id === from);
  const whole = wanted.find(({ id, parents }) =>
    [id, ...parents].every((each) => [first, ...others].every(({ found }) => found.has(each))),
  );
  if (whole !== undefined) return { manifest: whole, store: first.store };
  const places = listings.map(({ store }) => store.location).join(' and ');
  const isFirst = listings.every(({ found }) => found.size === 0);
  throw new Unfit(isFirst ? `there is no physical backup in ${places} yet` : `no chain is whole in ${places}`, isFirst);
}

/** Reads the list of files to its end, so that it is known before anything is begun that a key opens it. */
async function readListing(objects: PhysicalObjects, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of objects.read(objects.named('backup_manifest'), { signal })) signal.throwIfAborted();
  } catch (error) {
    signal.throwIfAborted();
    const isOfBackup = ['corrupt', 'object-not-found', 'repository-damaged', 'key-missing', 'wrong-key'] as const;
    if (!isOfBackup.some((code) => isPgarkError(error, code))) throw error;
    throw new Unfit(`the list of files of ${objects.manifest.id} cannot be read: ${messageOf(error)}`);
  }
}

async function checkSummaries(
  { connection, applicationName }: BaseSearch,
  objects: PhysicalObjects,
  signal: AbortSignal,
): Promise<void> {
  const { id, timeline = 0, startLsn: lsn = '0/0' } = objects.manifest;
  const opening = connect(connection, { applicationName, signal });
  await withSession(opening, signal, async (session) => {
    if (!(await haveSummariesSince(session, { timeline, lsn }))) {
      throw new Unfit(
        `the server has no summaries of its write-ahead log since ${id}: summarize_wal was off, or wal_summary_keep_time is shorter than backups are apart`,
      );
    }
    const why = await whyOtherLog(session, objects);
    if (why !== undefined) throw new Unfit(why);
  });
}
