import { isPgarkError } from '../../common/errors.ts';
import type { LoadSource } from '../../formats/load-source.ts';
import { openBackup } from '../../formats/open-backup.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { startThrowawayServer } from '../../postgres/server/throwaway-server.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { loadIntoTarget } from '../restore-into.ts';
import type { Compared, DrillWork, Restored, Scratch } from './drill-request.ts';
import { withGivenDatabase } from './given-server.ts';
import { ofLostServer } from './lost-server.ts';
import { settingUp } from './of-machine.ts';
import { findScratchServer, scratchSettings, withScratchFolder } from './scratch-folder.ts';
import { BEYOND_ASCII, encodingOfNames } from './names-in-bytes.ts';
import { provideMissing, provideNeeds, type ScratchPlace } from './scratch-needs.ts';

/** Loads a dump into a scratch database, and lets it be asked; the database is gone behind that. */
export async function withRestoredDump<T>(
  work: DrillWork,
  run: Run,
  context: OperationContext,
  ask: (restored: Restored) => Promise<T>,
): Promise<T> {
  const { store, keys, manifest, scratch } = work;
  const source = await openBackup(manifest, { store, keys, signal: context.signal });
  await run.span.span('check the rest', {}, () => source.checkUnloaded());
  const within = (place: ScratchPlace, onMade: (roles: readonly string[]) => void): Promise<T> =>
    loadAndAsk(source, place, { ...work, onMade }, run, context, ask);
  return scratch.kind === 'given'
    ? withGivenDatabase(scratch.connection, work, run, context, within)
    : withOwnServer(scratch, work, run, context, (place) => within(place, () => {}));
}

async function withOwnServer<T>(
  scratch: Extract<Scratch, { kind: 'own' }>,
  { manifest }: DrillWork,
  run: Run,
  context: OperationContext,
  use: (place: ScratchPlace) => Promise<T>,
): Promise<T> {
  const binDir = await findScratchServer(scratch, manifest);
  return withScratchFolder(scratch, manifest, run, async (folder) => {
    const settings = { ...scratchSettings(scratch), wal_level: 'minimal', max_wal_senders: '0' };
    const { signal } = context;
    const encoding = encodingOfNames(manifest);
    const starting = { binDir, folder: folder.path, settings, encoding, signal };
    await using server = await settingUp(manifest.id, () => startThrowawayServer(starting));
    const { host, port, user, password } = server;
    const database = freeName(manifest.database.name, encoding);
    try {
      return await use({ connection: { host, port, user, password, database, sslMode: 'disable' }, folder });
    } catch (error) {
      signal.throwIfAborted();
      throw await ofLostServer(manifest.id, error, server, folder.path);
    }
  });
}

/**
 * Of the original, so that whatever names its own database finds it; a server has some that cannot be loaded into, and one is asked
 * for in UTF-8.
 */
function freeName(name: string, encoding: string): string {
  if (encoding !== 'UTF8' && BEYOND_ASCII.test(name)) return 'drill';
  return ['postgres', 'template0', 'template1'].includes(name) ? `${name}_drill` : name;
}

async function loadAndAsk<T>(
  source: LoadSource,
  place: ScratchPlace,
  work: DrillWork & { readonly onMade: (roles: readonly string[]) => void },
  run: Run,
  context: OperationContext,
  ask: (restored: Restored) => Promise<T>,
): Promise<T> {
  work.onMade(await provideNeeds(source, place, work, run, context));
  let restoreMs: number;
  try {
    restoreMs = await load(source, place.connection, work, run, context);
  } catch (error) {
    if (!isPgarkError(error, 'restore-failed')) throw error;
    const made = await provideMissing(source, place, work, run, context, error);
    if (made === undefined) throw error;
    work.onMade(made);
    run.logger.info('drill.load_repeated', `loading once more, with what was missing: ${error.message}`);
    restoreMs = await load(source, place.connection, work, run, context);
  }
  return ask({ connection: place.connection, restoreMs, compared: comparedOf(source), recovered: undefined });
}

/** Resolves with the milliseconds that it took until all was loaded, as it does without a comparison. */
async function load(
  source: LoadSource,
  connection: ConnectionParameters,
  { jobs, scratch }: DrillWork,
  run: Run,
  context: OperationContext,
): Promise<number> {
  const startedMs = context.clock.monotonicMs();
  let loadedMs: number | undefined;
  await loadIntoTarget(
    {
      source,
      target: { kind: 'database', connection, clean: false },
      leaveOut: undefined,
      jobs,
      clientDir: scratch.kind === 'own' ? scratch.binDir : undefined,
      verifyRows: source.evidence !== undefined,
      analyse: false,
      planOnly: false,
      isServerThrownAway: scratch.kind === 'own',
      beforeTouching: () => Promise.resolve(),
      onLoaded: (comparedMs) => {
        loadedMs = context.clock.monotonicMs() - comparedMs;
      },
    },
    run,
    context,
  );
  return Math.round((loadedMs ?? context.clock.monotonicMs()) - startedMs);
}

function comparedOf({ evidence, recorded }: LoadSource): Compared {
  return evidence === undefined || recorded === undefined ? { by: 'statements' } : { by: evidence, ...recorded };
}
