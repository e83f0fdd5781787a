import type { DigestFailure, DigestProblem } from '../notify/digest.ts';
import type { OpenProblem } from '../notify/state.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import { time } from '../observability/times.ts';

/** A verification or drill that failed last: fresh as the backup may be, it protects nothing. */
export interface BrokenProof {
  readonly source: string | undefined;
  /** Undefined: of all of the source's. */
  readonly database: string | undefined;
  readonly problem: DigestProblem;
}

type Proof = 'verify' | 'drill';

const PROOF_OF: Readonly<Record<string, Proof>> = { verify_failed: 'verify', drill_failed: 'drill' };
const WORDS = {
  verify: { what: 'verification', fix: 'pgark verify reads the backups and says what is wrong with them' },
  drill: { what: 'drill', fix: 'pgark drill tries a backup again and says what is wrong with it' },
} as const;

/**
 * Those among the failures that a digest tells of; and those of before, which are open until the same passes, however many
 * digests have been sent since. A proof that was interrupted has proved nothing, neither good nor bad.
 */
export function brokenProofs(
  failures: readonly DigestFailure[],
  problems: readonly OpenProblem[],
  state: ProtectionState,
): readonly BrokenProof[] {
  const recent = failures.filter(({ kind, isOver, error }) => isProof(kind) && !isOver && error.code !== 'interrupted');
  const before = problems.flatMap((problem): readonly BrokenProof[] => {
    const proof = PROOF_OF[problem.event];
    if (proof === undefined || problem.endedAt !== undefined || !isAboutWhatIsThere(problem, state)) return [];
    const { source, database, lastSeenAt } = problem;
    if (recent.some((each) => each.kind === proof && each.source === source && each.database === database)) return [];
    const { what, fix } = WORDS[proof];
    const sentence = `${nameOf(source, database)}: the ${what} of ${time(new Date(lastSeenAt))} failed, and none has passed since`;
    return [{ source, database, problem: { sentence, fix } }];
  });
  return [...recent.map(brokenProofOf), ...before];
}

function isProof(kind: string): kind is Proof {
  return kind === 'verify' || kind === 'drill';
}

function brokenProofOf({ kind, source, database, error }: DigestFailure): BrokenProof {
  const { what } = WORDS[kind === 'drill' ? 'drill' : 'verify'];
  const sentence = `${nameOf(source, database)}: the last ${what} failed: ${error.message}`;
  return { source, database, problem: { sentence, fix: error.hint } };
}

/** Of a storage that is not configured any more, or of backups that are gone, no proof will come that ends it. */
function isAboutWhatIsThere({ source, database, storage }: OpenProblem, { backups }: ProtectionState): boolean {
  return backups.some(
    (line) =>
      line.source === source &&
      (database === undefined || line.database === database) &&
      (storage === undefined || line.storage === storage) &&
      line.backupCount > 0,
  );
}

function nameOf(source: string | undefined, database: string | undefined): string {
  if (source === undefined) return 'a storage';
  return database === undefined || source === database ? source : `${source}/${database}`;
}
