import type { FilesInventory, InventoryFile } from '../../formats/inventory.ts';

/** Files of one database, or of what all share. */
interface FolderDifference {
  /** `base/16384`, `global`, `pg_tblspc/16400`; the first parts of their paths. */
  readonly folder: string;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly differing: number;
}

export interface FilesDifference {
  readonly kind: 'files';
  readonly before: { readonly files: number; readonly bytes: number };
  readonly after: { readonly files: number; readonly bytes: number };
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
  readonly sameCount: number;
  /** Of as many the server gave no checksums, and sizes are equal. */
  readonly unknown: number;
  /** All that either of them has. */
  readonly folders: readonly FolderDifference[];
  /** Of the server itself, in its data directory: `postgresql.auto.conf`. */
  readonly settings: readonly { readonly file: string; readonly change: 'added' | 'removed' | 'changed' }[];
}

type Change = 'added' | 'removed' | 'changed' | 'same' | 'unknown';

const SETTINGS_FILE = /^[\w.-]+\.(conf|signal)$/;
/** Of the directories of a tablespace the oid is enough: below it stands the server's version. */
const DEEP: ReadonlySet<string> = new Set(['base', 'pg_tblspc']);

/** What is another in the one list of files than in the other. Pure. */
export function compareFiles(before: FilesInventory, after: FilesInventory): FilesDifference {
  const olds = new Map(before.files.map((file) => [file.path, file]));
  const news = new Map(after.files.map((file) => [file.path, file]));
  const counts: Record<Change, number> = { added: 0, removed: 0, changed: 0, same: 0, unknown: 0 };
  const folders = new Map<string, { bytesBefore: number; bytesAfter: number; differing: number }>();
  const settings: { readonly file: string; readonly change: 'added' | 'removed' | 'changed' }[] = [];
  for (const path of new Set([...olds.keys(), ...news.keys()])) {
    const [old, now] = [olds.get(path), news.get(path)];
    const change = changeOf(old, now);
    counts[change]++;
    const folder = folderOf(path);
    const known = folders.get(folder) ?? { bytesBefore: 0, bytesAfter: 0, differing: 0 };
    known.bytesBefore += old?.bytes ?? 0;
    known.bytesAfter += now?.bytes ?? 0;
    if (change !== 'same' && change !== 'unknown') {
      known.differing++;
      if (SETTINGS_FILE.test(path)) settings.push({ file: path, change });
    }
    folders.set(folder, known);
  }
  return {
    kind: 'files',
    before: totalOf(before),
    after: totalOf(after),
    added: counts.added,
    removed: counts.removed,
    changed: counts.changed,
    sameCount: counts.same,
    unknown: counts.unknown,
    folders: [...folders]
      .map(([folder, each]) => ({ folder, ...each }))
      .sort((a, b) => compareText(a.folder, b.folder)),
    settings: settings.sort((a, b) => compareText(a.file, b.file)),
  };
}

function changeOf(before: InventoryFile | undefined, after: InventoryFile | undefined): Change {
  if (before === undefined) return 'added';
  if (after === undefined) return 'removed';
  if (before.bytes !== after.bytes) return 'changed';
  if (before.checksum === undefined || after.checksum === undefined) return 'unknown';
  return before.checksum === after.checksum ? 'same' : 'changed';
}

/** `base/16384` of `base/16384/2601`; empty for what lies in the data directory itself. */
function folderOf(path: string): string {
  const parts = path.split('/').slice(0, -1);
  return parts.slice(0, DEEP.has(parts[0] ?? '') ? 2 : 1).join('/');
}

function totalOf({ files }: FilesInventory): { readonly files: number; readonly bytes: number } {
  return { files: files.length, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function compareText(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
