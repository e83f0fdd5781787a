import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { type ByteStream, MIB } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { OlderWriter, NewestWriter, type MergeState } from './merge-writer.ts';
import { type MergedFile, MergedFiles } from './merged-files.ts';
import { type FileChange, mergedManifest } from './merged-manifest.ts';
import type { PhysicalObjects } from './physical-objects.ts';
import { type BaseReading, readBase } from './stored-base.ts';
import { cannotWrite, type TargetFolder } from './target-files.ts';
import { writeArchive } from './unpack-archive.ts';

/** Files whose digests are made at once. */
const READERS = 4;

const LABEL = 'backup_label' as ByteString;
/** By which PostgreSQL tells a backup that must not be started before it is merged. */
const RELATIVE_TO = /^INCREMENTAL FROM (LSN|TLI): (.*)\n/gm;

/** The folder of each tablespace; that of the data directory has no oid. */
export type TargetFolders = ReadonlyMap<string | undefined, TargetFolder>;

/**
 * Unpacks an incremental backup and merges it with those before it, of which the nearest comes first, while they come: the
 * newest backup is written first, and of each older one what is still missing then. Nothing is written twice, and of a
 * file no more than a bit for each block is kept. Each file of each backup is compared with that one's backup_manifest.
 * Resolves with what makes the backup_manifest of the result out of the newest one's. Errors: those of `readBase`;
 * `corrupt` where the backups do not follow one another.
 */
export async function unpackChain(
  newest: PhysicalObjects,
  older: readonly PhysicalObjects[],
  folders: TargetFolders,
  { signal, onStoredBytes }: BaseReading,
): Promise<(manifest: ByteStream) => ByteStream> {
  const { incremental, id } = newest.manifest;
  if (incremental === undefined || older.length === 0) {
    throw new PgarkError('repository-damaged', `the manifest of ${id} does not say what it is an increment of`);
  }
  const files = new MergedFiles();
  const state: MergeState = { files, blockBytes: incremental.blockBytes, labels: [] };
  let bytesBefore = 0;
  let bytesRead = 0;
  const reading = {
    signal,
    onStoredBytes: (bytes: number) => {
      bytesRead = bytes;
      onStoredBytes(bytesBefore + bytes);
    },
  };
  await readBase(newest, reading, async (source, archive, onFile) => {
    const target = folders.get(archive.oid);
    assert(target !== undefined, 'each archive has its folder');
    await using writer = new NewestWriter(archive, target, state);
    await writeArchive(source, archive, writer, onFile);
  });
  for (const [index, link] of older.entries()) {
    bytesBefore += bytesRead;
    await readBase(link, reading, async (source, archive, onFile) => {
      await using writer = new OlderWriter(archive, index + 1, state);
      await writeArchive(source, archive, writer, (file) => {
        onFile(file);
        if (writer.wholeOf !== undefined) writer.wholeOf.sha256 = file.sha256;
      });
    });
    files.endLink(index + 1, link.manifest.id, link === older.at(-1));
  }
  const data = folders.get(undefined);
  assert(data !== undefined, 'there is a data directory');
  const changes = await digestsOf(files.all, signal);
  state.labels[0] = (await data.read(LABEL)) ?? '';
  checkLabels([newest, ...older], state.labels);
  const label = state.labels[0].replace(RELATIVE_TO, '');
  await data.replace(LABEL, label);
  const labelChange = { bytes: Buffer.byteLength(label), sha256: createHash('sha256').update(label).digest('hex') };
  const changeOf = (path: ByteString): FileChange | undefined => (path === LABEL ? labelChange : changes.get(path));
  return (manifest) => mergedManifest(manifest, changeOf);
}

/** Each backup of a chain but the last says itself where the one before it began. */
function checkLabels(chain: readonly PhysicalObjects[], labels: readonly string[]): void {
  for (const [index, { manifest }] of chain.entries()) {
    const said = new Map([...(labels[index] ?? '').matchAll(RELATIVE_TO)].map(([, name, value]) => [name, value]));
    const parent: Pick<Manifest, 'id' | 'startLsn' | 'timeline'> | undefined = chain[index + 1]?.manifest;
    const fits =
      parent === undefined
        ? said.size === 0
        : said.get('LSN') === parent.startLsn && said.get('TLI') === String(parent.timeline);
    if (fits) continue;
    throw new PgarkError(
      'corrupt',
      `the backup_label of ${manifest.id} says that it is an increment of another backup than ${parent?.id ?? 'none'}`,
      { hint: 'restore another backup, pgark list shows them' },
    );
  }
}

/** What was put together from several backups is read again: its digest stands in no list. */
async function digestsOf(
  files: ReadonlyMap<ByteString, MergedFile>,
  signal: AbortSignal,
): Promise<ReadonlyMap<ByteString, FileChange>> {
  const changes = new Map<ByteString, FileChange>();
  await inParallel([...files], READERS, signal, async (take, either) => {
    const buffer = Buffer.allocUnsafe(MIB);
    for (let next = take(); next !== undefined; next = take()) {
      const [path, file] = next;
      const sha256 = file.sha256 ?? (await digestOf(file, buffer, either));
      changes.set(path, { bytes: file.bytes, sha256 });
    }
  });
  return changes;
}

async function digestOf({ target, name, bytes }: MergedFile, buffer: Buffer, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const handle: FileHandle = await target.reopen(name);
  try {
    let total = 0;
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, total);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      total += bytesRead;
    }
    if (total !== bytes) throw new Error(`it has ${total} bytes in the place of ${bytes}`);
    return hash.digest('hex');
  } catch (error) {
    signal.throwIfAborted();
    throw cannotWrite(readable(name), target.path, error);
  } finally {
    await handle.close();
  }
}
