import { userInfo } from 'node:os';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { BackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { Leases } from '../repository/leases.ts';
import { LAYOUT, type Manifest } from '../repository/manifest.ts';
import { type Pin, readPin, writePin } from '../repository/pins.ts';
import { PRUNE_LEASE, withdrawIfKept } from '../repository/remove-backup.ts';
import { Repository } from '../repository/repository.ts';
import { type Run, runEnveloped } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';

export interface PinRequest {
  readonly store: ObjectStore;
  /** The backup to hold, as it was found in this store. */
  readonly manifest: Manifest;
  /** In one line. Default: none is given, and that of an earlier pin stays. */
  readonly reason?: string | undefined;
  readonly leaseTermMs: number;
}

export interface PinOutcome {
  readonly pin: Pin;
  /** Whether it was not pinned before, or for another reason. */
  readonly isNew: boolean;
}

export interface UnpinRequest {
  readonly store: ObjectStore;
  /** Also of a backup that is not there any more. */
  readonly id: BackupId;
}

/** What is known of a backup's pin. */
export interface Pinned {
  readonly isPinned: boolean;
  /** Undefined also of one that cannot be read, which holds the backup all the same. */
  readonly pin: Pin | undefined;
}

/** Between two looks whether a prune that is under way has removed the backup or let it be. */
const LOOK_MS = 500;

/**
 * Holds a backup: no prune removes it, nor what it needs. Pin → is a prune removing it at this moment? → is it still there? When
 * this resolves, every prune that goes on or is to come sees the pin before it removes anything of the backup. Errors:
 * `backup-not-found` where it was removed meanwhile, and nothing is pinned then; `store-…` where the store takes no pin.
 */
export async function pinBackup(request: PinRequest, context: OperationContext): Promise<PinOutcome> {
  const { store, manifest, reason } = request;
  const { id, source, database } = manifest;
  const call = { signal: context.signal };
  const repository = new Repository(store, context);
  await repository.checkLayout(call);
  const spec = { kind: 'pin', source, database: database.name } as const;
  return runEnveloped<PinOutcome>({ ...context, store }, spec, async (run) => {
    const present = await readablePin(store, id, run, context);
    if (present !== undefined && (reason === undefined || reason === present.reason)) {
      await settle(repository, request, run, context);
      return { value: { pin: present, isNew: false }, result: { backup: id } };
    }
    const pin: Pin = {
      layout: LAYOUT,
      id,
      pinnedAt: (await store.now(call)).toISOString(),
      by: { ...userName(), host: context.host },
      ...(reason === undefined ? {} : { reason }),
      runId: run.id,
      pgarkVersion: context.pgarkVersion,
    };
    await writePin(store, pin, call);
    await run.open();
    await settle(repository, request, run, context);
    const why = reason === undefined ? '' : `: ${reason}`;
    run.logger.success('pin.done', `pinned ${id} of ${database.name} for ${describeHolder(pin)}${why}`, {
      backupId: id,
    });
    return { value: { pin, isNew: true }, result: { backup: id } };
  });
}

/** Lets retention decide again about a backup. Resolves with whether it was pinned. */
export async function unpinBackup({ store, id }: UnpinRequest, context: OperationContext): Promise<boolean> {
  const call = { signal: context.signal };
  await new Repository(store, context).checkLayout(call);
  if ((await store.head(keys.pin(id), call)) === undefined) return false;
  return runEnveloped<boolean>({ ...context, store }, { kind: 'unpin' }, async (run) => {
    const pin = await readablePin(store, id, run, context);
    await store.delete(keys.pin(id), call);
    await run.open();
    const since = pin === undefined ? '' : `, which ${describeHolder(pin)} had pinned at ${pin.pinnedAt}`;
    const why = pin?.reason === undefined ? '' : `: ${pin.reason}`;
    run.logger.success('unpin.done', `${userName().user ?? 'somebody'} unpinned ${id}${since}${why}`, { backupId: id });
    return { value: true, result: { backup: id } };
  });
}

export async function pinOf(
  store: ObjectStore,
  id: BackupId,
  context: Pick<OperationContext, 'logger' | 'signal'>,
): Promise<Pinned> {
  const call = { signal: context.signal };
  if ((await store.head(keys.pin(id), call)) === undefined) return { isPinned: false, pin: undefined };
  return { isPinned: true, pin: await readablePin(store, id, context, context) };
}

/** `anna on db1` */
export function describeHolder({ by: { user, host } }: Pin): string {
  return user === undefined ? `somebody on ${host}` : `${user} on ${host}`;
}

async function readablePin(
  store: ObjectStore,
  id: BackupId,
  { logger }: Pick<OperationContext, 'logger'>,
  { signal }: Pick<OperationContext, 'signal'>,
): Promise<Pin | undefined> {
  try {
    return await readPin(store, id, { signal });
  } catch (error) {
    if (!isPgarkError(error, 'repository-damaged') && !isPgarkError(error, 'repository-unknown-layout')) throw error;
    logger.warning('pin.unread', `${id} is pinned, but not who did it nor why can be read: ${error.message}`);
    return undefined;
  }
}

/**
 * A prune looks for a pin when it has said, in `deleted/`, that it removes the backup. Where it has not, it will see the pin; where
 * it has, it may have seen none. Whoever has the right to prune settles that, and so does this where nobody has it.
 */
async function settle(
  repository: Repository,
  { manifest, leaseTermMs }: PinRequest,
  run: Run,
  context: OperationContext,
): Promise<void> {
  const { store } = repository;
  const { clock, random, host, pid, signal } = context;
  const { id, source, database } = manifest;
  const leases = new Leases(store, {
    clock,
    random,
    logger: run.logger,
    termMs: leaseTermMs,
    holder: { host, pid, runId: run.id, command: 'pgark pin' },
  });
  for (let isTold = false; ; ) {
    const isGoing = (await store.head(keys.deleted(id), { signal })) !== undefined;
    if ((await store.head(keys.manifest(source, database.name, id), { signal })) === undefined) {
      await store.delete(keys.pin(id), { signal });
      throw new PgarkError('backup-not-found', `${id} was removed by a prune before it was pinned`, {
        hint: 'pgark list shows what there is',
      });
    }
    if (!isGoing) return;
    const lease = await leases.acquire(PRUNE_LEASE, { signal }).catch((error: unknown) => {
      if (isPgarkError(error, 'locked')) return error;
      throw error;
    });
    if (lease instanceof PgarkError) {
      const what = `${id} is about to be removed: it is not certain yet whether the pin came in time; ${lease.message}`;
      if (!isTold) run.logger.warning('pin.waiting', what, { backupId: id });
      isTold = true;
      await clock.sleep(LOOK_MS, signal);
      continue;
    }
    try {
      // A prune that died here has removed nothing of it yet: nobody else does either while the lease is held.
      if ((await withdrawIfKept(repository, manifest, { signal }))?.kept === 'pinned') return;
      if ((await store.head(keys.pin(id), { signal })) === undefined) {
        throw new PgarkError('store-condition-failed', `${id} was unpinned while it was pinned`);
      }
    } finally {
      await lease.release();
    }
  }
}

/** Empty where the system has no name for the user, as in a container with a number alone. */
function userName(): { readonly user?: string } {
  try {
    return { user: userInfo().username };
  } catch {
    return {};
  }
}
