import { PgarkError } from '../../common/errors.ts';
import type { Inventory } from '../../formats/inventory.ts';
import { isOfKeys } from '../../formats/key-failure.ts';
import { takeInventory } from '../../formats/take-inventory.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { isIncrementalId } from '../../repository/ids.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';
import { allSame, type ArchiveDifference, compareArchives, type Sameness } from './compare-archives.ts';
import { compareFacts, type FactsDifference, isOfContent } from './compare-facts.ts';
import { compareFiles, type FilesDifference } from './compare-files.ts';

export interface DiffRequest {
  readonly before: StoredBackup;
  readonly after: StoredBackup;
  readonly keys: DecryptionKeys;
}

/** A backup, and where it lies. */
export interface StoredBackup {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
}

/** Why nothing can be said of what the backups hold. */
interface NotCompared {
  readonly kind: 'none';
  readonly why: 'formats' | 'text' | 'incremental' | 'locked';
  /** For people: one sentence. */
  readonly message: string;
  /** For what is `locked`: the error of the keys. */
  readonly error?: PgarkError;
}

export interface DiffOutcome extends FactsDifference {
  /** Undefined: nothing is known to differ, and not all of it can be compared without restoring. */
  readonly same: Sameness;
  readonly content: ArchiveDifference | FilesDifference | NotCompared;
}

/**
 * Compares two backups by what is recorded of them; no rows are read. Without a key for what is encrypted, the manifests are
 * compared, and the outcome says so. Errors: `corrupt`, `repository-damaged`, `store-…`.
 */
export async function diff({ before, after, keys }: DiffRequest, context: OperationContext): Promise<DiffOutcome> {
  const facts = compareFacts(before.manifest, after.manifest);
  const differs = facts.settings.length > 0 || facts.facts.some(isOfContent);
  const content = await compareContent({ before, after, keys }, context);
  if (before.manifest.id === after.manifest.id) return { ...facts, same: true, content };
  const isSameText = content.kind === 'none' && content.why === 'text' && hasSameText(before.manifest, after.manifest);
  return {
    ...facts,
    same: allSame([differs ? false : facts.untold.length === 0 || undefined, isSameText || samenessOf(content)]),
    content,
  };
}

function samenessOf(content: DiffOutcome['content']): Sameness {
  // The files of a server that is used are never the same, whatever its databases hold.
  return content.kind === 'archive' ? content.same : undefined;
}

/** Of dumps in SQL text, whose rows nobody has counted: byte by byte. */
function hasSameText(before: Manifest, after: Manifest): boolean {
  const [one, another] = before.objects;
  const [other, more] = after.objects;
  if (one === undefined || other === undefined || another !== undefined || more !== undefined) return false;
  const isDigested = one.plainSha256 !== undefined;
  return isDigested && one.plainBytes === other.plainBytes && one.plainSha256 === other.plainSha256;
}

async function compareContent(
  { before, after, keys }: DiffRequest,
  { signal }: OperationContext,
): Promise<DiffOutcome['content']> {
  if (before.manifest.format !== after.manifest.format) {
    return none('formats', `a ${before.manifest.format} backup and a ${after.manifest.format} one cannot be compared`);
  }
  if (before.manifest.format === 'plain') return none('text', textMessage(before.manifest, after.manifest));
  if (isIncrementalId(before.manifest.id) || isIncrementalId(after.manifest.id)) {
    return none('incremental', 'the files of an incremental backup hold changes alone');
  }
  const take = ({ store, manifest }: StoredBackup): Promise<Inventory | undefined> =>
    takeInventory(manifest, { store, keys, signal });
  try {
    const [one, other] = await Promise.all([take(before), take(after)]);
    if (one?.kind === 'archive' && other?.kind === 'archive') return compareArchives(one, other);
    if (one?.kind === 'files' && other?.kind === 'files') return compareFiles(one, other);
  } catch (error) {
    if (!(error instanceof PgarkError) || !isOfKeys(error)) throw error;
    return { ...none('locked', `what they hold is encrypted: ${error.message}`), error };
  }
  throw new PgarkError('internal', `nothing compares backups of format ${before.manifest.format}`);
}

function none(why: NotCompared['why'], message: string): NotCompared {
  return { kind: 'none', why, message };
}

function textMessage(before: Manifest, after: Manifest): string {
  return hasSameText(before, after)
    ? 'both hold the same SQL text, byte by byte'
    : 'the SQL text of plain backups says nothing of its tables before it is restored';
}
