/** Globals of a source, as retention sees them. */
export interface RetainableGlobals {
  readonly id: string;
  readonly source: string;
  /** By the store's clock. */
  readonly takenAt: Date;
}

/** A backup that stays. */
export interface KeptBackup {
  readonly source: string;
  readonly begunAt: Date;
}

/**
 * The globals that go with a backup that began at a moment: the oldest not before it, since they are stored after the
 * databases of a run, or, where there are none so young, the newest before it.
 * `ofSource`: those of one source, in any order.
 */
export function globalsAt<Globals extends Pick<RetainableGlobals, 'takenAt'>>(
  ofSource: readonly Globals[],
  moment: Date,
): Globals | undefined {
  return atMoment(ofSource.toSorted(byTime), moment.getTime());
}

/**
 * The globals that no backup needs, oldest first: not the newest of their source, and not those that go with the start of
 * a backup that stays.
 */
export function unneededGlobals<Globals extends RetainableGlobals>(
  globals: readonly Globals[],
  kept: readonly KeptBackup[],
): readonly Globals[] {
  const needed = new Set<Globals | undefined>();
  for (const [source, ofSource] of Map.groupBy(globals.toSorted(byTime), (each) => each.source)) {
    needed.add(ofSource.at(-1));
    for (const backup of kept.filter((each) => each.source === source)) {
      needed.add(atMoment(ofSource, backup.begunAt.getTime()));
    }
  }
  return globals.filter((each) => !needed.has(each)).toSorted(byTime);
}

function atMoment<Globals extends Pick<RetainableGlobals, 'takenAt'>>(
  oldestFirst: readonly Globals[],
  momentMs: number,
): Globals | undefined {
  return oldestFirst.find(({ takenAt }) => takenAt.getTime() >= momentMs) ?? oldestFirst.at(-1);
}

function byTime(a: Pick<RetainableGlobals, 'takenAt'>, b: Pick<RetainableGlobals, 'takenAt'>): number {
  return a.takenAt.getTime() - b.takenAt.getTime();
}
