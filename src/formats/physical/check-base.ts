import { PgarkError } from '../../common/errors.ts';
import { drain } from '../../pipeline/drain.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import { type Manifest, sizesOf } from '../../repository/manifest.ts';
import type { BackupCheck, CheckListener } from '../check-backup.ts';
import { parseSums } from '../directory/sums.ts';
import { isOfKeys } from '../key-failure.ts';
import type { SourceAccess } from '../load-source.ts';
import { KEY_ROLE } from '../own-key.ts';
import { readStored } from '../sealed-object.ts';
import { summingFiles } from './archive-files.ts';
import { readParents } from './backup-chain.ts';
import { checkSpan } from './fetch-wal.ts';
import { findSpan, spanOf } from './needed-wal.ts';
import { PhysicalObjects, type PhysicalRole } from './physical-objects.ts';
import { readBase } from './stored-base.ts';

/**
 * The check of a physical backup: every file of its archives is compared with the list that the server made, and the WAL
 * without which it cannot be restored is read. One that is incremental is whole only with the backups before it, whose own
 * WAL it does not need.
 */
export class BaseCheck implements BackupCheck {
  readonly #manifest: Manifest;
  readonly #access: SourceAccess;
  readonly #isProven: (id: string) => boolean;

  /** `isProven` tells of parents which were read a moment ago that they need not be read again. */
  constructor(manifest: Manifest, access: SourceAccess, isProven: (id: string) => boolean = () => false) {
    this.#manifest = manifest;
    this.#access = access;
    this.#isProven = isProven;
  }

  async presence(): Promise<void> {
    const { store, signal } = this.#access;
    for (const objects of await this.#chain()) await objects.checkPresence();
    await findSpan(store, spanOf(this.#manifest), { signal });
  }

  async content(told: CheckListener): Promise<void> {
    let isLocked = false;
    const toldOnce = {
      onStoredBytes: (progress: Parameters<CheckListener['onStoredBytes']>[0]) => told.onStoredBytes(progress),
      onLocked: (why: PgarkError) => {
        if (!isLocked) told.onLocked(why);
        isLocked = true;
      },
    };
    for (const objects of await this.#chain()) {
      if (this.#isProven(objects.manifest.id)) continue;
      await new LinkCheck(objects, this.#access).content(toldOnce);
    }
    try {
      if (!isLocked) await checkSpan(spanOf(this.#manifest), this.#access);
    } catch (error) {
      // What opens the backup and not its log restores nothing; and so a damaged head of an encrypted object looks.
      const isOwn = this.#manifest.encryption !== undefined;
      if (isOwn || !(error instanceof PgarkError) || !isOfKeys(error)) throw error;
      toldOnce.onLocked(error);
    }
  }

  async #chain(): Promise<readonly PhysicalObjects[]> {
    return [new PhysicalObjects(this.#manifest, this.#access), ...(await readParents(this.#manifest, this.#access))];
  }
}

/** The check of one backup by itself. */
class LinkCheck {
  readonly #objects: PhysicalObjects;
  readonly #access: SourceAccess;

  constructor(objects: PhysicalObjects, access: SourceAccess) {
    this.#objects = objects;
    this.#access = access;
  }

  async content(told: CheckListener): Promise<void> {
    const { manifest, folder: subject } = this.#objects;
    const { storedBytes: bytesTotal } = sizesOf(manifest);
    const onStoredBytes = (bytes: number): void => told.onStoredBytes({ subject, bytes, bytesTotal });
    const { signal } = this.#access;
    try {
      await checkSums(this.#objects, signal);
      await readBase(this.#objects, { signal, onStoredBytes }, async (source, archive, onFile) => {
        await drain(summingFiles(archive, onFile)(source), signal);
      });
    } catch (error) {
      if (!(error instanceof PgarkError) || !isOfKeys(error)) throw error;
      told.onLocked(error);
      await this.#readStored(onStoredBytes);
    }
  }

  async #readStored(onStoredBytes: (bytes: number) => void): Promise<void> {
    const { store, signal } = this.#access;
    const tally = tallyOf(onStoredBytes);
    for (const object of this.#objects.manifest.objects) {
      for await (const _ of readStored(store, object, { signal, onStoredBytes: tally() })) signal.throwIfAborted();
    }
  }
}

/** These are read by every restore, as the archives are; and of the sums it is also checked what they say. */
const READ_OTHERWISE: ReadonlySet<string> = new Set<PhysicalRole>(['backup_manifest', 'sums', KEY_ROLE]);

/**
 * Reads what is stored of a physical backup and no restore of it reads, and compares it as a check does. One that is incremental
 * needs the same of each of its chain. Errors: `corrupt`,
 * `repository-damaged`, `store-…`, those of keys.
 */
export async function checkUnrestored(objects: PhysicalObjects, signal: AbortSignal): Promise<void> {
  await checkSums(objects, signal);
  const archives = new Set(objects.archives().map(({ object }) => object));
  for (const object of objects.manifest.objects) {
    if (archives.has(object) || READ_OTHERWISE.has(object.role)) continue;
    await drain(objects.read(object, { signal }), signal);
  }
}

/** What `sha256sum -c` would compare has to be what the backup is recorded to hold. */
async function checkSums(objects: PhysicalObjects, signal: AbortSignal): Promise<void> {
  const { manifest, folder } = objects;
  const own = objects.named('sums');
  const blocks: Uint8Array[] = [];
  for await (const block of objects.read(own, { signal })) blocks.push(block);
  const sums = parseSums(Buffer.concat(blocks), own.key);
  for (const { key, storedSha256 } of manifest.objects) {
    if (key === own.key || sums.get(key.slice(folder.length)) === storedSha256) continue;
    throw new PgarkError('corrupt', `${own.key} does not have the digest that was recorded for ${key}`);
  }
}
