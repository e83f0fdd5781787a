import { isPgarkError, messageOf } from '../common/errors.ts';
import type { Seal } from '../formats/sealed-object.ts';
import { compressionSuffix } from '../pipeline/compression.ts';
import { connect, type ConnectOptions, type Session } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { databaseSettingsScript, type GlobalsFacts, readGlobalsFacts } from '../postgres/client/globals-facts.ts';
import { inEnglish } from '../postgres/client/in-english.ts';
import { readServerFacts, type ServerFacts } from '../postgres/client/preflight.ts';
import { chooseProgram, findPrograms, type InstalledProgram } from '../postgres/client/programs.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { commitGlobals, globalsLeaseName, type GlobalsRecord, removeGlobals } from '../repository/globals.ts';
import type { Lease } from '../repository/held-lease.ts';
import { makeBackupId } from '../repository/ids.ts';
import { IntentLog, type OpenIntent } from '../repository/intents.ts';
import { keys } from '../repository/keys.ts';
import { Leases } from '../repository/leases.ts';
import { Repository } from '../repository/repository.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import { type Run, runEnveloped } from '../runs/run.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { acquireAfterSweep } from './backup-locks.ts';
import type { OperationContext } from './context.ts';
import { planGlobals } from './prune-globals.ts';
import { putGlobals } from './put-globals.ts';
import { STALL_MS } from './stall-watch.ts';
import { withinStall } from './within-stall.ts';

export interface GlobalsRequest {
  /** Name of the configured source, whose databases these globals go with. */
  readonly source: string;
  /** To any database of the server. */
  readonly connection: ConnectionParameters;
  readonly store: ObjectStore;
  readonly seal: Seal;
  /** `auto`: with passwords where the role may read them. */
  readonly passwords: 'auto' | 'no-passwords';
  readonly leaseTermMs: number;
  /** Remove older globals that no backup needs. Its failure is a warning. */
  readonly prune: boolean;
  /**
   * What moves nothing for so long is given up, in milliseconds: a server that gives no answer, pg_dumpall that sends no
   * byte, a store that takes none. Default: 15 minutes.
   */
  readonly stallMs?: number;
}

export interface GlobalsOutcome {
  readonly record: GlobalsRecord;
  readonly durationMs: number;
}

/** Everything that is known before the dump. */
interface Preparation {
  readonly server: ServerFacts;
  readonly facts: GlobalsFacts;
  readonly appendix: string;
  readonly pgDumpall: InstalledProgram;
  /** In English where the user may choose that. */
  readonly connection: ConnectionParameters;
}

/**
 * Stores the roles, memberships and tablespaces of a server, and the settings of its databases: lease → intent → dump →
 * lease looked at again → record. They exist when the record does; whatever fails before leaves nothing behind, or what
 * the next run sweeps by its intent. What could not be had is in the record and in a warning.
 */
export async function backupGlobals(request: GlobalsRequest, context: OperationContext): Promise<GlobalsOutcome> {
  const { store, source } = request;
  return runEnveloped<GlobalsOutcome>({ ...context, store }, { kind: 'globals', source }, async (run) => {
    context.onProgress({ phase: 'checking', subject: `globals of ${source}`, bytes: 0 });
    const preparation = await run.span.span('checks', {}, () => prepare(request, run, context));
    const repository = new Repository(store, context);
    await repository.initialise({ pgarkVersion: context.pgarkVersion, signal: context.signal });
    await run.open();
    const leases = new Leases(store, {
      clock: context.clock,
      random: context.random,
      logger: run.logger,
      termMs: request.leaseTermMs,
      holder: { host: context.host, pid: context.pid, runId: run.id, command: 'pgark backup' },
    });
    const lease = await acquireAfterSweep(leases, globalsLeaseName(source), context);
    let record: GlobalsRecord;
    try {
      record = await run.span.span('dump', {}, () => dumpAndCommit(request, context, run, preparation, lease));
    } catch (error) {
      throw lease.lost.aborted && !isPgarkError(error) ? lease.lost.reason : error;
    } finally {
      await lease.release();
    }
    const durationMs = Date.parse(record.endedAt) - Date.parse(record.startedAt);
    const { storedBytes, plainBytes } = record.object;
    return {
      value: { record, durationMs },
      result: { globalsId: record.id, storedBytes, plainBytes, durationMs, withPasswords: record.leftOut.passwords },
    };
  });
}

async function prepare(request: GlobalsRequest, run: Run, context: OperationContext): Promise<Preparation> {
  const { connection, stallMs } = request;
  const programs = findPrograms('pg_dumpall');
  // It may fail while nobody waits for it yet; its error is thrown when its turn comes.
  programs.catch(() => undefined);
  const readFrom = async (session: Session, login: ConnectOptions): Promise<Preparation> => {
    const server = await readServerFacts(session);
    const facts = await readGlobalsFacts(session);
    const appendix = await databaseSettingsScript(session);
    const pgDumpall = chooseProgram('pg_dumpall', await programs, server.major);
    return { server, facts, appendix, pgDumpall, connection: await inEnglish(session, connection, login) };
  };
  return withinStall({ ...context, connection, stallMs }, (signal) => {
    const login = { applicationName: applicationNameOf(run), signal };
    return withSession(connect(connection, login), signal, (session) => readFrom(session, login));
  });
}

function applicationNameOf(run: Run): string {
  return `pgark globals ${run.id}`;
}

async function dumpAndCommit(
  request: GlobalsRequest,
  context: OperationContext,
  run: Run,
  preparation: Preparation,
  lease: Lease,
): Promise<GlobalsRecord> {
  const { store, source, seal, stallMs = STALL_MS } = request;
  const { server, facts, pgDumpall, connection } = preparation;
  const { compression, sealer } = seal;
  const signal = AbortSignal.any([context.signal, lease.lost]);
  const startedAt = context.clock.now();
  const id = makeBackupId(startedAt, 'g', context.random);
  const key = `${keys.globals(source, id)}${compressionSuffix(compression.algorithm)}${sealer?.suffix ?? ''}`;
  const withPasswords = request.passwords === 'auto' && facts.mayReadPasswords;
  const plan = { id, runId: run.id, lease, source, startedAt, keys: [key] };
  const intent = await new IntentLog(store).begin(plan, { signal });
  let commitBegun = false;
  try {
    const { object } = await putGlobals(
      store,
      {
        key,
        seal,
        dump: {
          connection,
          pgDumpall,
          withPasswords,
          appendix: preparation.appendix,
          applicationName: applicationNameOf(run),
          logger: run.logger,
        },
        stallMs,
        metadata: { [ID_METADATA]: id, 'pgark-timestamp': startedAt.toISOString(), 'pgark-host': connection.host },
        onUploadOpened: (upload) => intent.addUpload(upload),
        onPlainBytes: (bytes) => context.onProgress({ phase: 'dumping', subject: `globals of ${source}`, bytes }),
      },
      { clock: context.clock, signal },
    );
    const record: GlobalsRecord = {
      layout: 1,
      id,
      kind: 'globals',
      source,
      server: {
        host: connection.host,
        port: connection.port,
        version: server.version,
        versionNum: server.versionNum,
        inRecovery: server.inRecovery,
        ...(server.systemIdentifier === undefined ? {} : { systemIdentifier: server.systemIdentifier }),
      },
      client: { program: 'pg_dumpall', version: pgDumpall.version },
      startedAt: startedAt.toISOString(),
      endedAt: context.clock.now().toISOString(),
      storeTime: (await store.now({ signal })).toISOString(),
      runId: run.id,
      object,
      compression: { algorithm: compression.algorithm, level: compression.level },
      ...(sealer === undefined
        ? {}
        : { encryption: { ...sealer.record, keyFingerprints: [...sealer.record.keyFingerprints] } }),
      leftOut: { passwords: !withPasswords, hiddenRoles: facts.hiddenRoles },
      counts: { roles: facts.roles, tablespaces: facts.tablespaces },
      pgarkVersion: context.pgarkVersion,
    };
    await lease.confirm();
    // From here on nothing is taken back: a record that may have arrived keeps its data. No signal cuts this short.
    commitBegun = true;
    await commitGlobals(store, record);
    await confirmCommit(store, record, lease, run);
    await intent.finish().catch((error: unknown) => {
      const message = `the intent of committed globals stays until the next run: ${messageOf(error)}`;
      run.logger.warning('intent.finish_failed', message);
    });
    report(record, request, run);
    if (request.prune) await removeUnneeded(request, context, run, signal);
    return record;
  } catch (error) {
    if (!commitBegun) await cleanUp(store, { key, intent, lost: lease.lost.aborted }, run);
    throw error;
  }
}

/** A run that was stopped before its record arrived may have been swept meanwhile: it takes its globals back. */
async function confirmCommit(store: ObjectStore, record: GlobalsRecord, lease: Lease, run: Run): Promise<void> {
  try {
    await lease.confirm();
  } catch (error) {
    if (isPgarkError(error, 'lease-lost')) {
      await removeGlobals(store, record);
      throw error;
    }
    run.logger.warning('lease.unconfirmed', `the lease could not be looked at after the commit: ${messageOf(error)}`);
  }
}

async function removeUnneeded(
  { store, source }: GlobalsRequest,
  context: OperationContext,
  run: Run,
  signal: AbortSignal,
): Promise<void> {
  try {
    const repository = new Repository(store, context);
    const plan = { source, isPruned: () => true, removing: new Set<string>() };
    for (const unneeded of await planGlobals(repository, plan, { signal })) {
      await removeGlobals(store, unneeded, { signal });
      const { id } = unneeded;
      run.logger.info('prune.globals_removed', `removed globals ${id} of ${source}, which no backup needs`, {
        globalsId: id,
      });
    }
  } catch (error) {
    const message = `older globals of ${source} that no backup needs could not be removed: ${messageOf(error)}`;
    run.logger.warning('globals.prune_failed', message, { source });
  }
}

function report({ id, source, object, counts, leftOut }: GlobalsRecord, request: GlobalsRequest, run: Run): void {
  run.logger.success('globals.committed', `stored the roles and tablespaces of ${source}: ${object.key}`, {
    globalsId: id,
    key: object.key,
    storedBytes: object.storedBytes,
    ...counts,
    withPasswords: !leftOut.passwords,
  });
  if (leftOut.passwords && request.passwords === 'auto') {
    run.logger.warning(
      'globals.no_passwords',
      `role ${request.connection.user} may not read passwords: the roles of ${source} were stored without them (globals: no-passwords says that this is meant)`,
      { globalsId: id, source },
    );
  }
  if (leftOut.hiddenRoles > 0) {
    run.logger.warning(
      'globals.hidden_roles',
      `the server of ${source} does not show ${leftOut.hiddenRoles} of its roles: they are not among those stored`,
      { globalsId: id, source, hiddenRoles: leftOut.hiddenRoles },
    );
  }
}

/** The key holds the id, so what is there is ours. A run that lost its lease leaves its intent to whoever sweeps. */
async function cleanUp(
  store: ObjectStore,
  left: { readonly key: ObjectKey; readonly intent: OpenIntent; readonly lost: boolean },
  run: Run,
): Promise<void> {
  if (left.lost) return;
  try {
    for await (const upload of store.listUploads(left.key)) {
      if (upload.key === left.key) await store.abortUpload(upload);
    }
    await store.delete(left.key);
    await left.intent.finish();
  } catch (error) {
    const message = `what the failed run left will be removed by the next one: ${messageOf(error)}`;
    run.logger.warning('globals.cleanup_failed', message);
  }
}
