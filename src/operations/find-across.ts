import { asPgarkError, PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { readForeignName } from '../formats/plain/foreign-names.ts';
import { formatLsn, type Lsn } from '../postgres/wal/lsn.ts';
import { isOfFuture } from '../repository/ids.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup, type FoundBackup } from './find-backup.ts';
import { wordsOfNamingClock, wordsOfThisClock } from './future-words.ts';

/** A storage that may be away. */
export interface Place {
  /** As it is configured. */
  readonly name: string;
  readonly open: () => Promise<ObjectStore>;
}

/** A backup, and how far a server comes that recovers from it by what is archived beside it, where that was asked. */
type Found = FoundBackup & { readonly reach?: { readonly timeline: number; readonly lsn: Lsn } };

/** Looks in one place. A place without such a backup rejects with `backup-not-found`. */
export type FindIn = (store: ObjectStore, context: OperationContext) => Promise<Found>;

/** Which one of those is taken that several places have. */
export interface FindRule {
  /** Whether it is one and the same backup that is meant, wherever it lies. */
  readonly isNamed: boolean;
  /**
   * The first in the order of the places, on the newest timeline; that which began last; or that which leads furthest. Timelines
   * and positions are those of the server that was backed up last.
   */
  readonly takes: 'first' | 'newest' | 'furthest';
  /** Whoever takes it looks for it once more in its storage, and says then what is to be said of its time. */
  readonly isLookedForAgain: boolean;
}

export interface FoundIn {
  readonly name: string;
  readonly store: ObjectStore;
  readonly found: Found;
}

interface Miss {
  readonly name: string;
  readonly error: PgarkError;
}

/** What was found where. */
export interface FoundAcross {
  readonly chosen: FoundIn;
  /** The others that have one too, in the order of the places. */
  readonly others: readonly FoundIn[];
  /** Of these it is not known what they hold, or what they hold cannot be used. */
  readonly passedOver: readonly Miss[];
}

/** By the rules of one place. */
export function finding(selector: BackupSelector, filter: BackupFilter): FindIn {
  return (store, context) => findBackup(new Repository(store, context), selector, filter, context);
}

/** Of a selector that means a backup itself, and not by it a moment of its server. */
export function ruleOf({ kind }: { readonly kind: string }): FindRule {
  return kind === 'name'
    ? { isNamed: true, takes: 'first', isLookedForAgain: true }
    : { isNamed: false, takes: 'newest', isLookedForAgain: true };
}

/**
 * Looks in all places at once, and decides from which one a backup is taken. Errors: `backup-not-found` where all answered and
 * none has it, else the error of the first place that did not; both say of each place why. `usage` where
 * places have different things that may be meant.
 */
export async function findAcross(
  places: readonly Place[],
  find: FindIn,
  rule: FindRule,
  context: OperationContext,
): Promise<FoundAcross> {
  const looks: readonly (FoundIn | Miss)[] = await Promise.all(places.map((place) => look(place, find, context)));
  const found = looks.flatMap((each) => ('found' in each ? [each] : []));
  const misses = looks.flatMap((each) => ('error' in each ? [each] : []));
  // What whoever asks has to say better, holds for all places.
  const unclear = misses.find(({ error }) => error.code === 'usage');
  if (unclear !== undefined) throw unclear.error;
  const passedOver = misses.filter(({ error }) => error.code !== 'backup-not-found');
  refuseDifferent(found, rule);
  const chosen = choose(found, rule, context);
  if (chosen === undefined) throw notFound(misses, passedOver[0] ?? misses[0]);
  const others = found.filter((each) => each !== chosen);
  if (!rule.isNamed) warnOfClocks(chosen, others, rule, context);
  return { chosen, others, passedOver };
}

/** A place that fails does not keep a backup from being found in another one. Rejects only if the signal is aborted. */
async function look({ name, open }: Place, find: FindIn, context: OperationContext): Promise<FoundIn | Miss> {
  try {
    const store = await open();
    // Whatever is to be said of the backup is said when it is taken.
    return { name, store, found: await find(store, { ...context, logger: silentLogger }) };
  } catch (thrown) {
    context.signal.throwIfAborted();
    return { name, error: asPgarkError(thrown) };
  }
}

function choose(found: readonly FoundIn[], { takes }: FindRule, context: OperationContext): FoundIn | undefined {
  const [newest] = newestFirst(found, context);
  if (takes === 'newest' || newest === undefined) return newest;
  // Moments and positions are those of one server.
  const ofServer = found.filter((each) => serverOf(each) === serverOf(newest));
  if (takes === 'furthest') return ofServer.toSorted(compareReach)[0];
  // As in one storage: a moment is one of the newest timeline, if nothing else was said.
  const timeline = Math.max(...ofServer.map(timelineOf));
  return ofServer.find((each) => timelineOf(each) === timeline);
}

function timelineOf({ found }: FoundIn): number {
  return found.reach?.timeline ?? 0;
}

function serverOf({ found }: FoundIn): string | undefined {
  return found.kind === 'own' ? found.manifest.server.systemIdentifier : undefined;
}

/** The newest first, as in one storage; those that a clock has named which was ahead come behind all others. */
function newestFirst(found: readonly FoundIn[], { clock }: OperationContext): readonly FoundIn[] {
  const now = clock.now();
  const isAhead = (each: FoundIn): boolean => isAheadOfTime(each.found, now);
  return [
    ...found.filter((each) => !isAhead(each)).toSorted((a, b) => startOf(b.found) - startOf(a.found)),
    ...found.filter(isAhead).toSorted((a, b) => storedAt(b.found) - storedAt(a.found)),
  ];
}

/** Whether the clock that named it was ahead. What the store saw at the time that is in its name shows that now is later. */
function isAheadOfTime(found: Found, now: Date): boolean {
  return isAheadOf(found, now) && isAheadOf(found, new Date(storedAt(found)));
}

function isAheadOf(found: Found, now: Date): boolean {
  return found.kind === 'own' && isOfFuture(found.manifest.id, now);
}

/** Of others than the chosen one nobody says anything any more: in their storages was looked without a word. */
function warnOfClocks(
  chosen: FoundIn,
  others: readonly FoundIn[],
  { isLookedForAgain }: FindRule,
  { clock, logger }: OperationContext,
): void {
  const now = clock.now();
  const name = ({ name: place, found }: FoundIn): string => `${describeFound(found)} in ${place}`;
  const isSetAside = isAheadOfTime(chosen.found, now);
  const warn = (each: FoundIn, words: string): void => logger.warning('backup.future', words, { storage: each.name });
  const claim = (each: FoundIn): string => `${name(each)} claims to begin in the future, and was`;
  const storedOf = ({ found }: FoundIn): Date => new Date(storedAt(found));
  if (isAheadOf(chosen.found, now) && !isLookedForAgain) {
    const stored = storedOf(chosen);
    warn(
      chosen,
      isSetAside
        ? wordsOfNamingClock(claim(chosen), stored, 'It is taken since there is no other')
        : wordsOfThisClock(name(chosen), now, `it was stored at ${stored.toISOString()} by that of the storage`),
    );
  }
  for (const each of others.filter(({ found }) => isAheadOfTime(found, now) && !isSetAside)) {
    const so = `That in ${chosen.name} counts as newer; who wants the other one says its id`;
    warn(each, wordsOfNamingClock(claim(each), storedOf(each), so));
  }
}

function startOf(found: FoundBackup): number {
  return found.kind === 'own' ? Date.parse(found.manifest.startedAt) : found.at.getTime();
}

function storedAt(found: FoundBackup): number {
  return found.kind === 'own' ? Date.parse(found.manifest.storeTime) : found.at.getTime();
}

/** `20261120T020000Z-p7k2m4x of 2026-11-20T02:00:00Z` */
export function describeFound(found: Found): string {
  const name = found.kind === 'own' ? found.manifest.id : found.key;
  const at = `${new Date(startOf(found)).toISOString().slice(0, 19)}Z`;
  const { reach } = found;
  const beyond = reach && ` and what is archived up to ${formatLsn(reach.lsn)} of timeline ${reach.timeline}`;
  return `${name} of ${at}${beyond ?? ''}`;
}

/** What leads furthest first; nothing is known of the reach of what is restored to its own end. */
function compareReach({ found: { reach: a } }: FoundIn, { found: { reach: b } }: FoundIn): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  if (a.timeline !== b.timeline) return b.timeline - a.timeline;
  return a.lsn === b.lsn ? 0 : a.lsn < b.lsn ? 1 : -1;
}

/** Copies of a backup have one id, and those of a dump one size. What is newest, is so of one database. Error: `usage`. */
function refuseDifferent(found: readonly FoundIn[], { isNamed }: FindRule): void {
  const kinds = [...Map.groupBy(found, (each) => describeKind(each.found, isNamed))];
  if (kinds.length < 2) return;
  const list = kinds.map(([what, where]) => `${what} in ${where.map(({ name }) => name).join(' and ')}`).join('; ');
  throw new PgarkError('usage', `the storages have different backups that this may mean: ${list}`, {
    hint: isNamed
      ? `say from where: --storage ${found.map(({ name }) => name).join(' | ')}; or say an id that pgark list shows`
      : 'say of which database; or say an id that pgark list shows',
  });
}

function describeKind(found: FoundBackup, isNamed: boolean): string {
  if (found.kind === 'foreign') {
    return isNamed
      ? `a dump of ${found.bytes} bytes`
      : `dumps of ${readForeignName(found.key).database ?? 'no named database'}`;
  }
  const { id, source, database } = found.manifest;
  const name = source === database.name ? source : `${source}/${database.name}`;
  return isNamed ? `${id} of ${name}` : `backups of ${name}`;
}

function notFound(misses: readonly Miss[], gravest: Miss | undefined): PgarkError {
  if (misses.length === 1 && gravest !== undefined) return gravest.error;
  const words = misses.map(({ name, error }) => `in ${name}: ${error.message}`).join('; ');
  const cause = gravest?.error;
  return new PgarkError(cause?.code ?? 'backup-not-found', `no storage has what was asked for: ${words}`, {
    ...(cause && { hint: cause.hint, cause }),
  });
}
