import type { ErrorCode } from '../common/error-table.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../common/errors.ts';
import type { Span } from '../common/tracer.ts';
import { checkOf } from '../formats/check-backup.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import { keys } from '../repository/keys.ts';
import { byStoreTime, type Manifest, seriesOf, sizesOf } from '../repository/manifest.ts';
import { type BackupFilter, type DamagedManifest, Repository } from '../repository/repository.ts';
import { type Run, runEnveloped } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';
import { newestProofs, recordProof } from './proofs.ts';

export { isOfKeys } from '../formats/key-failure.ts';

export interface VerifyRequest {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  /** One backup, read whole. Without it: all, each looked at, and the newest of each database read whole. */
  readonly selector: BackupSelector | undefined;
  /** Read every one of them whole. */
  readonly deep: boolean;
  /**
   * The share of the stored bytes of all that is read besides the newest ones, 0 to 1: those first whose last reading is the
   * longest ago, so that every one has its turn. Default: none.
   */
  readonly sampleRatio?: number | undefined;
  readonly keys: DecryptionKeys;
  /**
   * Whether every backup that none of the keys opens has failed: so where somebody names the key. Else only the newest of each
   * series, or the one that is selected, has failed by a wrong key: older ones may want a key that was changed since. Where there
   * is none it is no fault of the backup's: whoever only makes backups needs no key to decrypt them, and can still compare what
   * is stored. Default: false.
   */
  readonly mustOpen?: boolean;
  /** Names of the sources whose newest backups the keys are for; of others in the same storage they may open none. Default: all. */
  readonly ownSources?: ReadonlySet<string> | undefined;
}

/**
 * `present`: every object is there with its size. `stored`: and every stored byte was read and compared, but no key opens
 * them. `read`: and they were decrypted, decompressed, compared.
 */
export type VerifyDepth = 'present' | 'stored' | 'read';

export interface VerifiedBackup {
  readonly manifest: Manifest;
  readonly depth: VerifyDepth;
  readonly failure: PgarkError | undefined;
  /** Whether it was the newest of its series when the verification began. Undefined: nobody has looked at the others. */
  readonly wasNewest?: boolean | undefined;
}

interface Verdict extends Pick<VerifiedBackup, 'depth' | 'failure'> {
  /** Why no key opens it, of one whose stored bytes are all as they were written. */
  readonly locked?: PgarkError | undefined;
}

export interface Verification {
  readonly backups: readonly VerifiedBackup[];
  /** Manifests that cannot be read: nothing can be said of their backups. */
  readonly damaged: readonly DamagedManifest[];
}

/**
 * Proves that backups are what their manifests say. The outcome lists every one; nothing is changed but the proof's record. One
 * that the store does not give has failed, as long as the store gives others. Errors: `store-…` of a store that is away.
 */
export async function verify(request: VerifyRequest, context: OperationContext): Promise<Verification> {
  const { store, filter } = request;
  let verification: Verification | undefined;
  const spec = { kind: 'verify', source: filter.source, database: filter.database } as const;
  try {
    return await runEnveloped<Verification>({ ...context, store }, spec, async (run) => {
      verification = await verifyIn(run, request, context);
      const failures = failuresIn(verification);
      const [first] = failures;
      const { length: count } = [...verification.backups, ...verification.damaged];
      if (first === undefined) return { value: verification, result: { verified: count, failed: 0 } };
      const what = `${failures.length} of ${count} backups: ${first.message}`;
      throw new PgarkError(first.code, count === 1 ? first.message : what, { cause: first, hint: first.hint });
    });
  } catch (error) {
    // The run has failed, and has told how far it came.
    if (verification === undefined) throw error;
    return verification;
  }
}

async function verifyIn(run: Run, request: VerifyRequest, context: OperationContext): Promise<Verification> {
  const { store } = request;
  const repository = new Repository(store, context);
  const { chosen, damaged } = await choose(repository, request, context);
  // Where nothing is, nothing is left.
  if (chosen.length + damaged.length > 0) await run.open();
  for (const { key, error } of damaged) run.logger.error('verify.failed', error.message, { key, code: error.code });
  const verified: VerifiedBackup[] = [];
  // In the order in which they were made, so that what others need comes before them.
  const proven = new Set<string>();
  let isToldOf = false;
  const failedByStorage = storageFailures(
    store,
    chosen.map(({ manifest }) => manifest),
    context,
  );
  for (const { manifest, whole, isWanted, wasNewest } of chosen) {
    const facts = { 'pgark.backup_id': manifest.id, 'pgark.database': manifest.database.name };
    const lookOnce = () => verifyOne(store, manifest, whole, { ...request, isWanted, proven }, context);
    const look = async (): Promise<Verdict> => {
      const verdict = await lookOnce();
      if (!isOfStore(verdict.failure) || (await isGone(repository, manifest, context))) return verdict;
      // The store gives other things: it may have been away for a moment, or does not give this one.
      return lookOnce();
    };
    // A look is one request; of those there may be thousands.
    const verdict = whole ? run.span.span('read', facts, (span) => noting(span, look)) : look();
    const { depth, failure, locked } = await verdict;
    if (failure !== undefined && (await isGone(repository, manifest, context))) {
      const what = `${manifest.id} was deleted while it was looked at`;
      if (request.selector !== undefined) throw new PgarkError('backup-not-found', what, { cause: failure });
      run.logger.info('verify.deleted', what, { backupId: manifest.id });
      continue;
    }
    verified.push({ manifest, depth, failure, wasNewest });
    if (depth === 'read' && failure === undefined) proven.add(manifest.id);
    const fields = { backupId: manifest.id, depth };
    if (failure)
      run.logger.error('verify.failed', `${manifest.id}: ${failure.message}`, { ...fields, code: failure.code });
    else run.logger.debug('verify.passed', `${manifest.id} is whole`, fields);
    // Without the key nothing was proven, neither that it restores nor that it does not. What is wrong with the storage ends all the same.
    const isCertain = locked === undefined || (await failedByStorage(manifest));
    if (whole && isCertain) {
      const error = locked ?? failure;
      const details = { ...(error && { depth }), ...(wasNewest !== undefined && { wasNewest }) };
      const proof = { kind: 'verify', runId: run.id, error, details, isToldOf } as const;
      const isRecorded: boolean = await recordProof(store, manifest, proof, context);
      isToldOf ||= !isRecorded;
    }
  }
  return { backups: verified, damaged };
}

/** Of every backup that failed, why. */
export function failuresIn({ backups, damaged }: Verification): readonly PgarkError[] {
  return [...backups.flatMap(({ failure }) => failure ?? []), ...damaged.map(({ error }) => error)];
}

async function choose(
  repository: Repository,
  request: VerifyRequest,
  context: OperationContext,
): Promise<{
  readonly chosen: readonly {
    readonly manifest: Manifest;
    readonly whole: boolean;
    /** The one that a person in need restores by these keys: the newest, or the one that is asked for. */
    readonly isWanted: boolean;
    /** Undefined where nobody has looked at the others. */
    readonly wasNewest?: boolean;
  }[];
  readonly damaged: readonly DamagedManifest[];
}> {
  const options = { signal: context.signal };
  if (request.selector !== undefined) {
    const found = await findBackup(repository, request.selector, request.filter, context);
    if (found.kind === 'own') {
      return { chosen: [{ manifest: found.manifest, whole: true, isWanted: true }], damaged: [] };
    }
    throw new PgarkError(
      'backup-not-found',
      `${found.key} was written by another tool and has no manifest to verify it by`,
      {
        hint: 'restore it into a scratch database to try it',
      },
    );
  }
  await repository.checkLayout(options);
  const { manifests, damaged } = await repository.backups(request.filter, options);
  const newest = new Set<Manifest>();
  for (const group of Map.groupBy(manifests, seriesOf).values()) {
    const last = group.toSorted(byStoreTime).at(-1);
    if (last) newest.add(last);
  }
  const sampled = request.deep ? newest : await sampleOf(repository, manifests, newest, request, context);
  const chosen = manifests.map((manifest) => ({
    manifest,
    whole: request.deep || sampled.has(manifest),
    wasNewest: newest.has(manifest),
    isWanted: newest.has(manifest) && request.ownSources?.has(manifest.source) !== false,
  }));
  return { chosen, damaged };
}

/** Whether the newest verification of one of these failed by what lies in the storage; looked up once for all of a series. */
function storageFailures(
  store: ObjectStore,
  manifests: readonly Manifest[],
  context: OperationContext,
): (manifest: Manifest) => Promise<boolean> {
  const series = Map.groupBy(manifests, seriesOf);
  const found = new Map<string, ReturnType<typeof newestProofs>>();
  return async (manifest) => {
    const name = seriesOf(manifest);
    const proofs = found.get(name) ?? newestProofs(store, series.get(name) ?? [], context);
    found.set(name, proofs);
    return (await proofs).get(manifest.id)?.verify?.isOfStorage === true;
  };
}

/** The newest ones, and besides them as many others as the share of bytes asks for, at least one. */
async function sampleOf(
  { store }: Repository,
  manifests: readonly Manifest[],
  newest: ReadonlySet<Manifest>,
  { sampleRatio = 0 }: VerifyRequest,
  context: OperationContext,
): Promise<ReadonlySet<Manifest>> {
  const chosen = new Set(newest);
  if (sampleRatio === 0) return chosen;
  const wantedBytes = manifests.reduce((sum, manifest) => sum + sizesOf(manifest).storedBytes, 0) * sampleRatio;
  const readAt = new Map<Manifest, number>();
  for (const group of Map.groupBy(manifests, seriesOf).values()) {
    const proofs = await newestProofs(store, group, context);
    for (const manifest of group) readAt.set(manifest, proofs.get(manifest.id)?.verify?.at.getTime() ?? 0);
  }
  const waiting = manifests
    .filter((manifest) => !newest.has(manifest))
    .toSorted((a, b) => (readAt.get(a) ?? 0) - (readAt.get(b) ?? 0));
  let bytes = 0;
  for (const manifest of waiting) {
    if (bytes >= wantedBytes) break;
    chosen.add(manifest);
    bytes += sizesOf(manifest).storedBytes;
  }
  return chosen;
}

/**
 * Retention deletes the manifest first: what is missing of a backup without one is no damage. Rejects where the store is away,
 * which is no fault of a backup's.
 */
async function isGone(
  repository: Repository,
  { source, database, id }: Manifest,
  { signal }: OperationContext,
): Promise<boolean> {
  // One that cannot be read is there, and was read a moment ago.
  const found = repository.manifestAt(keys.manifest(source, database.name, id), { signal }).catch((error: unknown) => {
    if (isPgarkError(error, 'repository-damaged')) return error;
    throw error;
  });
  return (await found) === undefined;
}

async function noting(span: Span, look: () => Promise<Verdict>): Promise<Verdict> {
  const verdict = await look();
  span.note({ 'pgark.depth': verdict.depth });
  if (verdict.failure !== undefined) span.fail(verdict.failure);
  return verdict;
}

async function verifyOne(
  store: ObjectStore,
  manifest: Manifest,
  whole: boolean,
  request: Pick<VerifyRequest, 'keys' | 'mustOpen'> & {
    readonly isWanted: boolean;
    readonly proven: ReadonlySet<string>;
  },
  context: OperationContext,
): Promise<Verdict> {
  const { signal } = context;
  let keyFailure: PgarkError | undefined;
  // What is missing or has the wrong length fails before a byte is read.
  let isReading = false;
  const reached = (): VerifyDepth => (!isReading ? 'present' : keyFailure ? 'stored' : 'read');
  try {
    const check = checkOf(manifest, { store, keys: request.keys, signal }, (id) => request.proven.has(id));
    await check.presence();
    if (whole) {
      isReading = true;
      await check.content({
        onStoredBytes: (progress) => context.onProgress({ phase: 'verifying', ...progress }),
        onLocked: (why) => {
          keyFailure = why;
        },
      });
    }
    const mustOpen = request.mustOpen === true || (request.isWanted && isPgarkError(keyFailure, 'wrong-key'));
    return { depth: reached(), failure: mustOpen ? keyFailure : undefined, locked: keyFailure };
  } catch (error) {
    signal.throwIfAborted();
    const failure = asPgarkError(error);
    // What pgark or its machine lacks says nothing of the backup, and would fail the next one as well.
    if (!OF_BACKUP.has(failure.code) && !isOfStore(failure)) throw failure;
    return { depth: reached(), failure };
  }
}

/** What there is to say of one backup, and not of others. */
const OF_BACKUP: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'corrupt',
  'object-not-found',
  'repository-damaged',
  'archive-unsupported',
  'encryption-unsupported',
]);

function isOfStore(failure: PgarkError | undefined): boolean {
  return failure?.code.startsWith('store-') === true;
}
