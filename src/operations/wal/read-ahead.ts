import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { MIB } from '../../common/bytes.ts';
import { archivedSegmentBytes } from '../../formats/wal/archived-segment-bytes.ts';
import { parseSegmentName, segmentName } from '../../postgres/wal/segment.ts';
import type { OperationContext } from '../context.ts';
import { type FetchWalRequest, fetchWal } from './fetch.ts';

/** Segments that lie ready: so many, or fewer where they are large. */
const READY_MAX = 16;
const READY_BYTES_MAX = 512 * MIB;
/** Fetched at once. */
const FETCHES = 4;
const LOOK_MS = 20;

export interface ReadAheadRequest extends Omit<FetchWalRequest, 'name' | 'target'> {
  /** The segment to begin with. */
  readonly first: string;
  /**
   * Where segments are put under their names, for somebody to take them away. `NAME.coming` says that one is on its way;
   * `failed` that there is no more, for whatever reason. It ends when the folder is gone.
   */
  readonly folder: string;
  /** Asked now and then whether anybody still wants them. */
  readonly isWanted: () => Promise<boolean>;
}

/**
 * Fetches segment after segment into a folder, some ahead of what was taken from it, until one cannot be had or nobody wants
 * them any more. What that means for a recovery `fetchWal` says, once it is asked for that very segment.
 */
export async function readAhead(request: ReadAheadRequest, context: OperationContext): Promise<void> {
  const { folder, first, isWanted, stores, keys } = request;
  const { clock, signal } = context;
  const sizes = await Promise.all(
    stores.map(({ store }) => archivedSegmentBytes(store, request, first, { keys, signal })),
  );
  const segmentBytes = sizes.find((bytes) => bytes !== undefined);
  const segment = segmentBytes === undefined ? undefined : parseSegmentName(first, segmentBytes);
  if (segment === undefined || segmentBytes === undefined) return fail(folder);
  const readyMax = Math.max(2, Math.min(READY_MAX, Math.floor(READY_BYTES_MAX / segmentBytes)));
  const underWay = new Set<Promise<void>>();
  const state = { goesOn: true };
  for (let { number } = segment; state.goesOn; number += 1n) {
    while (underWay.size >= FETCHES) await Promise.race(underWay);
    while ((await countReady(folder)) >= readyMax) {
      if (!(await isWanted())) return;
      await clock.sleep(LOOK_MS, signal);
    }
    const name = segmentName({ timeline: segment.timeline, number }, segmentBytes);
    const fetching = fetchOne({ ...request, name, target: path.join(folder, name) }, context).then((found) => {
      state.goesOn &&= found;
      underWay.delete(fetching);
    });
    underWay.add(fetching);
  }
  await Promise.all(underWay);
  await fail(folder);
}

/** Whether it could be had. */
async function fetchOne(request: FetchWalRequest, context: OperationContext): Promise<boolean> {
  const coming = `${request.target}.coming`;
  try {
    await writeFile(coming, '', { mode: 0o600 });
    const outcome = await fetchWal(request, context);
    return outcome === 'found';
  } catch {
    // Who asks for this segment hears why.
    return false;
  } finally {
    await rm(coming, { force: true });
  }
}

async function fail(folder: string): Promise<void> {
  await writeFile(path.join(folder, 'failed'), '', { mode: 0o600 });
}

/** Segments that nobody has taken yet, and those that come. */
async function countReady(folder: string): Promise<number> {
  const names = await readdir(folder);
  return new Set(names.filter((name) => /^[0-9A-F]{24}(\.coming)?$/.test(name)).map((name) => name.slice(0, 24))).size;
}

/** Whether the server whose restore_command has said last to use this folder, `pg_wal/pgark/…`, still runs. */
export async function isFolderOfRunningServer(folder: string): Promise<boolean> {
  const own = path.dirname(folder);
  const told = await readFile(path.join(own, 'ahead'), 'utf8').catch(() => '');
  const lines = await readFile(path.join(own, '..', '..', 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(lines.split('\n')[0]);
  try {
    return told.trim() === folder && pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}
