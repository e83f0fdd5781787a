import { open } from 'node:fs/promises';
import path from 'node:path';
import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { readParents } from '../../formats/physical/backup-chain.ts';
import { checkUnrestored } from '../../formats/physical/check-base.ts';
import { PhysicalObjects } from '../../formats/physical/physical-objects.ts';
import type { ArchiveAccess } from '../../formats/wal/archive-path.ts';
import { connect } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { withSession } from '../../postgres/client/with-session.ts';
import { stopRecovered } from '../../postgres/server/recovering-server.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { connectionWithin, PRIVATE_PORT } from '../recovery/private-connection.ts';
import { timelineOfNewestBase } from '../recovery/archive-of.ts';
import { randomPoint } from '../recovery/random-point.ts';
import { targetAt } from '../recovery/recovery-target.ts';
import { type DirectoryRestoreRequest, type RecoveryRequest, restoreDirectoryWithin } from '../restore-directory.ts';
import type { WorkFolder } from '../work-folder.ts';
import { amcheck } from './amcheck.ts';
import type { DrillWork, Restored } from './drill-request.ts';
import { findScratchServer, scratchSettings, withScratchFolder } from './scratch-folder.ts';
import { refuseMissingExtensions } from './scratch-needs.ts';

const LOG_TAIL_BYTES = 4_000;

/** The backup that a recovery begins with, once it is known, is the one that is tried. */
type OnPlanned = (manifest: Manifest, recovery: RecoveryRequest | undefined) => void;

/** Brings a whole server back in a folder of its own, and lets it be asked; it is gone behind that. */
export async function withRestoredServer<T>(
  work: DrillWork & { readonly onPlanned: OnPlanned },
  run: Run,
  context: OperationContext,
  ask: (restored: Restored) => Promise<T>,
): Promise<T> {
  const { scratch, manifest } = work;
  if (scratch.kind === 'given') {
    throw new PgarkError('usage', `${manifest.id} is a backup of a whole server, which no other server takes`, {
      hint: 'leave --to-url out: pgark starts a server of its own on it',
    });
  }
  const binDir = await findScratchServer(scratch, manifest);
  return withScratchFolder(scratch, manifest, run, async (folder) => {
    const { data, account } = folder;
    const base = await requestOf(work, folder, run, context);
    const planned = await restoreDirectoryWithin({ ...base, planOnly: true }, run, context);
    const { id } = planned.value.manifest;
    work.onPlanned(planned.value.manifest, base.recovery);
    try {
      await run.span.span('check the rest', {}, () => checkRest(planned.value.manifest, work, context));
      // By its name from here on: a base backup that comes in between is not what was planned with.
      const selector = { kind: 'name', name: id } as const;
      const start = { binDir, privateIn: folder.path, settings: scratchSettings(scratch) };
      const startedMs = context.clock.monotonicMs();
      const { value } = await restoreDirectoryWithin(
        { ...base, selector, planOnly: false, start },
        run,
        context,
        'drill',
      );
      const restoreMs = Math.round(context.clock.monotonicMs() - startedMs);
      const users = work.users ?? ['postgres'];
      const database = value.manifest.database.name;
      const connection = await connectionWithin(folder.path, { database, users }, work.applicationName, context);
      await checkExtensions(connection, work, context);
      // Every file was compared with the server's own list already.
      const compared = { by: 'files', amcheck: await amcheck(connection, binDir, work, run, context) } as const;
      const recovered = { plan: value.recovery, lastTransaction: value.started?.lastTransaction };
      return await ask({ connection, restoreMs, compared, recovered });
    } catch (error) {
      throw await withoutFiles(error, data, run);
    } finally {
      await stopRecovered({ dataDirectory: data, binDir, account }).catch(() => undefined);
    }
  });
}

/** What no restore reads of the backup and of those that it is relative to. */
async function checkRest(
  manifest: Manifest,
  { store, keys }: Pick<DrillWork, 'store' | 'keys'>,
  { signal }: OperationContext,
): Promise<void> {
  const access = { store, keys, signal };
  const chain = [new PhysicalObjects(manifest, access), ...(await readParents(manifest, access))];
  for (const objects of chain) await checkUnrestored(objects, signal);
}

/**
 * A backup that was named is tried to its own end; else what is archived behind it counts as well. What is tried once more is the
 * same as before: no other point is drawn, and no other backup taken.
 */
async function requestOf(
  { store, filter, selector, keys, fetch, manifest, again }: DrillWork,
  { data }: WorkFolder,
  run: Run,
  context: OperationContext,
): Promise<DirectoryRestoreRequest> {
  const common = { store, keys, directory: data, mappings: [], planOnly: true, port: PRIVATE_PORT };
  const named = { ...common, filter, selector: { kind: 'name', name: manifest.id } as const };
  if (again !== undefined) return { ...named, recovery: again.recovery };
  if (selector.kind === 'name' || fetch === undefined) return named;
  const ofServer = { ...common, filter: { ...filter, source: manifest.source, kind: 'physical' as const } };
  const access = { store, keys, signal: context.signal };
  const timeline = await timelineToTry(manifest, access, run, context);
  const target =
    selector.kind === 'at'
      ? targetAt(selector.time)
      : selector.kind === 'latest'
        ? ({ kind: 'end' } as const)
        : await randomPoint(manifest, timeline, access, context);
  return { ...ofServer, selector: { kind: 'latest' }, recovery: { target, timeline, fetch } };
}

/** Undefined: the newest, and a recovery that says what else there is. */
async function timelineToTry(
  manifest: Manifest,
  access: ArchiveAccess,
  run: Run,
  context: OperationContext,
): Promise<number | undefined> {
  const newest = await timelineOfNewestBase(manifest, access, context);
  if (newest === undefined) return undefined;
  const { timeline, isBeside } = newest;
  if (!isBeside) return timeline;
  run.logger.warning(
    'drill.timeline',
    `timeline ${timeline} is tried, which goes on from ${newest.manifest.id}, the newest base backup: the newest timeline that is archived does not, and a restore asks for --timeline`,
    { timeline },
  );
  return timeline;
}

/** Functions and types of an extension whose library is missing fail only when they are used. */
async function checkExtensions(
  connection: ConnectionParameters,
  { applicationName }: DrillWork,
  { signal }: OperationContext,
): Promise<void> {
  await withSession(connect(connection, { applicationName, signal }), signal, async (session) => {
    const rows = await session.query<{ name: string }>('select extname as name from pg_catalog.pg_extension');
    await refuseMissingExtensions(
      session,
      rows.map(({ name }) => name),
    );
  });
}

/** Where an error names the log of the server, which goes with the folder: its end is told instead. */
async function withoutFiles(error: unknown, data: string, run: Run): Promise<unknown> {
  if (!isPgarkError(error, 'recovery-failed')) return error;
  const log = await readTail(path.join(data, 'pgark-recovery.log'));
  run.logger.warning('drill.server_log', `the end of the restored server’s log:\n${log}`);
  return new PgarkError('recovery-failed', error.message, {
    cause: error,
    details: error.details,
    hint: 'the end of the server’s log is in the log of this run; restore it by hand with --to-dir to look closer',
  });
}

async function readTail(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const buffer = Buffer.alloc(Math.min(size, LOG_TAIL_BYTES));
      await handle.read(buffer, 0, buffer.length, size - buffer.length);
      return buffer.toString('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    return messageOf(error);
  }
}
