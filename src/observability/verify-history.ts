import { z } from 'zod';
import { AHEAD_MS_MAX } from '../common/clock.ts';
import { isPgarkError } from '../common/errors.ts';
import { kindOfId } from '../repository/ids.ts';
import { keys, parseProofKey } from '../repository/keys.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { BackupFacts } from './backup-facts.ts';
import type { DueTimes } from './expectations.ts';
import type { PlannedProof } from './proof-facts.ts';

/** When a verification last found the newest backup whole, by `verifyKey`. */
export type VerifyHistory = ReadonlyMap<string, Date>;

/** How the verification of a line is doing. */
export interface VerificationFacts {
  readonly lastSuccessAt: Date | undefined;
  /** Undefined: none is scheduled here, or none could be proven by the keys here. */
  readonly isOverdue: boolean | undefined;
}

/** Proofs that are read for one that passed; who fails as often has other worries. */
const TRIES_MAX = 20;
const LINES_IN_FLIGHT_MAX = 16;
const FOREVER = new Date(8.64e15);
const proofRecord = z.object({ passed: z.boolean(), wasNewest: z.boolean().optional() });

type VerifiedLine = Pick<BackupFacts, 'id' | 'source' | 'database'>;

interface Candidate {
  readonly key: ObjectKey;
  readonly at: Date;
  /** Whether a newer backup had ended by then. It may have begun before that: what takes long is proven late. */
  readonly isLate: boolean;
}

/** A verification reads the newest of the dumps and the newest of a server's files, in whichever format they are. */
export function verifyKey({ id, source, database }: VerifiedLine): string {
  return JSON.stringify([source, database, kindOfId(id)]);
}

/**
 * What the proofs in a storage say. Only what a backup was proven as that was the newest when its verification began counts: that
 * older ones are read while the newest cannot be is no success. Where the proof does not say so, the times do. Rejects with the
 * store's error.
 */
export async function readVerifications(
  store: ObjectStore,
  backups: Iterable<BackupFacts>,
  {
    now,
    previous = new Map(),
    ...call
  }: CallOptions & { readonly now: Date; readonly previous?: VerifyHistory | undefined },
): Promise<VerifyHistory> {
  const byId = newestUntil(backups);
  const candidates = new Map<string, Candidate[]>();
  for await (const { key } of store.list(keys.proofsPrefix, call)) {
    const { id, kind, at } = parseProofKey(key);
    const backup = byId.get(id);
    if (kind !== 'verify' || backup === undefined) continue;
    const before = previous.get(backup.line);
    if (at.getTime() > now.getTime() + AHEAD_MS_MAX || (before !== undefined && at <= before)) continue;
    const known = candidates.get(backup.line) ?? [];
    known.push({ key, at, isLate: at > backup.until });
    candidates.set(backup.line, known);
  }
  const verified = new Map(previous);
  const lines = [...candidates];
  for (let start = 0; start < lines.length; start += LINES_IN_FLIGHT_MAX) {
    await Promise.all(
      lines.slice(start, start + LINES_IN_FLIGHT_MAX).map(async ([line, proofs]) => {
        const last = await lastSuccess(store, proofs, call);
        if (last !== undefined) verified.set(line, last);
      }),
    );
  }
  return verified;
}

/** Late proofs are mostly of old backups, and leave the tries for the others as they are. */
async function lastSuccess(
  store: ObjectStore,
  proofs: readonly Candidate[],
  call: CallOptions,
): Promise<Date | undefined> {
  const newestFirst = proofs.toSorted((a, b) => b.at.getTime() - a.at.getTime());
  let last: Date | undefined;
  for (const late of [false, true]) {
    for (const proof of newestFirst.filter(({ isLate }) => isLate === late).slice(0, TRIES_MAX)) {
      if (last !== undefined && proof.at <= last) break;
      if (!(await isSuccess(store, proof, call))) continue;
      last = proof.at;
      break;
    }
  }
  return last;
}

/** By the ids of backups, which line they are of, and until when they were its newest. */
function newestUntil(
  backups: Iterable<BackupFacts>,
): ReadonlyMap<string, { readonly line: string; readonly until: Date }> {
  const found = new Map<string, { readonly line: string; readonly until: Date }>();
  for (const [line, all] of Map.groupBy(backups, verifyKey)) {
    const oldestFirst = all.toSorted((a, b) => a.endedAt.getTime() - b.endedAt.getTime());
    for (const [index, { id }] of oldestFirst.entries()) {
      found.set(id, { line, until: oldestFirst[index + 1]?.endedAt ?? FOREVER });
    }
  }
  return found;
}

async function isSuccess(store: ObjectStore, { key, isLate }: Candidate, call: CallOptions): Promise<boolean> {
  try {
    const proof = (await readState(store, key, proofRecord, call))?.value;
    return proof?.passed === true && (proof.wasNewest ?? !isLate);
  } catch (error) {
    // A proof that cannot be read proves nothing.
    if (isPgarkError(error, 'repository-damaged') || isPgarkError(error, 'repository-unknown-layout')) return false;
    throw error;
  }
}

/**
 * A scheduled verification is overdue when two of its times have passed since the last one that succeeded; where none ever has,
 * since there is something to verify, or since somebody watches.
 */
export function verificationOf(
  backups: readonly BackupFacts[],
  history: VerifyHistory,
  world: {
    readonly now: Date;
    readonly watchedSince: Date | undefined;
    readonly dueTimes: DueTimes;
    /** Of this source in this storage. */
    readonly planned: readonly PlannedProof[];
  },
): VerificationFacts {
  const newest = backups.toSorted((a, b) => b.endedAt.getTime() - a.endedAt.getTime())[0];
  if (newest === undefined) return { lastSuccessAt: undefined, isOverdue: undefined };
  const lastSuccessAt = history.get(verifyKey(newest));
  const schedules = world.planned.flatMap(({ kind, schedule, canOpen }) =>
    kind === 'verify' && schedule !== undefined && (canOpen || !newest.isEncrypted) ? [schedule] : [],
  );
  if (schedules.length === 0) return { lastSuccessAt, isOverdue: undefined };
  const starts = [...backups.map(({ endedAt }) => endedAt.getTime()), world.watchedSince?.getTime() ?? Infinity];
  const since = lastSuccessAt ?? new Date(Math.min(...starts));
  const first = world.dueTimes.firstAfter(schedules, since);
  const second = first && world.dueTimes.firstAfter(schedules, first);
  return { lastSuccessAt, isOverdue: second !== undefined && world.now > second };
}
