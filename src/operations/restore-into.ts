import { availableParallelism } from 'node:os';
import { messageOf, PgarkError } from '../common/errors.ts';
import type { LoadHow } from '../formats/load-source.ts';
import { analyzeDatabase } from '../postgres/client/analyze.ts';
import { connect, quoteIdentifier, type Session } from '../postgres/client/connect.ts';
import { actingRole, type ConnectionParameters, describeConnection } from '../postgres/client/connection-parameters.ts';
import { readOwnProperties } from '../postgres/client/database-properties.ts';
import { EMPTY_DATABASE_SQL } from '../postgres/client/empty-database.ts';
import { inEnglish } from '../postgres/client/in-english.ts';
import { readDatabaseForm } from '../postgres/client/preflight.ts';
import {
  checkMayReplace,
  createDatabase,
  type DatabaseProperties,
  knowsProvider,
  nameWithSuffix,
} from '../postgres/client/target-database.ts';
import { untilAborted } from '../postgres/client/with-session.ts';
import { refusePrepared } from '../postgres/client/swap-databases.ts';
import type { Run } from '../runs/run.ts';
import type { OperationContext } from './context.ts';
import { dropHalfLoaded, dropLeftovers, dropReplaced } from './half-loaded.ts';
import { putInPlace } from './put-in-place.ts';
import {
  type Approach,
  type BesideApproach,
  chooseApproach,
  confirmServer,
  describePlan,
  type LoadOrder,
  type WithinApproach,
} from './restore-approach.ts';
import { emptyAgain, readEmptiness } from './restore-emptiness.ts';
import { giveLoadSettings, noteSubscriptions, takeOverLoadSettings, usableTablespace } from './restore-properties.ts';
import { applicationNameOf } from './restore-sessions.ts';

export type { RestoreTarget } from './restore-approach.ts';

export interface LoadResult {
  readonly done: boolean;
  readonly plan: readonly string[];
  readonly database: string;
  readonly keptAs: string | undefined;
}

/** Fills the target in the way that leaves it as it was if anything fails. */
export async function loadIntoTarget(order: LoadOrder, run: Run, context: OperationContext): Promise<LoadResult> {
  const { target } = order;
  const { database } = target.connection;
  const approach = await chooseApproach(order, run, context);
  try {
    warnOfOlderTarget(order, approach, run);
    const keepAs = nameWithSuffix(database, `_before_${run.id}`);
    const plan = describePlan(order, approach, keepAs);
    if (order.planOnly) return { done: false, plan, database, keptAs: undefined };
    confirmServer(order, approach);
    await order.beforeTouching(approach.kind === 'beside' || order.source.oneTransaction !== 'none');
    if (approach.kind === 'within') {
      await loadWithin(order, approach, run, context);
      return { done: true, plan, database, keptAs: undefined };
    }
    const kept = await loadBeside(order, approach, keepAs, run, context);
    return { done: true, plan, database, keptAs: kept ? keepAs : undefined };
  } finally {
    if (approach.kind === 'beside') await approach.maintenance.close();
  }
}

/** What an older server does not know stops the load, and nothing is kept; it is better to know that before. */
function warnOfOlderTarget({ source }: LoadOrder, { server }: Approach, run: Run): void {
  const dumpMajor = source.sourceMajor;
  if (dumpMajor === undefined || dumpMajor <= server.major) return;
  run.logger.warning(
    'restore.older_target',
    `${source.name} is of PostgreSQL ${dumpMajor}, and the target is ${server.major}: whatever the target does not know will stop the restore`,
    { dumpMajor, serverMajor: server.major },
  );
}

async function loadWithin(
  order: LoadOrder,
  approach: WithinApproach,
  run: Run,
  context: OperationContext,
): Promise<void> {
  const { connection } = order.target;
  const login = { applicationName: applicationNameOf(run), signal: context.signal };
  const session = await connect(connection, login);
  try {
    const singleTransaction = order.source.oneTransaction !== 'none';
    const before = singleTransaction ? undefined : await readEmptiness(session);
    const preamble = approach.empties ? EMPTY_DATABASE_SQL : undefined;
    try {
      const spoken = await inEnglish(session, connection, login);
      await load(order, approach, spoken, { singleTransaction, preamble }, run, context);
    } catch (error) {
      await endSessionsOf(session, run);
      if (before !== undefined) await emptyAgain(connection, before, run);
      throw error;
    }
    await noteSubscriptions(session, connection.database, run);
    if (order.analyse) await analyse(connection, order, run, context);
  } finally {
    await session.close();
  }
}

/**
 * The server's end of a load that was broken off goes on with its statement until it looks for its client, and holds the
 * transaction's locks as long.
 */
async function endSessionsOf(session: Session, run: Run): Promise<void> {
  const sql =
    'select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()';
  await session
    .asUser(() => session.query(sql, [applicationNameOf(run)]))
    .catch((error: unknown) => {
      run.logger.warning(
        'restore.cleanup_failed',
        `the session of the load may go on for a while: ${messageOf(error)}`,
      );
    });
}

/** Resolves with whether the database that was replaced is still there. */
async function loadBeside(
  order: LoadOrder,
  approach: BesideApproach,
  keepAs: string,
  run: Run,
  context: OperationContext,
): Promise<boolean> {
  const { target, isServerThrownAway } = order;
  const { replaces, maintenance, server } = approach;
  const { connection } = target;
  const { database } = connection;
  const options = { applicationName: applicationNameOf(run), signal: context.signal };
  const like = await propertiesOf(order, approach, run);
  if (!knowsProvider(like.localeProvider, server.major)) {
    run.logger.warning(
      'restore.locale_provider',
      `PostgreSQL ${server.major} has no databases of locale provider ${like.localeProvider} (${like.locale ?? ''}): ${database} is made with libc's ${like.collation}, and text may sort in another order`,
      { localeProvider: like.localeProvider, collation: like.collation },
    );
  }
  const beside = nameWithSuffix(database, `_restoring_${run.id}`);
  const whileAsking = <T>(ask: () => Promise<T>): Promise<T> => untilAborted(maintenance, context.signal, ask);
  await whileAsking(async () => {
    await maintenance.query('select pg_advisory_lock(hashtextextended($1, 0))', [run.id]);
    await dropLeftovers(maintenance, beside.slice(0, -run.id.length), connection, run);
  });
  const names = { current: database, loaded: beside, keepAs };
  let inPlace = false;
  try {
    await whileAsking(async () => {
      if (!(await createDatabase(maintenance, beside, like, server.major))) warnOfOwner(like, connection, run);
      await maintenance.query(
        `COMMENT ON DATABASE ${quoteIdentifier(beside)} IS 'pgark restore of ${run.id}, not complete'`,
      );
      if (replaces) {
        await refusePrepared(maintenance, database);
        await checkMayReplace(maintenance, names);
        await takeOverLoadSettings(maintenance, database, beside);
      } else await giveLoadSettings(maintenance, order.source.like, beside, run);
    });
    const besideConnection = { ...connection, database: beside };
    const spoken = await whileAsking(() => inEnglish(maintenance, besideConnection, options));
    await load(order, approach, spoken, { singleTransaction: false }, run, context);
    if (order.analyse) await analyse(besideConnection, order, run, context);
    context.signal.throwIfAborted();
    await run.span.span('put in place', {}, () => putInPlace(names, order, approach, options, run));
    inPlace = true;
  } finally {
    if (!inPlace) await dropHalfLoaded(beside, { connection, maintenance, isServerThrownAway }, run, context);
  }
  if (!replaces || target.kind !== 'in-place' || !target.dropOld) return replaces;
  return !(await dropReplaced(keepAs, connection, run));
}

function warnOfOwner({ owner = '' }: DatabaseProperties, connection: ConnectionParameters, run: Run): void {
  const role = actingRole(connection);
  run.logger.warning(
    'restore.owner',
    `the database belongs to ${role}: its owner ${owner} is no role of ${connection.host}, or not one that ${role} may give it to`,
    { owner },
  );
}

/** In place, the new database is made like the old one; else like the one that was backed up; else like template1. */
async function propertiesOf(
  { source: { like }, target, leaveOut }: LoadOrder,
  { replaces, maintenance, server }: BesideApproach,
  run: Run,
): Promise<DatabaseProperties> {
  const { database } = target.connection;
  if (!replaces && like !== undefined) {
    const owner = leaveOut?.owners === true ? undefined : like.owner;
    const wanted = leaveOut?.tablespaces === true ? undefined : like.properties?.tablespace;
    return { ...like, owner, tablespace: await usableTablespace(maintenance, wanted, run) };
  }
  const template = replaces ? database : 'template1';
  const form = await readDatabaseForm(maintenance, server, template);
  if (form === undefined) throw new PgarkError('postgres-database-missing', `database "${template}" is gone`);
  if (!replaces) return { ...form, owner: undefined };
  const old = await readOwnProperties(maintenance, database);
  return { ...form, tablespace: await usableTablespace(maintenance, old?.tablespace, run) };
}

const JOBS_DEFAULT_MAX = 8;

function defaultJobs(): number {
  return Math.min(availableParallelism(), JOBS_DEFAULT_MAX);
}

async function load(
  { source, leaveOut, jobs = defaultJobs(), verifyRows, onLoaded }: LoadOrder,
  { prepared }: Approach,
  connection: ConnectionParameters,
  how: Pick<LoadHow, 'singleTransaction' | 'preamble'>,
  run: Run,
  context: OperationContext,
): Promise<void> {
  run.logger.info('load.started', `loading ${source.name} into ${describeConnection(connection)}`, {
    program: prepared.programVersion,
  });
  await run.span.span('load', {}, () =>
    prepared.load({
      ...how,
      connection,
      leaveOut,
      jobs,
      verify: verifyRows
        ? { onBytes: (bytes) => context.onProgress({ phase: 'verifying', subject: connection.database, bytes }) }
        : undefined,
      onLoaded,
      applicationName: applicationNameOf(run),
      logger: run.logger,
      clock: context.clock,
      random: context.random,
      signal: context.signal,
      onStoredBytes: (bytes) =>
        context.onProgress({ phase: 'loading', subject: connection.database, bytes, bytesTotal: source.storedBytes }),
    }),
  );
}

/**
 * Fresh statistics, so that the first queries after a restore are planned well. The data is there without them: what
 * goes wrong is a warning.
 */
async function analyse(
  connection: ConnectionParameters,
  { target, jobs = defaultJobs() }: LoadOrder,
  run: Run,
  context: OperationContext,
): Promise<void> {
  const { signal } = context;
  context.onProgress({ phase: 'analysing', subject: target.connection.database, bytes: 0 });
  const open = (): Promise<Session> => connect(connection, { applicationName: applicationNameOf(run), signal });
  try {
    signal.throwIfAborted();
    const failed = await run.span.span('analyse', {}, () => analyzeDatabase({ open, sessionsMax: jobs, signal }));
    if (failed === undefined) return;
    const { tables, why } = failed;
    const of = tables === 1 ? 'one table' : `${tables} tables`;
    run.logger.warning('analyse.failed', `statistics of ${of} were not gathered, run ANALYZE by hand: ${why}`);
  } catch (error) {
    run.logger.warning('analyse.failed', `statistics were not gathered, run ANALYZE by hand: ${messageOf(error)}`);
  }
}
