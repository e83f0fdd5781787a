import { messageOf } from '../common/errors.ts';
import type { ConnectionConfig } from '../config/connection.ts';
import type { StorageConfig } from '../config/model.ts';
import type { Schedule } from '../config/schedule.ts';
import type { OperationContext } from '../operations/context.ts';
import { describeServer } from '../operations/other-server.ts';
import { otherServerOf } from '../operations/shared-name.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { claimDue, type ClaimAnswer, endClaim } from './claims.ts';
import { spacingOf } from './due-times.ts';
import type { Fired } from './scheduler.ts';
import type { Stores } from './stores.ts';
import { timeLimit } from './time-limit.ts';

/** A storage that takes longer over a claim, while there is another one to ask, is as good as away. */
const CLAIM_MS_MAX = 10_000;

/** What a due time is of. */
export interface Claimable {
  /** As logs show it. */
  readonly id: string;
  readonly source: string;
  /** Within the source. */
  readonly job: string;
  readonly schedule: Schedule | undefined;
  /** Where claims lie: the first that answers. */
  readonly storages: readonly StorageConfig[];
  /** Of what is backed up: who has taken the due time may have another server of the same name in mind. */
  readonly connection?: ConnectionConfig;
}

/** A due time, taken for this process once: no other host carries it out. */
export class DueClaim {
  readonly #of: Claimable;
  readonly #fired: Fired;
  readonly #world: { readonly stores: Stores; readonly context: OperationContext };
  /** It is another host's too, which backs up another server. */
  #isBesideOther = false;
  #held: { readonly store: ObjectStore; readonly token: string } | undefined;

  constructor(of: Claimable, fired: Fired, world: { readonly stores: Stores; readonly context: OperationContext }) {
    this.#of = of;
    this.#fired = fired;
    this.#world = world;
  }

  /** Whether nobody else carries out this due time for this server. */
  get isOwn(): boolean {
    return this.#held !== undefined || this.#isBesideOther;
  }

  /**
   * Undefined once the due time is this run's, or if no storage can be asked: then the run itself will say what is wrong.
   * Only the last storage to ask is given the time that its own retries take: nothing is to begin late for one that is away.
   */
  async take(): Promise<Extract<ClaimAnswer, { kind: 'taken' }> | undefined> {
    if (this.isOwn) return undefined;
    const { stores, context } = this.#world;
    const { id, source, job, schedule, storages } = this.#of;
    const { clock, random, host, pid, signal, logger } = context;
    for (const storage of storages) {
      const isLast = storage === storages.at(-1);
      const limit = isLast
        ? undefined
        : timeLimit(clock, CLAIM_MS_MAX, `no answer within ${CLAIM_MS_MAX / 1_000} s`, signal);
      try {
        const store = await stores.open(storage);
        const answer = await claimDue(
          store,
          {
            source,
            job,
            dueAt: this.#fired.dueAt,
            spacingMs: schedule === undefined ? 1 : spacingOf(schedule),
            resumes: this.#fired.resumes,
            now: clock.now(),
            host,
            pid,
            random,
          },
          { signal: limit?.signal ?? signal },
        );
        if (answer.kind === 'taken') {
          if (await this.#isOfOtherServer(answer, store)) return undefined;
          return this.#skip(answer);
        }
        this.#held = { store, token: answer.token };
        return undefined;
      } catch (error) {
        signal.throwIfAborted();
        const message = messageOf(error);
        logger.warning('schedule.claim_failed', `${id}: ${storage.name} cannot be told of this run: ${message}`, {
          job: id,
          storage: storage.name,
        });
      } finally {
        limit?.end();
      }
    }
    return undefined;
  }

  /** Two servers that share a name and a storage: neither is backed up by the other one's run. */
  async #isOfOtherServer({ host, pid }: Extract<ClaimAnswer, { kind: 'taken' }>, store: ObjectStore): Promise<boolean> {
    const { context } = this.#world;
    const { id, source, connection } = this.#of;
    const { clock, signal, logger } = context;
    if (connection === undefined || (host === context.host && pid === context.pid)) return false;
    const limit = timeLimit(clock, CLAIM_MS_MAX, `no answer within ${CLAIM_MS_MAX / 1_000} s`, signal);
    try {
      const other = await otherServerOf(new Repository(store, context), source, connection, limit);
      if (other === undefined) return false;
      this.#isBesideOther = true;
      logger.warning(
        'source.other_server',
        `${id}: ${host} (pid ${pid}) has begun what is due, but there are backups of another server by this name, ${describeServer(other)}: it is carried out here too. After a move or pg_upgrade there is nothing to do; if these are two servers, give each a BACKUP_NAME or a storage prefix of its own`,
        { job: id, host, pid, other },
      );
      return true;
    } catch (error) {
      signal.throwIfAborted();
      logger.debug('source.other_server_unknown', `${id}: whose backups are there is not known: ${messageOf(error)}`);
      return false;
    } finally {
      limit.end();
    }
  }

  #skip(taken: Extract<ClaimAnswer, { kind: 'taken' }>): Extract<ClaimAnswer, { kind: 'taken' }> {
    const { id } = this.#of;
    const { host, pid } = taken;
    this.#world.context.logger.info('job.skipped', `${id}: ${host} (pid ${pid}) has begun what is due; skipped`, {
      job: id,
      dueAt: this.#fired.dueAt.toISOString(),
      host,
      pid,
    });
    return taken;
  }

  /** A claim that stays open is taken for a run that died: it is done anew after the next start. */
  async end(): Promise<void> {
    const { clock, logger } = this.#world.context;
    const { id, source, job } = this.#of;
    if (this.#held === undefined) return;
    const { store, token } = this.#held;
    try {
      await endClaim(store, { source, job, token, now: clock.now() });
    } catch (error) {
      logger.warning('schedule.claim_failed', `${id}: the end of this run could not be noted: ${messageOf(error)}`, {
        job: id,
      });
    }
  }
}
