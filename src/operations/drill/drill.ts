import { formatDuration } from '../../common/bytes.ts';
import { asPgarkError, PgarkError } from '../../common/errors.ts';
import type { ErrorCode } from '../../common/error-table.ts';
import { isInUse } from '../../postgres/client/swap-databases.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import { keys } from '../../repository/keys.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { Repository } from '../../repository/repository.ts';
import { type Run, runEnveloped } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { recordProof } from '../proofs.ts';
import type { RecoveryRequest } from '../restore-directory.ts';
import { whileHeld } from '../while-held.ts';
import { checkAssertions } from './assertions.ts';
import { chooseBackup } from './choose-backup.ts';
import type { DrillOutcome, DrillRequest, DrillWork, Restored } from './drill-request.ts';
import {
  forbiddenWalHint,
  impossible,
  isForWalNotFetched,
  isOfGivenServer,
  isOfMachine,
  isOfRights,
} from './of-machine.ts';
import { withRestoredDump } from './restore-dump.ts';
import { withRestoredServer } from './restore-server.ts';
import { afterDoubt, isStoredWhole, mayBeOfTheWay } from './second-look.ts';

/** Within a day: a run that says for longer that it is running counts as dead. */
const LIMIT_MS_DEFAULT = 23 * 3_600_000;

/** Failures that say of a backup that it does not restore as it should. All others say nothing of it. */
const VERDICTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'corrupt',
  'repository-damaged',
  'object-not-found',
  'recovery-failed',
  'drill-failed',
  'drill-too-slow',
]);

/** Those that say it too, unless it is the machine that lacks something. */
const MAY_BE_VERDICTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'restore-failed',
  'postgres-failed',
  'tablespace-path',
]);

const RIGHTS_HINT =
  'drill with a role that is a member of the roles that the backup names, with a superuser, or in a server of its own, without --to-url';

/** Whether what a drill failed with says of the backup that it does not restore, and was recorded as a proof of that. */
export function isVerdict({ code }: PgarkError): boolean {
  return VERDICTS.has(code);
}

/**
 * Proves a backup by restoring it: into a scratch server, as a restore would → what is there compared with what was recorded →
 * assertions → the time against what it may take. What seems damaged and is stored whole is restored once more. Nothing stays of
 * what was restored, however it ends; the result is appended to the backup's proofs. Errors: `drill-failed`, `drill-too-slow`,
 * `corrupt`, `recovery-failed` for a backup that failed; `drill-impossible`, `client-missing` and others for a drill that did.
 */
export async function drill(request: DrillRequest, context: OperationContext): Promise<DrillOutcome> {
  const { store } = request;
  const reference = await chooseBackup(request, context);
  request.onChosen?.(reference);
  const spec = { kind: 'drill', source: reference.source, database: reference.database.name } as const;
  return runEnveloped<DrillOutcome>({ ...context, store }, spec, async (run) => {
    await run.open();
    const drilled = new Drill(request, reference, run, context);
    const value = await drilled.carryOut();
    const { manifest, restoreMs, assertions } = value;
    run.logger.success('drill.passed', `${manifest.id} restores, in ${formatDuration(restoreMs)}`, {
      backupId: manifest.id,
      restoreMs,
      assertions,
    });
    return { value, result: { backup: manifest.id, format: manifest.format, restoreMs, assertions } };
  });
}

class Drill {
  readonly #request: DrillRequest;
  readonly #run: Run;
  readonly #context: OperationContext;
  /** What the result is of. */
  #manifest: Manifest;
  #restored: Restored | undefined;
  /** How the server was to be restored, once that is known. */
  #planned: DrillWork['again'];
  /** Why it is tried once more. */
  #doubt: PgarkError | undefined;

  constructor(request: DrillRequest, reference: Manifest, run: Run, context: OperationContext) {
    this.#request = request;
    this.#manifest = reference;
    this.#run = run;
    this.#context = context;
  }

  async carryOut(): Promise<DrillOutcome> {
    const { clock, signal } = this.#context;
    const { limitMs = LIMIT_MS_DEFAULT, assertions } = this.#request;
    const startedMs = clock.monotonicMs();
    const limit = new AbortController();
    const ended = new AbortController();
    void clock.sleep(limitMs, ended.signal).then(
      () => limit.abort(),
      () => undefined,
    );
    try {
      const { restoreMs, compared, recovered } = await this.#restore(AbortSignal.any([signal, limit.signal]));
      const durationMs = Math.round(clock.monotonicMs() - startedMs);
      const outcome = {
        manifest: this.#manifest,
        restoreMs,
        compared,
        recovered,
        assertions: assertions.length,
        durationMs,
      };
      this.#checkTime(restoreMs);
      await this.#record(undefined);
      return outcome;
    } catch (thrown) {
      signal.throwIfAborted();
      // What was found counts where there is no time to look once more.
      const error = limit.signal.aborted ? (this.#doubt ?? this.#tooLong(limitMs)) : await this.#verdictOf(thrown);
      if (!isVerdict(error)) throw this.#doubt === undefined ? error : afterDoubt(error, this.#doubt);
      await this.#record(error);
      throw error;
    } finally {
      ended.abort();
    }
  }

  /** One byte that was damaged on the way must not condemn a backup: what is stored whole is tried a second time. */
  async #restore(signal: AbortSignal): Promise<Restored> {
    try {
      return await this.#restoreAndAsk(signal);
    } catch (thrown) {
      signal.throwIfAborted();
      const error = await this.#verdictOf(thrown);
      const manifest = this.#manifest;
      const isSameAgain = manifest.format !== 'physical' || this.#planned !== undefined;
      if (!mayBeOfTheWay(error) || !isSameAgain) throw error;
      this.#doubt = error;
      const facts = { backupId: manifest.id, code: error.code };
      const doubt = `${manifest.id} seems damaged, and what is stored of it is read again: ${error.message}`;
      this.#run.logger.warning('drill.doubted', doubt, facts);
      if (!(await isStoredWhole({ ...this.#request, manifest }, this.#run, { ...this.#context, signal }))) throw error;
      const what = `what is stored of ${manifest.id} is whole, and it is tried once more`;
      this.#run.logger.warning('drill.repeated', what, facts);
      this.#restored = undefined;
      return this.#restoreAndAsk(signal);
    }
  }

  async #restoreAndAsk(signal: AbortSignal): Promise<Restored> {
    const context = { ...this.#context, signal };
    const run = this.#run;
    const work: DrillWork = {
      ...this.#request,
      manifest: this.#manifest,
      again: this.#planned,
      applicationName: `pgark drill ${run.id}`,
    };
    const ask = async (restored: Restored): Promise<Restored> => {
      this.#restored = restored;
      const { connection } = restored;
      const { assertions } = this.#request;
      await run.span.span('assertions', {}, () =>
        checkAssertions(connection, assertions, { applicationName: work.applicationName, signal }),
      );
      return restored;
    };
    run.logger.info('drill.started', `restoring ${this.#manifest.id} to try it`, { backupId: this.#manifest.id });
    if (this.#manifest.format !== 'physical') {
      const held = { store: work.store, manifest: work.manifest, command: 'drill', logger: run.logger } as const;
      return whileHeld({ ...held, runId: run.id }, context, () => withRestoredDump(work, run, context, ask));
    }
    const onPlanned = (manifest: Manifest, recovery: RecoveryRequest | undefined): void => {
      this.#manifest = manifest;
      this.#planned = { recovery };
      this.#request.onChosen?.(manifest);
    };
    return withRestoredServer({ ...work, onPlanned }, run, context, ask);
  }

  #checkTime(restoreMs: number): void {
    const { restoreMsMax } = this.#request;
    if (restoreMsMax === undefined || restoreMs <= restoreMsMax) return;
    throw new PgarkError(
      'drill-too-slow',
      `${this.#manifest.id} restores, but took ${formatDuration(restoreMs)}, and may take ${formatDuration(restoreMsMax)}`,
    );
  }

  #tooLong(limitMs: number): PgarkError {
    return new PgarkError(
      'drill-too-slow',
      `the drill of ${this.#manifest.id} was given up after ${formatDuration(limitMs)}`,
    );
  }

  /** What a load or a server says that did not take the backup is a word on the backup. */
  async #verdictOf(thrown: unknown): Promise<PgarkError> {
    const error = asPgarkError(thrown);
    const { id, source, database } = this.#manifest;
    if (!isVerdict(error) && !MAY_BE_VERDICTS.has(error.code)) return error;
    const forbidden = forbiddenWalHint(error);
    if (forbidden !== undefined) return impossible(id, error, forbidden);
    // What assertions say stands in errors word for word, and they come last.
    if (this.#restored === undefined && isOfMachine(error)) return impossible(id, error);
    const isGiven = this.#restored === undefined && this.#request.scratch.kind === 'given';
    if (isGiven && isOfGivenServer(error)) return impossible(id, error);
    if (isForWalNotFetched(error)) return impossible(id, error, error.hint);
    if (this.#restored === undefined && isInUse(error)) return impossible(id, error, error.hint);
    if (isGiven && isOfRights(error)) return impossible(id, error, RIGHTS_HINT);
    const repository = new Repository(this.#request.store, this.#context);
    const isThere = await repository.manifestAt(keys.manifest(source, database.name, id), {
      signal: this.#context.signal,
    });
    if (isThere === undefined) {
      return new PgarkError('backup-not-found', `${id} was deleted while it was being tried`, {
        cause: error,
        hint: 'run the drill again: it takes another one',
      });
    }
    if (isVerdict(error)) return error;
    return new PgarkError('drill-failed', `${id} does not restore: ${error.message}`, {
      cause: error,
      hint: error.hint,
    });
  }

  async #record(error: PgarkError | undefined): Promise<void> {
    const { restoreMs, compared, recovered } = this.#restored ?? {};
    const { assertions, restoreMsMax } = this.#request;
    await recordProof(
      this.#request.store,
      this.#manifest,
      {
        kind: 'drill',
        runId: this.#run.id,
        error,
        details: {
          ...(restoreMs === undefined ? {} : { restoreMs }),
          ...(restoreMsMax === undefined ? {} : { restoreMsMax }),
          ...(compared === undefined ? {} : { compared }),
          assertions: assertions.length,
          ...(recovered === undefined ? {} : { recoveredTo: pointOf(recovered) }),
        },
      },
      this.#context,
    );
  }
}

/** The moment that a server was brought back to. */
function pointOf({ plan, lastTransaction }: NonNullable<DrillOutcome['recovered']>): Record<string, unknown> {
  return {
    ...(plan === undefined ? {} : { timeline: plan.timeline, lsn: formatLsn(plan.stop.lsn) }),
    ...(lastTransaction === undefined ? {} : { lastTransaction }),
  };
}
