import { formatDuration } from '../common/bytes.ts';
import { asPgarkError, assert, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Span, SpanFacts } from '../common/tracer.ts';
import type { DatabaseLock } from '../postgres/client/advisory-lock.ts';
import { describeConnection } from '../postgres/client/connection-parameters.ts';
import { makeBackupId } from '../repository/ids.ts';
import { describeSuspicions, type Manifest, sizesOf } from '../repository/manifest.ts';
import type { RunResult } from '../runs/record-keeper.ts';
import { asRunError, runSpread, type SpreadRun } from '../runs/run.ts';
import type { BackupDestination, DestinationOutcome, DestinationRun } from './backup-destination.ts';
import type { BackupFormat, BackupName, Dumped, PreparedBackup, StoredFile } from './backup-format.ts';
import { DestinationGroup } from './backup-group.ts';
import { leaseNameOf, lockOnServer } from './backup-locks.ts';
import type { ManifestFacts } from './backup-manifest.ts';
import type { BackupOutcome, BackupRequest } from './backup-request.ts';
import { GroupSink } from './backup-sink.ts';
import type { OperationContext } from './context.ts';
import { OtherLogError, warnOfFull } from './full-instead.ts';
import { SizeJudge } from './size-judge.ts';
import { STALL_MS, StallWatch } from './stall-watch.ts';
import { withinStall } from './within-stall.ts';

export type { BackupDestination, DestinationOutcome } from './backup-destination.ts';
export type { CheckedDestination } from './backup-group.ts';
export type { BackupOutcome, BackupRequest } from './backup-request.ts';

/** How long a dump goes on without its lock, which it needs for the commit, where there is none without it. */
const LOST_LOCK_MS = 3_000;

type FormatOf = (request: BackupRequest) => BackupFormat;

/** What only one of them needs is loaded with it. */
const FORMATS: Readonly<Record<NonNullable<BackupRequest['format']>, () => Promise<FormatOf>>> = {
  plain: async () => (await import('./backup-plain.ts')).plainFormat,
  directory: async () => (await import('./backup-directory.ts')).directoryFormat,
  physical: async () => (await import('./backup-physical.ts')).physicalFormat,
};

/**
 * Loads what backups of all formats need. A process that lives for long calls it at its start: by the time of its first backup the
 * package may have been replaced by another version.
 */
export async function loadFormats(): Promise<void> {
  await Promise.all(Object.values(FORMATS).map((load) => load()));
}

/** What the steps of a backup share. */
interface Work {
  readonly request: BackupRequest;
  readonly format: BackupFormat;
  readonly context: OperationContext;
  readonly run: SpreadRun;
  readonly group: DestinationGroup;
  readonly stallMs: number;
}

/**
 * Backs up one database, into one or several destinations: checks → leases and lock → intents → one dump
 * for all → each destination's lock and lease looked at again → its manifest. In a destination the backup exists when its
 * manifest does; whatever fails before leaves nothing behind there, or what the next run sweeps by its intent.
 *
 * A destination that fails does so alone. If all fail, or the source does, it rejects with the first error. An incremental backup
 * of a server that turns out to have been put back is given up, and a full one made, as a run of its own.
 */
export async function backup(request: BackupRequest, context: OperationContext): Promise<BackupOutcome> {
  try {
    return await backUpOnce(request, context);
  } catch (error) {
    // Whoever named the earlier backup does not get another one.
    if (!(error instanceof OtherLogError) || request.incremental?.from !== undefined) throw error;
    warnOfFull(context.logger, error.why);
    return backUpOnce({ ...request, incremental: undefined }, context);
  }
}

async function backUpOnce(request: BackupRequest, context: OperationContext): Promise<BackupOutcome> {
  const { source, connection, format: wanted = 'plain', stallMs = STALL_MS, leaseTermMs } = request;
  const recordsEarlyFailure = !request.dryRun;
  const spec = { kind: 'backup', source, database: connection.database, format: wanted, recordsEarlyFailure } as const;
  return runSpread<BackupOutcome>(context, spec, async (run) => {
    const formatOf = await FORMATS[wanted]();
    const format = formatOf(request);
    format.check();
    const storages = request.destinations.map(({ name }) => name);
    run.span.note({ 'pgark.format': format.name, 'pgark.storages': storages, 'pgark.dry_run': request.dryRun });
    refuseTwins(request.destinations);
    const world = { run, context, stallMs, leaseTermMs };
    const group = new DestinationGroup(request.destinations, world, request.onDestination);
    const work = { request, format, context, run, group, stallMs };
    try {
      const prepared = await run.span.span('checks', {}, (span) => prepare(work, span));
      if (request.dryRun) return { value: checked(work, prepared), result: {} };
      return await backUp(work, prepared);
    } catch (error) {
      group.failAll(asRunError('backup', error, context.signal));
      throw error;
    } finally {
      await group.close();
    }
  });
}

function refuseTwins(destinations: readonly BackupDestination[]): void {
  const seen = new Set<string>();
  for (const { name } of destinations) {
    if (seen.has(name)) {
      throw new PgarkError('config-invalid', `the storage ${name} is named twice as the destination of one backup`, {
        hint: 'name each storage once',
      });
    }
    seen.add(name);
  }
}

/** Every check that can be made before any work. If server and storages are wrong, it is the server that is told of. */
async function prepare(work: Work, span: Span): Promise<PreparedBackup> {
  const { request, format, context, run, group, stallMs } = work;
  const { connection } = request;
  context.onProgress({ phase: 'checking', subject: connection.database, bytes: 0 });
  const storages = group.each((each) => span.span('check storage', placeOf(each), () => each.check()));
  // They may fail while nobody waits for them yet; the error is thrown when its turn comes.
  storages.catch(() => undefined);
  let prepared: PreparedBackup;
  try {
    prepared = await span.span('check server', {}, () =>
      withinStall({ ...context, connection, stallMs }, (signal) => format.prepare(run, { ...context, signal })),
    );
  } catch (error) {
    group.failAll(asRunError('backup', error, context.signal));
    await storages.catch(() => undefined);
    throw error;
  }
  await storages;
  const { server, client } = prepared.preparation;
  const locations = group.alive.map(({ store }) => store.location);
  run.logger.info('backup.checked', `checked ${describeConnection(connection)} and ${locations.join(', ')}`, {
    server: server.version,
    client: `${client.program} ${client.version}`,
    storage: locations.join(', '),
  });
  return prepared;
}

function checked(work: Work, { preparation }: PreparedBackup): BackupOutcome {
  const { context, group } = work;
  const { client, database } = preparation;
  const { key } = nameAt(work, preparation, context.clock.now());
  return {
    kind: 'checked',
    key,
    client,
    database,
    destinations: group.checked,
  };
}

/** From the first write to the last, under the leases of all destinations and the lock on the server. */
async function backUp(work: Work, prepared: PreparedBackup): Promise<{ value: BackupOutcome; result: RunResult }> {
  const { request, context, run, group, stallMs } = work;
  const { source, connection } = request;
  const names = group.isSingle ? undefined : group.alive.map(({ name }) => name);
  await group.each((destination) => destination.initialise());
  const lock = await run.span.span('locks', {}, async () => {
    await group.each((destination) => destination.open(leaseNameOf(request), names));
    return withinStall({ ...context, connection, stallMs }, (signal) =>
      lockOnServer(request, group.alive, run, signal),
    );
  });
  const over = new AbortController();
  const stop = async (): Promise<void> => {
    // A server that goes away takes the lock's session and pg_dump with it, and the latter says what happened.
    await context.clock.sleep(LOST_LOCK_MS, over.signal);
    group.stop(asPgarkError(lock.lost.reason));
  };
  try {
    lock.lost.addEventListener('abort', () => void stop().catch(() => undefined), { once: true });
    const { host, port } = connection;
    const { systemIdentifier } = prepared.preparation.server;
    const { database } = connection;
    const judge = new SizeJudge(request.sizeExpected ?? {}, { source, database, format: work.format.name });
    const now = { source, database, server: { host, port, systemIdentifier } };
    const begin = async (): Promise<BackupName> => {
      const name = await chooseName(work, prepared.preparation);
      await group.each((destination) => destination.begin(name, { source, connection }));
      return name;
    };
    // None of them depends on another: what a distant store takes for them is waiting.
    const [name] = await allOf([
      begin(),
      run.span.span('sweep', {}, () => group.each((destination) => destination.sweep())),
      group.each((destination) => destination.warnOfOtherServer(now)),
      group.each((destination) => recallSize(destination, judge)),
    ]);
    run.logger.info('dump.started', `dumping ${connection.database} to ${name.key}`, {
      backupId: name.id,
      key: name.key,
    });
    await run.span.span('dump', {}, (span) => dumpInto(work, { name, prepared, lock, judge, span }));
  } finally {
    over.abort();
    await group.settled();
    await lock.release();
  }
  return outcomeOf(group.outcomes);
}

/** The dump, made once; each destination commits as soon as it has all of it. */
async function dumpInto(work: Work, dump: DumpFacts): Promise<void> {
  const { request, format, context, run, group, stallMs } = work;
  const { name, prepared } = dump;
  const { preparation } = prepared;
  const applicationName = applicationNameOf(run);
  using watch = new StallWatch({
    clock: context.clock,
    stallMs,
    isDue: () => sink.awaited,
    stalled: () => silentDump(format.sender, run, stallMs),
  });
  const sink = new GroupSink(group, () => {
    const bytesStored = Math.min(...group.alive.map((destination) => destination.bytesStored));
    if (!Number.isFinite(bytesStored)) return;
    const subject = request.connection.database;
    context.onProgress({ phase: 'dumping', subject, bytes: sink.plainBytes, bytesTotal, bytesStored });
  });
  let bytesTotal = preparation.database.bytes;
  const onBytesExpected = (bytes: number): void => {
    bytesTotal = bytes;
  };
  const onBytesRead = (): void => watch.moved();
  const signal = AbortSignal.any([group.signal, watch.signal]);
  const { logger } = run;
  try {
    const told = { onBytesRead, onBytesExpected };
    const { clock, random } = context;
    const { last, recorded } = await prepared.dump(
      { name, applicationName, ...told, clock, random, logger, signal },
      sink,
    );
    await sink.putLast(last, (destination, put) => commitIn(destination, put, work, dump, recorded));
  } catch (error) {
    group.failAll(asRunError('backup', error, context.signal));
    throw error;
  }
}

/** What a dump is of, and what guards it. */
interface DumpFacts {
  readonly name: BackupName;
  readonly prepared: PreparedBackup;
  readonly lock: DatabaseLock;
  readonly judge: SizeJudge;
  readonly span: Span;
}

/** In a destination that has all files but the last. */
async function commitIn(
  destination: DestinationRun,
  put: () => Promise<StoredFile>,
  { request, format, context, run, group }: Work,
  { name, prepared, lock, judge, span }: DumpFacts,
  recorded: Dumped['recorded'],
): Promise<void> {
  const { source, connection, seal, excludeTableData } = request;
  const facts: ManifestFacts = {
    format: format.name,
    name,
    source,
    connection,
    preparation: prepared.preparation,
    recorded,
    seal,
    excludeTableData,
    runId: run.id,
    pgarkVersion: context.pgarkVersion,
    judgeSize: (plainBytes) => judge.judge(destination.name, name.id, plainBytes),
  };
  const place = placeOf(destination);
  await span.span('upload', place, async (upload) => {
    const { storedBytes, plainBytes } = await put();
    upload.note({ 'pgark.stored_bytes': storedBytes, 'pgark.plain_bytes': plainBytes });
  });
  if (request.readBack) await span.span('read back', place, () => destination.readBack());
  const manifest = await span.span('commit', place, () => destination.commit(facts, () => lock.confirm()));
  const { location } = destination.store;
  const { storedBytes, plainBytes } = sizesOf(manifest);
  run.logger.success('backup.committed', `backed up ${connection.database} to ${location}: ${name.key}`, {
    backupId: name.id,
    key: name.key,
    storage: destination.name,
    storedBytes,
    plainBytes,
    confirmedBy: manifest.objects[0]?.confirmedBy,
  });
  warnOfSize(run, destination, manifest);
  group.succeed(destination, manifest, resultOf(manifest));
}

function recallSize(destination: DestinationRun, judge: SizeJudge): Promise<void> {
  const { name, repository } = destination;
  return destination.work((_store, signal) => judge.recall(name, repository, { signal }));
}

function warnOfSize({ logger }: SpreadRun, { name, store }: DestinationRun, manifest: Manifest): void {
  const why = describeSuspicions(manifest);
  if (why === undefined) return;
  logger.warning(
    'backup.suspicious',
    `the backup ${manifest.id} in ${store.location} is suspicious: ${why}. It is kept, and nothing is pruned after it; if its size is right, say so: pgark accept ${manifest.id}`,
    { backupId: manifest.id, storage: name },
  );
}

function placeOf({ name, store }: DestinationRun): SpanFacts {
  return { 'pgark.storage': name, 'pgark.storage_location': store.location };
}

function resultOf(manifest: Manifest): RunResult {
  const { storedBytes, plainBytes } = sizesOf(manifest);
  const suspicious = describeSuspicions(manifest);
  const durationMs = durationOf(manifest);
  return { backupId: manifest.id, storedBytes, plainBytes, durationMs, ...(suspicious && { suspicious }) };
}

function durationOf(manifest: Manifest): number {
  return Date.parse(manifest.endedAt) - Date.parse(manifest.startedAt);
}

function outcomeOf(destinations: readonly DestinationOutcome[]): { value: BackupOutcome; result: RunResult } {
  const manifests = destinations.flatMap(({ manifest }) => manifest ?? []);
  const [first] = manifests;
  assert(first !== undefined, 'a backup that did not fail is committed somewhere');
  const durationMs = Math.max(...manifests.map(durationOf));
  return {
    value: { kind: 'committed', destinations, durationMs },
    result: {
      ...resultOf(first),
      durationMs,
      committed: manifests.length,
      failed: destinations.length - manifests.length,
    },
  };
}

/**
 * A name that no object has in any destination. Two backups in one second would share theirs: the later one waits for the
 * next second. A destination where it stays taken fails.
 */
async function chooseName(work: Work, preparation: PreparedBackup['preparation']): Promise<BackupName> {
  const { context, group } = work;
  for (let attempt = 0; ; attempt++) {
    const startedAt = context.clock.now();
    const name = nameAt(work, preparation, startedAt);
    const taken = new Map<DestinationRun, string>();
    await group.each(async (destination) => {
      for (const key of name.keys) if (await destination.hasObject(key)) taken.set(destination, key);
    });
    if (taken.size > 0 && attempt < 2) {
      await context.clock.sleep(1_000 - (startedAt.getTime() % 1_000), group.signal);
      continue;
    }
    await group.each(async (destination) => {
      const key = taken.get(destination);
      if (key === undefined) return;
      throw new PgarkError('object-exists', `${key} is already in ${destination.store.location}`);
    });
    return name;
  }
}

function nameAt({ format, context }: Work, preparation: PreparedBackup['preparation'], startedAt: Date): BackupName {
  const id = makeBackupId(startedAt, format.letter, context.random);
  return { id, startedAt, ...format.place({ database: preparation.database.name, id, startedAt }) };
}

function applicationNameOf(run: SpreadRun): string {
  return `pgark backup ${run.id}`;
}

function silentDump(sender: string, run: SpreadRun, stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `${sender} has sent nothing for ${formatDuration(stallMs)} although it was waited for: the backup was given up`,
    {
      hint: `see what the server does (pg_stat_activity, application_name "${applicationNameOf(run)}") and the network between; then run the backup again`,
    },
  );
}
