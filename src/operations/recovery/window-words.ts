import { PgarkError } from '../../common/errors.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import type { RecoverableStretch } from './recovery-bases.ts';
import { describeTarget, type RecoveryTarget } from './recovery-target.ts';

/** The error of a target that cannot be reached: what can be, and the nearest points on both sides of it. */
export function outsideWindow({
  stretches,
  target,
}: {
  readonly stretches: readonly RecoverableStretch[];
  readonly target: RecoveryTarget;
}): PgarkError {
  const windows = stretches.map((stretch) => {
    const [oldest] = stretch.bases;
    return {
      from: oldest?.stopLsn ?? stretch.from,
      to: stretch.to,
      words: `from ${oldest?.manifest.endedAt ?? ''} (${formatLsn(oldest?.stopLsn ?? stretch.from)}, the end of backup ${oldest?.manifest.id ?? ''}) to ${formatLsn(stretch.to)}`,
    };
  });
  const can = windows.map(({ words }) => words).join('; ');
  return new PgarkError(
    'outside-window',
    `a recovery to ${describeTarget(target)} is not possible: what is archived reaches ${can}`,
    { hint: nearestPoints(windows, target) },
  );
}

function nearestPoints(
  windows: readonly { readonly from: bigint; readonly to: bigint }[],
  target: RecoveryTarget,
): string {
  const points = windows.flatMap(({ from, to }) => [from, to]);
  if (target.kind !== 'lsn') {
    const [first] = points;
    const last = points.at(-1);
    return `the first point is --lsn ${formatLsn(first ?? 0n)}, the last one --lsn ${formatLsn(last ?? 0n)}; without a target a recovery goes to the end`;
  }
  const below = points.findLast((point) => point <= target.lsn);
  const above = points.find((point) => point >= target.lsn);
  const nearest = [below, above].filter((point) => point !== undefined).map((point) => `--lsn ${formatLsn(point)}`);
  return `the nearest that can be reached: ${nearest.join(' or ')}`;
}
