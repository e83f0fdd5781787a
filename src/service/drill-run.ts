import { tmpdir } from 'node:os';
import { asPgarkError, type PgarkError } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import { drill, isVerdict } from '../operations/drill/drill.ts';
import type { DrillOutcome, DrillRequest, Scratch } from '../operations/drill/drill-request.ts';
import type { OperationContext } from '../operations/context.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { DrillReport } from './reports.ts';

/** What of a drill is not configured. */
export type DrillOrder = Omit<DrillRequest, 'scratch' | 'assertions' | 'users'> & {
  /** Default: a server of its own, as it is configured. */
  readonly scratch?: Scratch | undefined;
  /** Besides those that are configured. */
  readonly assertions?: DrillRequest['assertions'];
  /** Name of the storage. */
  readonly storage: string;
};

/** What a drill came to, for whoever asked for it and for whoever is to be told; nothing is to be told of one without a report. */
export interface DrillRun {
  readonly outcome: DrillOutcome | undefined;
  readonly error: PgarkError | undefined;
  readonly report: DrillReport | undefined;
  /** Whether it proved something of a backup, be it that it does not restore. */
  readonly hasProven: boolean;
}

/** Tries a backup as its source's configuration says. Rejects only with the reason of the context's signal. */
export async function runDrill(
  source: SourceConfig | undefined,
  { storage, ...order }: DrillOrder,
  context: OperationContext,
): Promise<DrillRun> {
  let chosen: Manifest | undefined;
  const onChosen = (manifest: Manifest): void => {
    chosen = manifest;
  };
  const settings = source?.drill;
  const reportOf = (error: PgarkError | undefined): DrillReport | undefined => {
    const name = chosen?.source ?? source?.name;
    if (name === undefined) return undefined;
    const kind = chosen === undefined ? order.filter.kind : chosen.format === 'physical' ? 'physical' : 'logical';
    const about = { source: name, database: chosen?.database.name, kind, storage, endedAt: context.clock.now() };
    return { ...about, backupId: chosen?.id, runId: error?.runId, error };
  };
  try {
    const outcome = await drill(
      {
        ...order,
        scratch: order.scratch ?? {
          kind: 'own',
          workFolder: settings?.workDir ?? tmpdir(),
          memoryBytes: settings?.memoryBytes,
        },
        assertions: [...(settings?.assertions ?? []), ...(order.assertions ?? [])],
        restoreMsMax: order.restoreMsMax ?? settings?.maxRestoreTimeMs,
        users: ['postgres', ...(source === undefined ? [] : [source.connection.user])],
        onChosen,
      },
      context,
    );
    return { outcome, error: undefined, report: reportOf(undefined), hasProven: true };
  } catch (thrown) {
    context.signal.throwIfAborted();
    const error = asPgarkError(thrown);
    // Whoever asks for what there is not, or as it is not asked, has to be told and nobody else.
    const isMistaken =
      error.code === 'usage' ||
      (error.code === 'backup-not-found' && chosen === undefined && order.selector.kind === 'name');
    const report = isMistaken ? undefined : reportOf(error);
    return { outcome: undefined, error, report, hasProven: isVerdict(error) };
  }
}
