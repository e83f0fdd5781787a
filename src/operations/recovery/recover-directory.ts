import { highest, parametersIn } from '../../formats/physical/control-parameters.ts';
import { FETCH_COMMAND, type FetchProgram, writeFetchScript } from '../../formats/physical/fetch-script.ts';
import type { RecoveryPlan as RecoverySettings } from '../../formats/physical/recovery-settings.ts';
import type { TargetFolder } from '../../formats/physical/target-files.ts';
import { bytesOf } from '../../postgres/toc/byte-string.ts';
import type { ServerParameters } from '../../postgres/wal/record.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { segmentAt, segmentName, segmentStartAt } from '../../postgres/wal/segment.ts';
import { refuseTablespace, type ReplayedSpan } from '../../postgres/wal/tablespace-watch.ts';
import type { RecoveryPlan } from './plan-recovery.ts';
import { scanWal } from './scan-wal.ts';

/**
 * Reads all WAL that a recovery needs, from its base on: each object is compared with the digest it was stored with, and each
 * record follows the one before it; and none that is replayed makes a tablespace at a path, unless that is allowed. Resolves with
 * the settings that the server changed to on the way. Errors: `tablespace-path`; `corrupt`, naming the object; `wal-gap`,
 * `wrong-key`, `key-missing`, `store-…`.
 */
export async function checkWal(
  plan: RecoveryPlan,
  { allowsTablespacePaths = false }: TablespacePaths,
): Promise<readonly ServerParameters[]> {
  const found: ServerParameters[] = [];
  const replayed = replayedBy(plan);
  await scanWal(plan.path, { from: plan.base.startLsn, to: neededTo(plan) }, (landmark) => {
    if (landmark.kind === 'parameters') found.push(landmark.parameters);
    if (!allowsTablespacePaths) refuseTablespace(landmark, replayed);
  });
  return found;
}

/** What a recovery may do beside its own directory. */
export interface TablespacePaths {
  /** It may make tablespaces at the paths that they had on the old server. Default: it may not. */
  readonly allowsTablespacePaths?: boolean | undefined;
}

function replayedBy({ base, stop }: RecoveryPlan): ReplayedSpan {
  return { from: base.startLsn, to: stop.inclusive ? stop.lsn + 1n : stop.lsn };
}

/** The end of the WAL that a recovery may need. The record that the server stops at may end in the next segment. */
function neededTo({ path: archive, base, stop }: Pick<RecoveryPlan, 'path' | 'base' | 'stop'>): Lsn {
  const needed = segmentStartAt(stop.lsn, archive.segmentBytes) + 2n * BigInt(archive.segmentBytes);
  const archived = archive.stretchOf(base.startLsn, stop.lsn)?.to ?? stop.lsn;
  return needed < archived ? needed : archived;
}

/** Puts into a data directory how its server gets WAL; returns the settings to recover with. */
export async function prepareFetching(
  data: TargetFolder,
  plan: RecoveryPlan,
  {
    fetch,
    changes,
    port,
    allowsTablespacePaths = false,
  }: {
    readonly fetch: FetchProgram;
    readonly changes: readonly ServerParameters[];
    readonly port?: number | undefined;
  } & TablespacePaths,
): Promise<RecoverySettings> {
  const { segmentBytes, folder } = plan.path;
  const ends = [neededTo(plan) - 1n, plan.stop.lsn, plan.base.stopLsn - 1n];
  const lastLsn = ends.reduce((last, lsn) => (lsn > last ? lsn : last));
  const last = segmentName(segmentAt(plan.timeline, lastLsn, segmentBytes), segmentBytes);
  const replayed = allowsTablespacePaths ? undefined : replayedBy(plan);
  // To a target: a server that does not get to it fails, and so it does not end early where something is missing behind that.
  await writeFetchScript(data, fetch, { folder, last, upTo: lastLsn + 1n, replayed });
  const control = await data.read('global/pg_control');
  const own = control && parametersIn(bytesOf(control));
  return {
    timeline: plan.timeline,
    archive: { ...plan.stop, restoreCommand: FETCH_COMMAND },
    parameters: highest([...(own === undefined ? [] : [own]), ...changes]),
    port,
  };
}
