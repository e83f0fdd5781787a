import { type ByteStream, MIB } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import { bytesOf, readable, toByteString } from '../../postgres/toc/byte-string.ts';
import { folderOf } from './archive-files.ts';
import { writeEndScript } from './end-script.ts';
import { type FilledFolder, type FillOptions, inspectEmptyFolder, takeEmptyFolder } from './empty-folder.ts';
import { DATA_DIRECTORY, FILES, type PhysicalObjects } from './physical-objects.ts';
import { workingLibraries } from './preloaded-libraries.ts';
import { type RecoveryPlan, withoutOldServer, withRecoverySettings } from './recovery-settings.ts';
import { WITHHELD } from './restore-mark.ts';
import { type BaseReading, readBase } from './stored-base.ts';
import { TABLESPACES, type TablespacePlace, writeTablespaceMap } from './tablespace-map.ts';
import { cannotWrite, syncFile, syncFolders, TargetFolder } from './target-files.ts';
import { unpackArchive } from './unpack-archive.ts';
import { type TargetFolders, unpackChain } from './unpack-chain.ts';

/** Settings that name the old server's own files, and are left as they are. */
const ELSEWHERE = /^\s*(hba_file|ident_file|external_pid_file)\s*=?\s*('[^']*')/gm;

/** For settings, and what a server needs at its start, on top of the files. */
const ROOM_BYTES = 64 * MIB;

/** Where a physical backup is restored: absolute paths. */
export interface BaseTarget extends FillOptions {
  readonly directory: string;
  readonly tablespaces: readonly TablespacePlace[];
}

/** Errors: `target-not-empty`, `restore-failed` for a target that cannot be filled. Nothing is changed. `walBytes`: of the WAL beside it. */
export async function inspectTarget(
  objects: Pick<PhysicalObjects, 'manifest' | 'archives'>,
  target: BaseTarget,
  walBytes: number,
): Promise<void> {
  const elsewhere = new Map(target.tablespaces.flatMap((place) => (place.isInside ? [] : [[place.oid, place.path]])));
  let bytesInside = ROOM_BYTES + walBytes;
  const merged = objects.manifest.incremental?.mergedBytes;
  for (const { oid, object } of objects.archives()) {
    const path = elsewhere.get(oid ?? '');
    const bytes = merged?.[oid ?? DATA_DIRECTORY] ?? object.plainBytes;
    if (path === undefined) bytesInside += bytes;
    else await inspectEmptyFolder(path, bytes, target);
  }
  await inspectEmptyFolder(target.directory, bytesInside, target);
}

/** A base backup on the disk. */
export class RestoredBase {
  readonly #target: BaseTarget;
  readonly #folders: FilledFolder[] = [];
  #data: TargetFolder | undefined;

  private constructor(target: BaseTarget) {
    this.#target = target;
  }

  /**
   * Unpacks all archives into the target, as it was on the server, with the backup_manifest beside them: what
   * pg_verifybackup would pass, since each file was compared. An incremental backup is merged with its parents, of which
   * the nearest comes first. It stays unfinished, and no server starts on it, until `finish`. A failure leaves the target
   * as it was. Errors: those of `inspectTarget`, `readBase` and `unpackChain`.
   */
  static async unpack(
    objects: PhysicalObjects,
    target: BaseTarget,
    reading: BaseReading,
    parents: readonly PhysicalObjects[] = [],
  ): Promise<RestoredBase> {
    const base = new RestoredBase(target);
    try {
      await base.#unpack(objects, parents, reading);
      return base;
    } catch (error) {
      await base.discard();
      throw error;
    }
  }

  /** The data directory. */
  get data(): TargetFolder {
    assert(this.#data !== undefined, 'the base was unpacked');
    return this.#data;
  }

  /** Whether all belongs to root, as whom PostgreSQL does not run. */
  get isOfRoot(): boolean {
    return process.getuid?.() === 0 && this.#folders.some(({ owner }) => owner === undefined);
  }

  /**
   * Makes of it what a server starts from: it recovers up to the end of the base backup, by the WAL in `pg_wal`. `note`
   * tells people in the settings where they come from.
   */
  async prepareRecovery(plan: RecoveryPlan, note: string): Promise<void> {
    const { tablespaces } = this.#target;
    const settings = (await this.data.read('postgresql.auto.conf')) ?? toByteString('');
    await this.data.replace('postgresql.auto.conf', bytesOf(withRecoverySettings(settings, plan, note)));
    await writeEndScript(this.data);
    const own = await this.data.read('postgresql.conf');
    const changed = own === undefined ? undefined : withoutOldServer(own);
    if (changed !== undefined) await this.data.replace('postgresql.conf', bytesOf(changed));
    await this.data.remove('standby.signal');
    await this.data.replace('recovery.signal', '');
    // It wins over the links.
    if (tablespaces.length > 0) await this.data.replace('tablespace_map', writeTablespaceMap(tablespaces));
  }

  /** What of the configuration is not in the directory, or points out of it: sentences for people. */
  async configurationElsewhere(): Promise<readonly string[]> {
    const settings = await this.data.read('postgresql.conf');
    if (settings === undefined) {
      return [
        'the backup holds no postgresql.conf, which this server keeps outside of its data directory: copy it and pg_hba.conf there before the start',
      ];
    }
    return [...readable(settings).matchAll(ELSEWHERE)].map(
      ([, name, place]) =>
        `postgresql.conf sets ${name} to ${place}: change that before the start, or the old files are used`,
    );
  }

  /** Libraries that the server loads and that may begin to work as soon as it starts, as far as its own files say. */
  async workingLibraries(): Promise<readonly string[]> {
    const files = ['postgresql.conf', 'postgresql.auto.conf'].map((name) => this.data.read(name));
    return workingLibraries((await Promise.all(files)).map((file) => file ?? toByteString('')));
  }

  /**
   * Brings everything to the disk, and makes of what was unfinished what a server starts on. Wherever that is cut off, it is the one
   * or the other.
   */
  async finish(signal: AbortSignal): Promise<void> {
    const paths = this.#folders.map(({ path }) => path);
    await syncFolders(paths, signal);
    try {
      for (const folder of this.#folders) await folder.finish();
      for (const path of paths) await syncFile(path);
    } catch (error) {
      throw cannotWrite('the end of the restore', this.#target.directory, error);
    }
    await this.data.release();
  }

  /** Leaves the target as it was found. Never rejects. */
  async discard(): Promise<void> {
    for (const folder of this.#folders) await folder.discard();
  }

  async #unpack(objects: PhysicalObjects, parents: readonly PhysicalObjects[], reading: BaseReading): Promise<void> {
    const data = await this.#take(this.#target.directory, WITHHELD);
    this.#data = data;
    const targets = new Map<string | undefined, TargetFolder>([[undefined, data]]);
    for (const { oid, path, isInside } of this.#target.tablespaces) {
      if (isInside) {
        await data.makeFolder(toByteString(TABLESPACES));
        targets.set(oid, await data.folder(toByteString(`${TABLESPACES}/${oid}`)));
      } else targets.set(oid, await this.#take(path));
    }
    const manifestOf =
      objects.manifest.parents.length === 0
        ? await unpackFull(objects, targets, reading)
        : await unpackChain(objects, parents, targets, reading);
    for (const { oid, path } of this.#target.tablespaces) await data.link(folderOf({ oid }).slice(0, -1), path);
    const manifest = objects.read(objects.named('backup_manifest'), { signal: reading.signal });
    await data.writeStream(FILES.manifest, manifestOf(manifest));
  }

  async #take(path: string, withheld?: ReadonlyMap<string, string>): Promise<TargetFolder> {
    const folder = await takeEmptyFolder(path, this.#target);
    this.#folders.push(folder);
    return new TargetFolder(path, folder.owner, withheld);
  }
}

/** Resolves with what makes the backup_manifest of the result: it is the server's own. */
async function unpackFull(
  objects: PhysicalObjects,
  folders: TargetFolders,
  reading: BaseReading,
): Promise<(manifest: ByteStream) => ByteStream> {
  await readBase(objects, reading, async (source, archive, onFile) => {
    const target = folders.get(archive.oid);
    assert(target !== undefined, 'each archive has its folder');
    await unpackArchive(source, archive, target, onFile);
  });
  return (manifest) => manifest;
}
