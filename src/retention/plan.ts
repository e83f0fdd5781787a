import { PERIOD_MS_MAX, periodsIn, type PeriodOf } from './periods.ts';
import {
  checkPolicy,
  KEEP_PROVEN_DEFAULT,
  MIN_BACKUPS_DEFAULT,
  PERIOD_NAMES,
  type PeriodName,
  type RetentionPolicy,
} from './policy.ts';

/** Of the content of a database, or of the files of a whole server: neither stands for the other. */
type BackupKind = 'logical' | 'physical';

/** What retention needs to know of a committed backup. */
export interface RetainableBackup {
  readonly id: string;
  /** Source, database and kind together are the identity by which backups are grouped, compared exactly. */
  readonly source: string;
  readonly database: string;
  /** Default: logical. Backups of a whole server lie beside those of the database that they were taken by. */
  readonly kind?: BackupKind;
  /**
   * Of the server that it was taken from. Two servers under one identity may be one that followed the other (pg_upgrade,
   * a move) or two that nobody told apart: neither takes the place of the other's newest. Those without one count as one
   * server.
   */
  readonly systemIdentifier?: string;
  /** When it was made, best by the store's clock. Names, ids, timelines and LSNs never decide what is newer. */
  readonly takenAt: Date;
  readonly bytes: number;
  readonly pinned: boolean;
  /** Nobody can delete it before. Undefined: it is not locked. */
  readonly lockedUntil?: Date;
  /** It may hold less than it should: it takes no other one's place. So does what depends on it. Default: false. */
  readonly isSuspicious?: boolean;
  /** Ids of the backups without which this one cannot be restored. */
  readonly parents: readonly string[];
  /** When a verification or drill last proved that it restores. */
  readonly provenAt?: Date;
  /** When a drill last restored it. */
  readonly drilledAt?: Date;
  /** Whether a proof of it cannot be read: neither that it restores nor that it does not is known. */
  readonly isProofUnread?: boolean;
}

/**
 * Why a backup stays. Never removed, whatever the policy: `newest`, `minimum` (among the newest `minBackups`),
 * `last-proven` (the newest that was proven to restore), `drilled` (among the newest `keepProven` that a drill has restored), each of these of its own server, `proof-unread` (it may be one of those two), `pinned`, `locked` (the store lets nobody delete it yet), `needed` (another one
 * that stays depends on it), `future` (its time lies ahead of now: somebody's clock is wrong) and `ambiguous` (another
 * backup has the same id). `other-server` stands beside the first four where the newest of all is another server's. The
 * others are the policy's rules; `no-rule` means that the policy expires nothing.
 */
export type KeepReason =
  | 'newest'
  | 'minimum'
  | 'last-proven'
  | 'drilled'
  | 'proof-unread'
  | 'other-server'
  | 'pinned'
  | 'locked'
  | 'needed'
  | 'future'
  | 'ambiguous'
  | 'last'
  | 'within'
  | PeriodName
  | 'no-rule';

/** `expired`: no rule wants it. `over-total-bytes`: a rule does, but `maxTotalBytes` is exceeded. */
export type RemoveReason = 'expired' | 'over-total-bytes';

interface PlannedBackup extends BackupSeries {
  readonly id: string;
}

/** Backups that are counted together. */
interface BackupSeries {
  readonly source: string;
  readonly database: string;
  readonly kind?: BackupKind;
}

export interface RetentionPlan {
  /** Oldest first. */
  readonly keep: readonly (PlannedBackup & { readonly reasons: readonly KeepReason[] })[];
  /**
   * In the order in which to remove: oldest first, but never a backup before those that depend on it, so that a prune
   * cut off anywhere leaves only backups that restore.
   */
  readonly remove: readonly (PlannedBackup & { readonly reason: RemoveReason })[];
}

type Reasons = Map<RetainableBackup, Set<KeepReason>>;

/**
 * Decides which of the committed backups given may go. Pure: the same rows, in any order, give the same plan; what a
 * plan leaves, planned again at the same `now`, loses nothing more. `timezone` (IANA, default UTC) is the calendar of the
 * hourly to yearly rules. Errors: `config-invalid` for a policy or time zone that makes no sense.
 *
 * Where some are suspicious, what stays is what the policy keeps of all, and what it would keep if these were not there: they
 * push out none, and go when their time has come. `maxTotalBytes` holds for each of the two by itself.
 */
export function planRetention(
  backups: readonly RetainableBackup[],
  policy: RetentionPolicy,
  now: Date,
  options: { readonly timezone?: string } = {},
): RetentionPlan {
  checkPolicy(policy);
  const periodOf = periodsIn(options.timezone ?? 'UTC');
  const { reasons, overTotal } = reasonsToKeep(backups, policy, now, periodOf);
  const trusted = withoutSuspicious(backups);
  if (trusted.length < backups.length) {
    const alone = reasonsToKeep(trusted, policy, now, periodOf);
    for (const [backup, rules] of alone.reasons) addReasons(reasons, backup, rules);
  }
  const ordered = [...backups].sort((a, b) => newestFirst(b, a));
  const removed = ordered.filter((backup) => !reasons.has(backup));
  return {
    keep: ordered
      .filter((backup) => reasons.has(backup))
      .map((backup) => ({ ...plannedOf(backup), reasons: [...(reasons.get(backup) ?? [])] })),
    remove: dependentsFirst(removed).map((backup) => ({
      ...plannedOf(backup),
      reason: overTotal.has(backup) ? 'over-total-bytes' : 'expired',
    })),
  };
}

/** Why those stay that do, and which ones only `maxTotalBytes` lets go. */
function reasonsToKeep(
  backups: readonly RetainableBackup[],
  policy: RetentionPolicy,
  now: Date,
  periodOf: PeriodOf,
): { readonly reasons: Reasons; readonly overTotal: ReadonlySet<RetainableBackup> } {
  const byId = Map.groupBy(backups, (backup) => backup.id);
  const reasons: Reasons = new Map();
  const overTotal = new Set<RetainableBackup>();
  for (const group of Map.groupBy(backups, identityOf).values()) {
    const counted = group.filter((backup) => !setAside(backup, byId, now, reasons)).sort(newestFirst);
    for (const backup of group) {
      if (backup.pinned) addReasons(reasons, backup, ['pinned']);
      if (isLocked(backup, now)) addReasons(reasons, backup, ['locked']);
      if (backup.isProofUnread === true) addReasons(reasons, backup, ['proof-unread']);
    }
    const wanted: Reasons = new Map();
    const systems = [...Map.groupBy(counted, (backup) => backup.systemIdentifier).values()];
    // The groups come in the order of their newest: the first one is the server that was backed up last.
    for (const [index, ofSystem] of systems.entries()) {
      const isOther = index > 0;
      protect(ofSystem, isOther, policy, reasons);
      for (const [backup, rules] of wantedByRules(ofSystem, isOther, policy, now, periodOf)) wanted.set(backup, rules);
    }
    for (const dropped of overTotalBytes(group, wanted, policy, reasons, byId)) {
      overTotal.add(dropped);
      wanted.delete(dropped);
    }
    for (const [backup, rules] of wanted) addReasons(reasons, backup, rules);
  }
  for (const backup of withAncestors(reasons.keys(), byId)) {
    if (!reasons.has(backup)) addReasons(reasons, backup, ['needed']);
  }
  return { reasons, overTotal };
}

/** What depends on a suspicious one is left out with it. */
function withoutSuspicious(backups: readonly RetainableBackup[]): readonly RetainableBackup[] {
  const doubtful = new Set(backups.filter(({ isSuspicious }) => isSuspicious === true).map(({ id }) => id));
  for (let before = -1; before < doubtful.size; ) {
    before = doubtful.size;
    for (const { id, parents } of backups) if (parents.some((parent) => doubtful.has(parent))) doubtful.add(id);
  }
  return backups.filter(({ id }) => !doubtful.has(id));
}

/** A database of which a plan removes more than half of what is there. */
export interface OverHalf extends BackupSeries {
  readonly removeCount: number;
  readonly totalCount: number;
}

/**
 * The breaker: the databases of which the plan removes more than half, each counted by itself. That is carried out only
 * when somebody has asked for it by force.
 */
export function databasesOverHalf(plan: RetentionPlan): readonly OverHalf[] {
  const there = Map.groupBy([...plan.keep, ...plan.remove], identityOf);
  return [...Map.groupBy(plan.remove, identityOf)].flatMap(([identity, removed]) => {
    const [first] = removed;
    const totalCount = (there.get(identity) ?? []).length;
    if (first === undefined || removed.length * 2 <= totalCount) return [];
    const { id: _, reason: __, ...series } = first;
    return [{ ...series, removeCount: removed.length, totalCount }];
  });
}

/** No two series give the same text, whatever characters their names hold. */
function identityOf({ source, database, kind = 'logical' }: BackupSeries): string {
  return JSON.stringify([source, database, kind]);
}

function plannedOf({ id, source, database, kind }: RetainableBackup): PlannedBackup {
  return { id, source, database, ...(kind === undefined ? {} : { kind }) };
}

function newestFirst(a: RetainableBackup, b: RetainableBackup): number {
  return (
    compare(timeOf(b), timeOf(a)) ||
    compare(b.id, a.id) ||
    compare(b.source, a.source) ||
    compare(b.database, a.database)
  );
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A time that is no time counts as later than all others. */
function timeOf(backup: RetainableBackup): number {
  const time = backup.takenAt.getTime();
  return Number.isNaN(time) ? Number.POSITIVE_INFINITY : time;
}

function addReasons(reasons: Reasons, backup: RetainableBackup, added: Iterable<KeepReason>): void {
  const present = reasons.get(backup) ?? new Set<KeepReason>();
  for (const reason of added) present.add(reason);
  reasons.set(backup, present);
}

/** Negated, so that a time that is no time is one that has not come. */
function isLocked({ lockedUntil }: RetainableBackup, now: Date): boolean {
  return lockedUntil !== undefined && !(lockedUntil.getTime() <= now.getTime());
}

/**
 * Backups that nothing can be concluded from stay, and count for no rule: were one with a time ahead of now taken for
 * the newest, it would hold the place of the real one.
 */
function setAside(
  backup: RetainableBackup,
  byId: ReadonlyMap<string, readonly RetainableBackup[]>,
  now: Date,
  reasons: Reasons,
): boolean {
  // Negated, so that everything is ahead of a `now` that is no time.
  if (!(timeOf(backup) <= now.getTime())) addReasons(reasons, backup, ['future']);
  if ((byId.get(backup.id) ?? []).length > 1) addReasons(reasons, backup, ['ambiguous']);
  return reasons.has(backup);
}

/** What stays of one server's backups, ordered newest first, whatever the rules say. */
function protect(
  ofSystem: readonly RetainableBackup[],
  isOther: boolean,
  policy: RetentionPolicy,
  reasons: Reasons,
): void {
  const other: readonly KeepReason[] = isOther ? ['other-server'] : [];
  const [newest] = ofSystem;
  if (newest) addReasons(reasons, newest, ['newest', ...other]);
  const minimum = policy.minBackups ?? MIN_BACKUPS_DEFAULT;
  for (const backup of ofSystem.slice(0, minimum)) addReasons(reasons, backup, ['minimum', ...other]);
  const proven = ofSystem.find((backup) => backup.provenAt !== undefined);
  if (proven) addReasons(reasons, proven, ['last-proven', ...other]);
  const drilled = ofSystem.filter((backup) => backup.drilledAt !== undefined);
  for (const backup of drilled.slice(0, policy.keepProven ?? KEEP_PROVEN_DEFAULT)) {
    addReasons(reasons, backup, ['drilled', ...other]);
  }
}

/**
 * What the rules want of one server's backups, ordered newest first. Calendar rules count periods in which there is a
 * backup. Of another server than the newest's they count periods up to now, so that what a server left behind that was
 * upgraded or moved goes in the course of time.
 */
function wantedByRules(
  counted: readonly RetainableBackup[],
  isOther: boolean,
  { keep }: RetentionPolicy,
  now: Date,
  periodOf: PeriodOf,
): Reasons {
  const wanted: Reasons = new Map();
  const rules = [keep.last, keep.withinMs, ...PERIOD_NAMES.map((period) => keep[period])];
  if (rules.every((rule) => rule === undefined || rule === 0)) {
    for (const backup of counted) addReasons(wanted, backup, ['no-rule']);
    return wanted;
  }
  for (const backup of counted.slice(0, keep.last ?? 0)) addReasons(wanted, backup, ['last']);
  const withinMs = keep.withinMs ?? 0;
  for (const backup of counted) {
    const ageMs = now.getTime() - backup.takenAt.getTime();
    if (withinMs > 0 && ageMs <= withinMs) addReasons(wanted, backup, ['within']);
  }
  for (const period of PERIOD_NAMES) {
    const periodsMax = keep[period] ?? 0;
    const seen = new Set<string>();
    const ageMsMax = isOther ? periodsMax * PERIOD_MS_MAX[period] : Number.POSITIVE_INFINITY;
    for (const backup of counted) {
      if (seen.size >= periodsMax || now.getTime() - backup.takenAt.getTime() > ageMsMax) break;
      const name = periodOf(backup.takenAt, period);
      if (!seen.has(name)) addReasons(wanted, backup, [period]);
      seen.add(name);
    }
  }
  return wanted;
}

/**
 * Those of `wanted` that `maxTotalBytes` takes back: as few as are enough, oldest first. What stays for other reasons,
 * or because something that stays needs it, counts; dropping a whole chain frees it only together with its last
 * dependent.
 */
function overTotalBytes(
  group: readonly RetainableBackup[],
  wanted: Reasons,
  policy: RetentionPolicy,
  reasons: Reasons,
  byId: ReadonlyMap<string, readonly RetainableBackup[]>,
): RetainableBackup[] {
  const limit = policy.maxTotalBytes ?? 0;
  if (limit === 0) return [];
  const members = new Set(group);
  const protectedOnes = group.filter((backup) => reasons.has(backup));
  const oldestFirst = [...wanted.keys()].filter((backup) => !reasons.has(backup)).sort((a, b) => newestFirst(b, a));
  const fits = (dropCount: number): boolean => {
    const kept = withAncestors([...protectedOnes, ...oldestFirst.slice(dropCount)], byId);
    return [...kept].filter((backup) => members.has(backup)).reduce((sum, backup) => sum + backup.bytes, 0) <= limit;
  };
  // The sum never grows with the number dropped, so the smallest number that fits is found by halving.
  let low = 0;
  let high = oldestFirst.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) high = middle;
    else low = middle + 1;
  }
  return oldestFirst.slice(0, low);
}

/** The backups given, and everything that they need, near and far. */
function withAncestors(
  backups: Iterable<RetainableBackup>,
  byId: ReadonlyMap<string, readonly RetainableBackup[]>,
): ReadonlySet<RetainableBackup> {
  const found = new Set<RetainableBackup>(backups);
  // A set's iteration also visits what is added on the way.
  for (const backup of found) {
    for (const id of backup.parents) for (const parent of byId.get(id) ?? []) found.add(parent);
  }
  return found;
}

function dependentsFirst(backups: readonly RetainableBackup[]): readonly RetainableBackup[] {
  const dependents = new Map<string, RetainableBackup[]>();
  for (const backup of backups) {
    for (const id of backup.parents) dependents.set(id, [...(dependents.get(id) ?? []), backup]);
  }
  const placed = new Set<RetainableBackup>();
  const visited = new Set<RetainableBackup>();
  const place = (backup: RetainableBackup): void => {
    if (visited.has(backup)) return;
    visited.add(backup);
    for (const dependent of dependents.get(backup.id) ?? []) place(dependent);
    placed.add(backup);
  };
  for (const backup of backups) place(backup);
  return [...placed];
}
