import { PgarkError } from '../common/errors.ts';
import { kindOfId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { OverHalf } from '../retention/plan.ts';
import type { PruneOutcome } from './prune.ts';
import type { TailLoss } from './wal/kept-wal.ts';

/** Of some databases more than half would have gone: nothing of them was deleted. `outcome` is what was done otherwise. */
export class PruneRefused extends PgarkError {
  readonly outcome: PruneOutcome;

  constructor(outcome: PruneOutcome) {
    super('prune-refused', refusalMessage(outcome), { hint: HINT });
    this.outcome = outcome;
  }
}

const HINT = 'look at it with pgark prune --dry-run; if it is right, run pgark prune --force';

/** What there is to say of one of the databases that a prune refused. */
export function refusalOf(refused: OverHalf): PgarkError {
  return new PgarkError('prune-refused', refusalMessage({ refused: [refused], wal: [] }), { hint: HINT });
}

/** What there is to say of a source's WAL, if a prune refused to let most of it go. */
export function walRefusalOf(source: string, all: PruneOutcome['wal']): PgarkError | undefined {
  const wal = all.filter((each) => each.source === source && each.refused !== undefined);
  return wal.length === 0
    ? undefined
    : new PgarkError('prune-refused', refusalMessage({ refused: [], wal }), { hint: HINT });
}

/** `5 of 8 backups of shop and 2 of 3 backups of other`. */
export function describeOverHalf(refused: readonly OverHalf[]): string {
  return refused
    .map(
      ({ removeCount, totalCount, ...each }) => `${removeCount} of ${totalCount} backups of ${describeDatabase(each)}`,
    )
    .join(' and ');
}

/** The same, and what of WAL was refused. */
export function describeRefused({ refused, wal }: Refused): string {
  const losses = wal.flatMap(({ source, refused: loss }) =>
    loss === undefined ? [] : [describeTailLoss(source, loss)],
  );
  return [...(refused.length > 0 ? [describeOverHalf(refused)] : []), ...losses].join(' and ');
}

/** `the WAL that follows 5 of 8 base backups of shop`. */
export function describeTailLoss(source: string, { lostCount, totalCount }: TailLoss): string {
  return `the WAL that follows ${lostCount} of ${totalCount} base backups of ${source}`;
}

export function describeDatabase({ source, database, kind }: Pick<OverHalf, 'source' | 'database' | 'kind'>): string {
  const name = source === database ? database : `${source}/${database}`;
  return kind === 'physical' ? `the server ${source}` : name;
}

/** Those of the backups that are not of a refused database. */
export function withoutRefused(planned: readonly Manifest[], refused: readonly OverHalf[]): readonly Manifest[] {
  return planned.filter(
    (manifest) =>
      !refused.some(
        ({ source, database, kind = 'logical' }) =>
          source === manifest.source && database === manifest.database.name && kind === kindOfId(manifest.id),
      ),
  );
}

type Refused = Pick<PruneOutcome, 'refused' | 'wal'>;

function refusalMessage(outcome: Refused): string {
  const count = outcome.refused.length + outcome.wal.filter(({ refused }) => refused !== undefined).length;
  const each = count > 1 ? ' of each' : '';
  return `the retention policy would delete ${describeRefused(outcome)}, more than half${each}; none of them was deleted`;
}
