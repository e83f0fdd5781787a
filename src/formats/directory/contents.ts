import { z } from 'zod';
import { PgarkError } from '../../common/errors.ts';
import { sumOfHashes } from '../../pipeline/rows-hash.ts';

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** A name within the backup's folder: no path leads out of it, whoever wrote the list. */
const fileName = z.string().regex(/^(?!\.)[\w.-]{1,200}$/);

/** Of `RowsHash`: the same in any order of the rows. */
const rowsHash = z.string().regex(/^[0-9a-f]{32}$/);

/** Which rows of which table a data file holds. */
const piece = z.object({
  /** Dump id of the table's data entry in pg_dump's own TOC. */
  entry: z.number().int().positive(),
  /** Heap pages, the first one and the one after the last; the last piece of a table has no end. Missing: all rows. */
  pages: z.object({ from: count, to: count.optional() }).optional(),
  rows: count,
  hash: rowsHash.optional(),
});

const fields = z.object({
  name: fileName,
  /** `data`: COPY text of a table or a piece of one; `large-object`: the bytes of one; `large-objects`: a list of them. */
  role: z.enum(['data', 'large-object', 'large-objects']),
  storedBytes: count,
  storedSha256: sha256,
  /** Before compression and encryption. */
  plainBytes: count,
  /** Not of rows, which their hash is recognised by. */
  plainSha256: sha256.optional(),
  /** How the store confirmed the content. */
  confirmedBy: z.string().optional(),
  piece: piece.optional(),
  /** For a large object: its oid, and the dump id of the TOC entry that it belongs to. */
  largeObject: z.object({ oid: z.string().regex(/^\d+$/), entry: z.number().int().positive() }).optional(),
});

const file = fields.refine(
  ({ plainSha256, piece: rows, largeObject }) =>
    plainSha256 !== undefined || (largeObject === undefined && rows?.hash !== undefined),
  { path: ['plainSha256'], error: 'neither a digest nor a hash of rows says what the content is' },
);

const contentsSchema = z.object({
  layout: z.literal(1),
  files: z.array(file),
  /** Which rows each table gave, in the order of the TOC: what a restore is compared with. */
  tables: z.array(
    z.object({
      entry: z.number().int().positive(),
      schema: z.string(),
      name: z.string(),
      rows: count,
      hash: rowsHash.optional(),
    }),
  ),
});

/**
 * What lies in the folder of a backup of format directory beside its TOC: every data file with its digests, and the rows
 * of every table. An object of its own (role `contents`), compressed and encrypted as the data is, since it names tables
 * and may be far larger than a manifest.
 */
export type ArchiveContents = z.infer<typeof contentsSchema>;
export type ArchiveFile = z.infer<typeof file>;

/** What is known of the rows of some tables or pieces, of all together. Hashes are, if each has one. */
export interface RowsEvidence {
  readonly rows: number;
  readonly hash?: string | undefined;
}

export function evidenceOf(parts: readonly RowsEvidence[]): RowsEvidence {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const hashes = parts.flatMap(({ hash }) => hash ?? []);
  return hashes.length < parts.length ? { rows } : { rows, hash: sumOfHashes(hashes) };
}

export function serialiseContents(contents: ArchiveContents): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(contentsSchema.parse(contents))}\n`);
}

/** Error: `repository-damaged`, naming the key. */
export function parseContents(bytes: Uint8Array, key: string): ArchiveContents {
  try {
    return contentsSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new PgarkError('repository-damaged', `${key} is no list of the contents of a backup`, { cause });
  }
}
