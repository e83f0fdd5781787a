import { z } from 'zod';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { Random } from '../common/random.ts';
import { keys } from '../repository/keys.ts';
import { LAYOUT } from '../repository/manifest.ts';
import { readState, writeState } from '../repository/state-object.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { CLOCK_TRUST_MS } from './due-times.ts';

/** Hosts that come first, one after the other, before it is given up. */
const LOST_RACES_MAX = 10;

/** `.pgark/schedule/SOURCE/JOB.json`: the due time that was begun last, by whom, and whether that came to an end. */
const claimSchema = z.object({
  layout: z.literal(LAYOUT),
  source: z.string(),
  job: z.string(),
  dueAt: z.iso.datetime(),
  claimedAt: z.iso.datetime(),
  /** Missing while it goes on, and for ever if the process died. Not a word on how it ended: run records say that. */
  endedAt: z.iso.datetime().optional(),
  host: z.string(),
  pid: z.number().int(),
  /** Makes each claim's bytes different. */
  token: z.string().min(1),
});

type Claim = z.infer<typeof claimSchema>;

export interface ClaimRequest {
  readonly source: string;
  readonly job: string;
  readonly dueAt: Date;
  /** Due times that are closer than this are the same one. */
  readonly spacingMs: number;
  /** Take over a due time that was begun and never ended, from a process that is gone. */
  readonly resumes: boolean;
  readonly now: Date;
  readonly host: string;
  readonly pid: number;
  readonly random: Random;
}

export type ClaimAnswer =
  | { readonly kind: 'claimed'; readonly token: string }
  /** Somebody has begun this due time, or a later one. */
  | { readonly kind: 'taken'; readonly dueAt: Date; readonly host: string; readonly pid: number };

/**
 * Takes a due time of a job for this process: of all hosts that share the storage, one gets it. It says that the run was
 * begun, not that it ended well. Exact where the store's conditional writes work; elsewhere two hosts that ask in the
 * same moment may both get it, and the locks of the backup keep them apart. Rejects with the store's error.
 */
export async function claimDue(
  store: ObjectStore,
  request: ClaimRequest,
  options: CallOptions = {},
): Promise<ClaimAnswer> {
  const { source, job, dueAt, spacingMs, resumes, now, host, pid, random } = request;
  const key = keys.schedule(source, job);
  const claim: Claim = {
    layout: LAYOUT,
    source,
    job,
    dueAt: dueAt.toISOString(),
    claimedAt: now.toISOString(),
    host,
    pid,
    token: Buffer.from(random.bytes(16)).toString('hex'),
  };
  for (let attempt = 0; attempt < LOST_RACES_MAX; attempt += 1) {
    const seen = await readState(store, key, claimSchema, options);
    if (seen !== undefined) {
      const seenMs = Date.parse(seen.value.dueAt);
      // A claim of a time far ahead was made by a clock that was wrong, and must not keep everybody waiting for it.
      const isBelieved = seenMs <= now.getTime() + CLOCK_TRUST_MS;
      const isLeft = resumes && seen.value.endedAt === undefined && seenMs === dueAt.getTime();
      if (isBelieved && !isLeft && seenMs > dueAt.getTime() - spacingMs) {
        return { kind: 'taken', dueAt: new Date(seenMs), host: seen.value.host, pid: seen.value.pid };
      }
    }
    try {
      const condition = seen === undefined ? ({ ifAbsent: true } as const) : { ifMatch: seen.etag };
      await writeState(store, key, claim, { ...options, condition });
      return { kind: 'claimed', token: claim.token };
    } catch (error) {
      if (!isPgarkError(error, 'store-condition-failed')) throw error;
    }
  }
  throw new PgarkError('store-failed', `${key} changed at each of ${LOST_RACES_MAX} tries to claim a due time`);
}

/** Says that what was claimed has come to an end. Somebody else's claim is left as it is. Rejects with the store's error. */
export async function endClaim(
  store: ObjectStore,
  { source, job, token, now }: Pick<ClaimRequest, 'source' | 'job' | 'now'> & { readonly token: string },
): Promise<void> {
  const key = keys.schedule(source, job);
  const seen = await readState(store, key, claimSchema);
  if (seen?.value.token !== token) return;
  try {
    await writeState(store, key, { ...seen.value, endedAt: now.toISOString() }, { condition: { ifMatch: seen.etag } });
  } catch (error) {
    if (!isPgarkError(error, 'store-condition-failed')) throw error;
  }
}

/** What is known of the last time that a job was due. */
export interface LastStart {
  readonly at: Date;
  /** It was begun and has not ended: it goes on elsewhere, or its process died. */
  readonly isOpen: boolean;
}

/** The due time of a job that was begun last, as this storage knows it. Rejects with the store's error. */
export async function lastClaimed(
  store: ObjectStore,
  { source, job }: Pick<ClaimRequest, 'source' | 'job'>,
  options: CallOptions = {},
): Promise<LastStart | undefined> {
  const seen = await readState(store, keys.schedule(source, job), claimSchema, options);
  return seen && { at: new Date(seen.value.dueAt), isOpen: seen.value.endedAt === undefined };
}
