import { z } from 'zod';
import { PgarkError } from '../common/errors.ts';
import { isBackupId, type BackupId, kindOfId } from './ids.ts';

/** The layout that this version writes, and the highest it reads. */
export const LAYOUT = 1;
/** Which release reads which layout; a higher one is refused with this release's name in the sentence. */
const MANIFEST_BYTES_MAX = 64 * 1024 * 1024;

const bytesCount = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const time = z.iso.datetime();
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);
const decimal = z.string().regex(/^\d+$/);

/** Roles of objects whose files are listed with a digest of each. */
const LISTED_FILE_BY_FILE: ReadonlySet<string> = new Set(['base', 'tablespace']);

/** One data object: of a backup, or of globals. */
export const storedObject = z
  .object({
    key: z.string().min(1),
    /** What the object is in its format: `dump`, `toc`, `data`, `base`, `tablespace`, `backup_manifest` … */
    role: z.string().min(1),
    storedBytes: bytesCount,
    storedSha256: sha256,
    /** Before compression and encryption. */
    plainBytes: bytesCount,
    /** Missing where the backup_manifest has a digest of each file inside: of the archives of base backups. */
    plainSha256: sha256.optional(),
    /** The store's own tag at commit: a change since then shows without reading the object. */
    etag: z.string().optional(),
    /** How the store confirmed the content: `crc32`, `md5`, `sha256`, `fsync`, `length`. */
    confirmedBy: z.string().optional(),
    /** For a piece of a table: which table and which range of it. */
    piece: z.object({ table: z.string(), range: z.string().optional() }).optional(),
  })
  .refine(({ role, plainSha256 }) => plainSha256 !== undefined || LISTED_FILE_BY_FILE.has(role), {
    path: ['plainSha256'],
    error: 'is missing',
  });

/** What a dump of the content does not hold; backups of earlier versions have none. */
const properties = z.object({
  /** Without `role`, of the database; else of the role in the database. */
  settings: z.array(z.object({ role: z.string().optional(), name: z.string(), value: z.string() })).default([]),
  /** Missing: as PostgreSQL gives them. Without `grantee`, of PUBLIC. */
  grants: z
    .array(z.object({ grantee: z.string().optional(), privilege: z.string(), grantable: z.boolean() }))
    .optional(),
  comment: z.string().optional(),
  /** -1 is none. */
  connectionLimit: z.number().int(),
  isTemplate: z.boolean(),
  tablespace: z.string(),
  /** What there is and was not written down, since the backup is encrypted: `settings`, `comment`. */
  leftOut: z.array(z.string()).default([]),
});

const database = z.object({
  name: z.string().min(1),
  /** An unsigned 32-bit number; text, as all of PostgreSQL's identifiers here. */
  oid: decimal,
  owner: z.string(),
  encoding: z.string(),
  collation: z.string(),
  ctype: z.string(),
  /** `libc`, `icu` or `builtin`; `libc` before PostgreSQL 15. */
  localeProvider: z.string(),
  locale: z.string().optional(),
  icuRules: z.string().optional(),
  collationVersion: z.string().optional(),
  bytes: bytesCount,
  properties: properties.optional(),
});

export const serverRecord = z.object({
  host: z.string(),
  port: z.number().int(),
  /** As `SHOW server_version` says it: `15.18 (Debian 15.18-0+deb12u1)`. */
  version: z.string(),
  versionNum: z.number().int(),
  /** Beyond 2^53, therefore text. Missing where the role may not ask for it. */
  systemIdentifier: decimal.optional(),
  inRecovery: z.boolean(),
  /** By which text was sorted: `glibc 2.36`, `musl`. Missing where nothing tells, and in backups of earlier versions. */
  libc: z.string().optional(),
  icu: z.string().optional(),
});

export const compressionRecord = z.object({
  algorithm: z.enum(['none', 'gzip', 'zstd', 'lz4']),
  level: z.number().int(),
});

export const encryptionRecord = z.object({
  scheme: z.enum(['age', 'openssl']),
  keyFingerprints: z.array(z.string()),
  iterations: z.number().int().positive().optional(),
});

const manifestSchema = z.object({
  layout: z.literal(LAYOUT),
  id: z.string().refine(isBackupId, 'is no backup id') as unknown as z.ZodType<BackupId>,
  format: z.enum(['plain', 'directory', 'physical']),
  source: z.string().min(1),
  database,
  server: serverRecord,
  client: z.object({ program: z.string(), version: z.string() }),
  startedAt: time,
  endedAt: time,
  /** The store's own clock at the commit, beside `endedAt` of the host that wrote. */
  storeTime: time,
  runId: z.string(),
  objects: z.array(storedObject).min(1),
  /** Of all objects together, where most are listed by the one of role `contents`; else `objects` are all there are. */
  totals: z.object({ objects: bytesCount, storedBytes: bytesCount, plainBytes: bytesCount }).optional(),
  compression: compressionRecord,
  encryption: encryptionRecord.optional(),
  /** Ids of the backups that this one needs, nearest first. */
  parents: z.array(z.string().refine(isBackupId, 'is no backup id')).default([]),
  /** Of an incremental backup, whose `parents` it is merged with. */
  incremental: z
    .object({
      /** Size of the server's blocks, by which the changes are stored. */
      blockBytes: z.number().int().positive(),
      /** What its archives come to when they are merged, by the server's estimate: by oid of the tablespace, `base`. */
      mergedBytes: z.record(z.string(), bytesCount),
    })
    .optional(),
  timeline: z.number().int().positive().optional(),
  startLsn: lsn.optional(),
  stopLsn: lsn.optional(),
  /**
   * The first and the last segment of WAL without which a physical backup is none, and the size of all segments; of the history of
   * its timeline, which is archived as it is and says nothing of itself, the digest.
   */
  walNeeded: z
    .object({
      from: z.string(),
      to: z.string(),
      segmentBytes: bytesCount.optional(),
      historySha256: sha256.optional(),
    })
    .optional(),
  /** Of a physical backup: those beside the data directory, and where they were on the server. */
  tablespaces: z.array(z.object({ oid: decimal, location: z.string() })).optional(),
  /** What was left out on purpose, and what could not be read. With encryption on these lie in the companion. */
  excluded: z.array(z.string()).default([]),
  unreadable: z.array(z.string()).default([]),
  /** Of how many tables the rows could not be read, if of any: `unreadable` need not name them all. */
  unreadableCount: bytesCount.optional(),
  /** The encrypted object that holds whatever names tables, where encryption is on. */
  companion: storedObject.optional(),
  /** Nobody can delete it before, by the store's clock, where the storage is set to lock what is stored. */
  lockedUntil: time.optional(),
  /** Why its size is suspicious, if it was when it was made: by which rule of the configuration, in words. */
  suspicions: z.array(z.object({ rule: z.string(), message: z.string() })).optional(),
  evidence: z
    .object({ tables: z.array(z.object({ table: z.string(), rows: bytesCount, hash: z.string().optional() })) })
    .optional(),
  pgarkVersion: z.string(),
});

/** The record whose existence is the backup. JSON, `layout: 1`; unknown fields of later versions are ignored. */
export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestProperties = z.infer<typeof properties>;
export type ManifestObject = z.infer<typeof storedObject>;
export type Suspicion = NonNullable<Manifest['suspicions']>[number];

/** Backups that follow one another have the same: those of one kind, of one database of a source. */
export function seriesOf(manifest: Pick<Manifest, 'id' | 'source' | 'database'>): string {
  return JSON.stringify([manifest.source, manifest.database.name, kindOfId(manifest.id)]);
}

/** Oldest first, by the store's clock as retention goes: a machine that makes backups may have one that is ahead. */
export function byStoreTime(one: Manifest, other: Manifest): number {
  return (
    Date.parse(one.storeTime) - Date.parse(other.storeTime) ||
    Date.parse(one.endedAt) - Date.parse(other.endedAt) ||
    (one.id < other.id ? -1 : 1)
  );
}

/** What a backup takes and what it holds, all objects together. */
export function sizesOf(manifest: Manifest): { readonly storedBytes: number; readonly plainBytes: number } {
  if (manifest.totals !== undefined) return manifest.totals;
  const objects = manifest.companion ? [...manifest.objects, manifest.companion] : manifest.objects;
  return {
    storedBytes: objects.reduce((sum, object) => sum + object.storedBytes, 0),
    plainBytes: objects.reduce((sum, object) => sum + object.plainBytes, 0),
  };
}

/** Why it is suspicious, in one sentence; undefined for one that is not. */
export function describeSuspicions({ suspicions = [] }: Pick<Manifest, 'suspicions'>): string | undefined {
  return suspicions.length === 0 ? undefined : suspicions.map(({ message }) => message).join('; ');
}

export function serialiseManifest(manifest: Manifest): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(manifestSchema.parse(manifest), undefined, 2)}\n`);
}

/**
 * Reads a manifest strictly. Errors: `repository-unknown-layout` for one of a newer layout, `repository-damaged` for
 * anything else that is no manifest; both name the key.
 */
export function parseManifest(bytes: Uint8Array, key: string): Manifest {
  const damaged = (why: string, cause?: unknown): PgarkError =>
    new PgarkError('repository-damaged', `the manifest ${key} cannot be read: ${why}`, { cause });
  if (bytes.length > MANIFEST_BYTES_MAX) throw damaged(`${bytes.length} bytes are too many`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw damaged('it is no JSON', error);
  }
  refuseHigherLayout(value, key);
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) throw damaged(describeIssues(parsed.error), parsed.error);
  return parsed.data;
}

/** Refuses `{ layout: 2, pgarkVersion: '3.1.0' }` with a sentence that says which version reads it. */
export function refuseHigherLayout(value: unknown, key: string): void {
  if (typeof value !== 'object' || value === null || !('layout' in value)) return;
  const layout = value.layout;
  if (typeof layout !== 'number' || layout <= LAYOUT) return;
  const writer = 'pgarkVersion' in value && typeof value.pgarkVersion === 'string' ? value.pgarkVersion : undefined;
  throw new PgarkError(
    'repository-unknown-layout',
    `${key} has layout ${layout}; this version of pgark reads layouts up to ${LAYOUT}`,
    { hint: writer ? `use pgark ${writer} or newer, which wrote it` : 'use a newer version of pgark' },
  );
}

function describeIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.join('.') || 'the whole'}: ${issue.message}`)
    .join('; ');
}
