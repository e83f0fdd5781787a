import { z } from 'zod';
import { AHEAD_MS_MAX, type Clock } from '../common/clock.ts';
import { asPgarkError, isPgarkError, type PgarkError } from '../common/errors.ts';
import { isCodeOfKeys } from '../formats/key-failure.ts';
import { keys, parseProofKey, type ProofKind } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { readState } from '../repository/state-object.ts';
import { storeTimeIfKnown } from '../repository/store-clock.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';

export type { ProofKind } from '../repository/keys.ts';

/** Proofs read at once. */
const READS_IN_FLIGHT_MAX = 16;

const WORDS = { verify: 'verification', drill: 'drill' } as const;

const proofRecord = z.object({
  at: z.iso.datetime(),
  passed: z.boolean(),
  error: z.object({ code: z.string() }).optional(),
  depth: z.string().optional(),
});

/** What was found out of a backup. */
export interface Proof {
  readonly kind: ProofKind;
  readonly at: Date;
  /**
   * `unknown`: it cannot be read, since a newer version of pgark wrote it, or since it is damaged. `stored`: all is stored as it was
   * made, and no key opened it, which proves nothing and ends what was wrong with the storage.
   */
  readonly passed: boolean | 'unknown' | 'stored';
  /** Whether it failed by what lies in the storage, or by the storage itself: whoever reads all of it refutes that without a key. */
  readonly isOfStorage?: boolean;
  /** Of one that failed. */
  readonly errorCode?: string;
}

/** The newest proof of each kind that there is of a backup. */
export type Proofs = Readonly<Partial<Record<ProofKind, Proof>>>;

type ProofOptions = CallOptions & { readonly clock: Clock };

/** What the name of a proof says. */
interface ProofKey extends ReturnType<typeof parseProofKey> {
  readonly key: ObjectKey;
}

/** What a backup's proofs are found by. */
interface ProvenBackup extends Pick<Manifest, 'id' | 'source'> {
  readonly database: Pick<Manifest['database'], 'name'>;
}

/**
 * The newest proofs of backups, by their ids. Of one that is damaged it is not known what it says, and none before it says it
 * in its place. One that lies ahead of now, by this machine's clock and the store's, was named by a clock that was ahead: if it says that the backup is whole, an earlier one
 * counts, where there is one, or what was found out since then would not be seen until its time has come.
 */
export async function newestProofs(
  store: ObjectStore,
  backups: readonly ProvenBackup[],
  options: ProofOptions,
): Promise<ReadonlyMap<string, Proofs>> {
  const [first] = backups;
  if (first === undefined) return new Map();
  const { source, database } = first;
  const isOne = backups.every((each) => each.source === source && each.database.name === database.name);
  const ids = new Set<string>(backups.map(({ id }) => id));
  const prefix = isOne ? keys.proofsOfDatabase(source, database.name) : keys.proofsPrefix;
  const isAhead = aheadOfNow(store, options);
  const found = new Map<string, ProofKey[]>();
  for await (const { key } of store.list(prefix, options)) {
    const proof = { ...parseProofKey(key), key };
    if (!ids.has(proof.id)) continue;
    const name = `${proof.id} ${proof.kind}`;
    // Keys end in their time: the last is the newest, and all before one that is not ahead are of no matter.
    const before = (await isAhead(proof.at)) ? (found.get(name) ?? []) : [];
    found.set(name, [...before, proof]);
  }
  const series = [...found.values()];
  const proofs = new Map<string, Proofs>();
  for (let start = 0; start < series.length; start += READS_IN_FLIGHT_MAX) {
    await Promise.all(
      series.slice(start, start + READS_IN_FLIGHT_MAX).map(async (oldestFirst) => {
        const [{ id } = { id: '' }] = oldestFirst;
        const proof = await proofThatCounts(store, oldestFirst.toReversed(), isAhead, options);
        if (proof !== undefined) proofs.set(id, { ...proofs.get(id), [proof.kind]: proof });
      }),
    );
  }
  return proofs;
}

async function proofThatCounts(
  store: ObjectStore,
  newestFirst: readonly ProofKey[],
  isAhead: (at: Date) => Promise<boolean>,
  options: CallOptions,
): Promise<Proof | undefined> {
  let ahead: Proof | undefined;
  for (const { key, kind, at } of newestFirst) {
    const proof = await readProof(store, key, kind, options);
    if (!(await isAhead(at)) || (proof !== undefined && saysIll(proof))) return proof;
    ahead ??= proof;
  }
  return ahead;
}

/** Whether a time lies ahead of this machine's clock and, which is asked once and only then, of the store's. */
function aheadOfNow(store: ObjectStore, { clock, ...call }: ProofOptions): (at: Date) => Promise<boolean> {
  const here = clock.now().getTime() + AHEAD_MS_MAX;
  let there: Promise<Date | undefined> | undefined;
  return async (at) => {
    if (at.getTime() <= here) return false;
    there ??= storeTimeIfKnown(store, call);
    const time = await there;
    return time === undefined || at.getTime() > time.getTime() + AHEAD_MS_MAX;
  };
}

/**
 * When a backup was last proven to restore, if the newest proof of all says so. One that a drill could not restore is proven by a
 * drill again and by nothing less: that all is stored as it was made says nothing of what was made.
 */
export function provenAt({ verify, drill }: Proofs): Date | undefined {
  if (drill !== undefined && drill.passed !== true) return undefined;
  const known = [verify, drill].flatMap((proof) => (proof === undefined || proof.passed === 'stored' ? [] : [proof]));
  const newest = known.toSorted((a, b) => b.at.getTime() - a.at.getTime())[0];
  return newest?.passed === true ? newest.at : undefined;
}

/** Whether something was found out of it that cannot be read. */
export function isUnread({ verify, drill }: Proofs): boolean {
  return verify?.passed === 'unknown' || drill?.passed === 'unknown';
}

/** When a drill last restored it, unless it was found damaged since then. */
export function drilledAt({ verify, drill }: Proofs): Date | undefined {
  if (drill?.passed !== true) return undefined;
  return verify !== undefined && saysIll(verify) && verify.at > drill.at ? undefined : drill.at;
}

async function readProof(
  store: ObjectStore,
  key: ObjectKey,
  kind: ProofKind,
  options: CallOptions,
): Promise<Proof | undefined> {
  try {
    const proof = (await readState(store, key, proofRecord, options))?.value;
    return proof && foundBy(proof, kind);
  } catch (error) {
    if (!isPgarkError(error, 'repository-damaged') && !isPgarkError(error, 'repository-unknown-layout')) throw error;
    // Its key says of when it is, in every version.
    return { kind, at: parseProofKey(key).at, passed: 'unknown' };
  }
}

function isCodeOfStorage(code: string): boolean {
  return code.startsWith('store-') || code === 'object-not-found';
}

/** Whether it says, or may say, that the backup is not what it should be. */
export function saysIll({ passed }: Proof): boolean {
  return passed === false || passed === 'unknown';
}

function foundBy({ at, passed, error, depth }: z.output<typeof proofRecord>, kind: ProofKind): Proof {
  const isStored = kind === 'verify' && !passed && error !== undefined && isCodeOfKeys(error.code);
  const isOfStorage =
    kind === 'verify' &&
    !passed &&
    !isStored &&
    (depth === 'present' || depth === 'stored' || (error !== undefined && isCodeOfStorage(error.code)));
  return {
    kind,
    at: new Date(at),
    passed: isStored ? 'stored' : passed,
    ...(isOfStorage && { isOfStorage }),
    ...(error && { errorCode: error.code }),
  };
}

/**
 * Appends a result to the proofs of a backup, with the store's time. Where that cannot be, which is so of a store that may only be
 * read, it is a warning: nobody else learns of the result, retention included. Returns whether it is recorded.
 */
export async function recordProof(
  store: ObjectStore,
  manifest: Manifest,
  {
    kind,
    runId,
    error,
    details = {},
    isToldOf = false,
  }: {
    readonly kind: ProofKind;
    readonly runId: string;
    /** Why it was not proven; undefined where it was. */
    readonly error: PgarkError | undefined;
    readonly details?: Readonly<Record<string, unknown>>;
    /** Whether somebody was warned before that this run's proofs are not recorded. Default: nobody was. */
    readonly isToldOf?: boolean;
  },
  context: OperationContext,
): Promise<boolean> {
  const at = (await storeTimeIfKnown(store, {})) ?? context.clock.now();
  const proof = {
    layout: 1,
    kind,
    backupId: manifest.id,
    at: at.toISOString(),
    runId,
    passed: error === undefined,
    ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
    ...details,
    pgarkVersion: context.pgarkVersion,
  };
  const key = keys.proof(manifest.source, manifest.database.name, manifest.id, at, kind);
  try {
    await store.putSmall(key, new TextEncoder().encode(`${JSON.stringify(proof, undefined, 2)}\n`), {
      contentType: 'application/json',
    });
    return true;
  } catch (failure) {
    const { code, message, hint } = asPgarkError(failure);
    context.logger[isToldOf ? 'debug' : 'warning'](
      `${kind}.proof_not_recorded`,
      `what the ${WORDS[kind]} of ${manifest.id} found is not recorded with it, and retention does not know of it: ${message}; ${hint}`,
      { backupId: manifest.id, code },
    );
    return false;
  }
}
