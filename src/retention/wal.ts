/**
 * Positions in the log are bytes since its beginning. A timeline that is left for another one at a position goes on being
 * the way up to there.
 */
export interface WalLine {
  readonly timeline: number;
  /** The timelines before it, oldest first, with the position at which each was left. */
  readonly ancestors: readonly { readonly timeline: number; readonly end: bigint }[];
}

/** A base backup that stays. Times are by the store's clock. */
export interface WalBase {
  readonly timeline: number;
  /** Without all of the log from the first to the second position it is no backup. */
  readonly start: bigint;
  readonly stop: bigint;
  readonly begunAt: Date;
  readonly endedAt: Date;
}

/** What retention is asked for: some bytes of one timeline's log, and when they were stored, by the store's clock. */
export interface WalStretch {
  readonly timeline: number;
  readonly from: bigint;
  readonly to: bigint;
  readonly storedAt: Date;
}

export interface WalRuleInputs {
  /** All that stay of one server. */
  readonly bases: readonly WalBase[];
  /** Of each timeline that anything is archived of. */
  readonly lines: readonly WalLine[];
  /** How far back any moment can be reached. Undefined: as far as the oldest base backup. */
  readonly keepMs: number | undefined;
  readonly now: Date;
}

/** What of a server's log has to stay. */
export interface WalRule {
  readonly needs: (stretch: WalStretch) => boolean;
}

/**
 * What stays of the log: from each base backup's start to its stop, and on each line of timelines everything from the base
 * backup on by which the beginning of the recovery window is reached. Nothing goes that was stored after that base backup was
 * begun, on whatever timeline. Undefined where no base backup stays: then nothing is known of what is needed, and all is.
 */
export function walRule({ bases, lines, keepMs, now }: WalRuleInputs): WalRule | undefined {
  const windowMs = keepMs === undefined ? -Infinity : now.getTime() - keepMs;
  const reaching = reachingFrom(bases, windowMs);
  if (reaching.length === 0) return undefined;
  const storedBeforeMs = Math.min(...reaching.map(({ begunAt }) => begunAt.getTime()));
  const floors = lines.map((line) => {
    const onLine = reachingFrom(
      bases.filter((base) => isOnLine(base, line)),
      windowMs,
    );
    return { line, floor: least(onLine.map(({ start }) => start)) };
  });
  return {
    needs(stretch) {
      // Negated, so that a time that is no time is needed.
      if (!(stretch.storedAt.getTime() < storedBeforeMs)) return true;
      if (bases.some((base) => isPartOf(stretch, base))) return true;
      const ways = floors.filter(({ line }) => leadsThrough(line, stretch));
      // Of a timeline that nobody knows nothing goes.
      return ways.length === 0 || ways.some(({ floor }) => floor !== undefined && stretch.to > floor);
    },
  };
}

/** The newest base backup that was complete when the window began, and those after it; without such a one, all. */
function reachingFrom(bases: readonly WalBase[], windowMs: number): readonly WalBase[] {
  const before = bases.map(({ endedAt }) => endedAt.getTime()).filter((endedMs) => endedMs <= windowMs);
  const anchorMs = before.length === 0 ? -Infinity : Math.max(...before);
  return bases.filter(({ endedAt }) => !(endedAt.getTime() < anchorMs));
}

function isPartOf({ timeline, from, to }: WalStretch, base: WalBase): boolean {
  return timeline === base.timeline && to > base.start && from < base.stop;
}

/** Whether a recovery from the base backup gets to the line's end: one of a timeline that was left before it was complete does not. */
function isOnLine({ timeline, stop }: WalBase, line: WalLine): boolean {
  if (timeline === line.timeline) return true;
  const end = endOf(line, timeline);
  return end !== undefined && stop <= end;
}

function leadsThrough(line: WalLine, { timeline, from }: WalStretch): boolean {
  if (timeline === line.timeline) return true;
  const end = endOf(line, timeline);
  return end !== undefined && from < end;
}

function endOf({ ancestors }: WalLine, timeline: number): bigint | undefined {
  return ancestors.find((ancestor) => ancestor.timeline === timeline)?.end;
}

function least(positions: readonly bigint[]): bigint | undefined {
  return positions.reduce<bigint | undefined>((min, each) => (min === undefined || each < min ? each : min), undefined);
}
