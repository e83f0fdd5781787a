/** What a backup holds, as far as that can be told without restoring it. */
export type Inventory = ArchiveInventory | FilesInventory;

/** Of a backup of format directory: its table of contents, and what was recorded of its rows. */
export interface ArchiveInventory {
  readonly kind: 'archive';
  /** In which its rows are written: hashes of rows in different ones cannot be compared. */
  readonly encoding: string;
  /** All but data, and but what says how the archive itself is written. */
  readonly definitions: readonly Definition[];
  readonly tables: readonly TableRows[];
  /** Ordinary tables whose rows are not in the backup: they were left out, or could not be read. */
  readonly tablesWithoutRows: readonly string[];
  /** What each sequence stands at, by its name: `41`, or `1, not used yet`. */
  readonly sequences: ReadonlyMap<string, string>;
  readonly largeObjects: readonly LargeObject[];
}

export interface Definition {
  /** As pg_dump calls it: `TABLE`, `FK CONSTRAINT`, `ACL`. */
  readonly kind: string;
  /** `public.orders`; several may share one, such as operators of different types. */
  readonly name: string;
  /** What creates it. May hold secrets, such as the password of a subscription: it is compared, and never shown. */
  readonly sql: string;
  readonly owner: string;
  readonly tablespace: string;
  readonly accessMethod: string;
}

export interface TableRows {
  readonly name: string;
  readonly rows: number;
  /** Of the rows in any order. Archives of earlier versions have none. */
  readonly hash: string | undefined;
}

interface LargeObject {
  readonly oid: string;
  readonly sha256: string;
}

/** Of a physical backup: the server's own list of its files. Those of an incremental one hold changes alone. */
export interface FilesInventory {
  readonly kind: 'files';
  readonly files: readonly InventoryFile[];
}

export interface InventoryFile {
  /** Relative to the data directory: `base/16384/2601`. */
  readonly path: string;
  readonly bytes: number;
  /** With its algorithm; undefined where the backup was made without. */
  readonly checksum: string | undefined;
}
