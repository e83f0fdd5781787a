import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import { isBackupId, isOfFuture } from '../repository/ids.ts';
import type { ManifestKey, Repository } from '../repository/repository.ts';
import { storeTimeIfKnown } from '../repository/store-clock.ts';
import type { CallOptions } from '../storage/object-store.ts';
import { wordsOfNamingClock, wordsOfThisClock } from './future-words.ts';

/** The world that backups are looked for in. */
export interface LookOptions extends CallOptions {
  readonly clock: Clock;
  readonly logger: Logger;
}

interface SetAside extends ManifestKey {
  readonly storeTime: Date;
}

/**
 * The newest first, by their ids, which begin with the second of the start; no manifest is read as long as no id lies ahead of
 * now. For one that does, either the clock that named it was ahead, or this machine's is behind; the time that the store has
 * written beside it tells which. Those of the former kind come behind all others, or they would pass for the newest until their
 * time has come; the latter are in their place. Either is a warning. What has no id is no backup, and comes last.
 */
export async function newestFirst(
  repository: Repository,
  manifestKeys: readonly ManifestKey[],
  options: LookOptions,
): Promise<readonly ManifestKey[]> {
  const byId = manifestKeys.filter(({ id }) => isBackupId(id)).sort((a, b) => (a.id < b.id ? 1 : -1));
  const nameless = manifestKeys.filter(({ id }) => !isBackupId(id));
  const here = options.clock.now();
  const [newest] = byId;
  if (newest === undefined || !isOfFuture(newest.id, here)) return [...byId, ...nameless];
  const there = await storeTimeIfKnown(repository.store, options);
  const now = there !== undefined && there > here ? there : here;
  const setAside: SetAside[] = [];
  let rest = byId;
  let proof: SetAside | undefined;
  for (let next = rest[0]; next !== undefined && isOfFuture(next.id, now) && proof === undefined; next = rest[0]) {
    const storeTime = (await repository.manifestAt(next.key, options))?.storeTime;
    const dated = storeTime === undefined ? undefined : { ...next, storeTime: new Date(storeTime) };
    // It is later than that by now: all that follow are of the past.
    if (dated !== undefined && !isOfFuture(dated.id, dated.storeTime)) proof = dated;
    else {
      rest = rest.slice(1);
      if (dated !== undefined) setAside.push(dated);
    }
  }
  const { location } = repository.store;
  const [first] = rest;
  if (first !== undefined && isOfFuture(first.id, here))
    warnOfThisClock(first, { here, there, proof, location }, options);
  setAside.sort((a, b) => b.storeTime.getTime() - a.storeTime.getTime());
  warnOfSetAside(setAside, rest.length > 0, options);
  return [...rest, ...setAside, ...nameless];
}

function warnOfThisClock(
  first: ManifestKey,
  seen: {
    readonly here: Date;
    readonly there: Date | undefined;
    readonly proof: SetAside | undefined;
    readonly location: string;
  },
  { logger }: LookOptions,
): void {
  const { here, there, proof, location } = seen;
  const told =
    proof === undefined
      ? `it is ${there?.toISOString() ?? ''} there`
      : `${proof.id} was stored at ${proof.storeTime.toISOString()}`;
  logger.warning('backup.future', wordsOfThisClock(`backup ${first.id}`, here, `by that of ${location} ${told}`));
}

function warnOfSetAside(setAside: readonly SetAside[], hasOthers: boolean, { logger }: LookOptions): void {
  const [first] = setAside;
  if (first === undefined) return;
  const claim =
    setAside.length === 1
      ? `backup ${first.id} claims to begin in the future, and was`
      : `${setAside.length} backups claim to begin in the future, such as ${first.id}, which was`;
  const so = hasOthers
    ? 'All others count as newer; who wants this one says its id'
    : 'That stored last is taken since there is no other; who wants another one says its id';
  logger.warning('backup.future', wordsOfNamingClock(claim, first.storeTime, so));
}
