import type { ByteStream } from '../common/bytes.ts';
import { MIB } from '../common/bytes.ts';
import type { PgarkError } from '../common/errors.ts';

/**
 * Name of an object, relative to the store's root (the bucket and prefix, or the directory). Segments are separated by
 * `/`; none is empty, `.` or `..`; no control characters; at most `KEY_BYTES_MAX` bytes of UTF-8.
 */
export type ObjectKey = string;

export const KEY_BYTES_MAX = 1000;
/** Largest body of `putSmall`; state objects are far smaller. */
export const SMALL_OBJECT_BYTES_MAX = 8 * MIB;

export interface ObjectInfo {
  readonly key: ObjectKey;
  readonly bytes: number;
  readonly modified: Date;
  /** Changes whenever the object's content does; opaque. Comparable only within one store. */
  readonly etag: string;
  /** User metadata, lower-case names. Missing where the store keeps none (file) or did not send it (list). */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Bytes `start` to `end`, both included; `end` left out means to the last one. */
export interface ByteRange {
  readonly start: number;
  readonly end?: number;
}

/** A write that happens only if the object is as said; otherwise it rejects with `store-condition-failed`. */
export type WriteCondition = { readonly ifAbsent: true } | { readonly ifMatch: string };

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ListOptions extends CallOptions {
  /** Only keys that come after it. */
  readonly startAfter?: ObjectKey;
  /**
   * Called for a folder (with a slash at its end) or an object in a directory that this process may not look at: it is left out,
   * unless this throws. Default: the list rejects. For who shows people what is there; what was left out is not gone.
   */
  readonly onUnseen?: (path: string, error: PgarkError) => void;
}

export interface PutSmallOptions extends CallOptions {
  readonly condition?: WriteCondition;
  /**
   * Nobody writes over it, and only retention deletes it: a store that is set to lock objects locks it, as it does whatever is
   * streamed. Default: false, for what is written over and over.
   */
  readonly isLasting?: boolean;
  readonly contentType?: string;
}

export interface PutStreamOptions extends CallOptions {
  readonly contentType?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Upper estimate of the body's length; decides the part size. Unknown: the store's default growth. */
  readonly bytesEstimateMax?: number;
  /**
   * The caller knows that nothing lies under the key, and that nobody else writes there: it is not looked at before the first
   * byte. Default: false.
   */
  readonly nameIsFree?: boolean;
  /** How many bodies are put at the same time, or soon after one another, which share the memory for buffers. Default: 1. */
  readonly putsAtOnce?: number;
  /**
   * Called once an upload is open, before its first byte is sent, with what `abortUpload` needs to remove it. The put
   * goes on only after this resolves, so that a crash at any later time leaves a trace to sweep by. Not called where
   * the body was so small that one atomic request stored it.
   */
  readonly onUploadOpened?: (upload: UploadInfo) => Promise<void>;
  /** Bytes that the store has accepted so far, for progress. */
  readonly onBytesStored?: (bytesTotal: number) => void;
  /** Called while bytes wait, or have waited, for a limit of our own: that the store has not taken them is none of its fault. */
  readonly onHeldBack?: () => void;
}

export interface UploadInfo {
  readonly key: ObjectKey;
  readonly uploadId: string;
}

/** What the store has confirmed of a finished put. */
export interface StoredObject {
  readonly key: ObjectKey;
  /** Length as a HEAD after the end reported it; equal to what was sent. */
  readonly bytes: number;
  readonly etag: string;
  readonly partCount: number;
  /** How the store confirmed each part's content: a checksum it computed itself, or `length` where it offers none. */
  readonly confirmedBy: 'crc32' | 'md5' | 'sha1' | 'sha256' | 'fsync' | 'length';
}

export interface ObjectBody {
  readonly info: ObjectInfo;
  /** The bytes; throws `store-unreachable` or `corrupt` if fewer arrive than the object has. Read it once. */
  readonly body: ByteStream;
}

/** What the store can do, found out by trying. See docs/format.md, "Provider profile". */
export interface ProviderProfile {
  /** Racing conditional creates and updates have exactly one winner. Leases rely on it. */
  readonly conditionalWrites: boolean;
  /** Parts of one upload, at the most. */
  readonly partCountMax: number;
  readonly partBytesMin: number;
  /** All parts but the last must have the same size. */
  readonly equalParts: boolean;
  readonly partChecksum: StoredObject['confirmedBy'];
  /** Store's clock minus this machine's, in milliseconds. */
  readonly clockSkewMs: number;
  /** How the store is set to lock what is streamed, and what is lasting. Undefined: not at all. */
  readonly lock?: ObjectLock;
  /** Where it was asked for, and the store can have it: S3. */
  readonly protection?: BucketProtection;
}

/** For how long nobody can remove an object: with `governance`, nobody but who has a right of its own to. */
export interface ObjectLock {
  readonly mode: 'governance' | 'compliance';
  readonly days: number;
}

/** What keeps a bucket's objects from being lost to who may delete and write over them. Undefined: the store does not say. */
export interface BucketProtection {
  /** What is deleted or written over stays as an earlier version. */
  readonly versioning: 'on' | 'off' | undefined;
  /** Whether versions can be locked. */
  readonly objectLock: 'on' | 'off' | undefined;
  /** How the bucket locks, by itself, each version that is put. */
  readonly defaultLock?: ObjectLock;
}

export interface ProbeOptions extends CallOptions {
  /** Try CreateMultipartUpload + Abort (or its like): rejects with `store-access-denied` if it is not allowed. */
  readonly write?: boolean;
  /** Try a delete too: needed where retention is on. */
  readonly delete?: boolean;
  /** Ask for the profile's `protection` too. */
  readonly protection?: boolean;
  /** What was found out before will do: the store need not be asked whether it is still there. Default: false. */
  readonly asKnown?: boolean;
}

/**
 * Where backups lie. The contract, which `object-store.contract.ts` runs against every adapter:
 *
 * - An object is visible (to head, get, list) only when it is complete. A put that rejects leaves no object, no part, no
 *   upload behind; if the process dies in between, `listUploads` finds what is left.
 * - A put whose body throws is abandoned and rejects with the very error that was thrown.
 * - After a put resolved, head, get and list see it, from every process.
 * - `delete` and `abortUpload` are idempotent: removing what is not there succeeds.
 * - Who retries: the adapter's `put`s and `get`s retry each request or part by the store's retry policy, never the whole
 *   stream. Callers do not retry. A rejection is final: `PgarkError` with a `store-…` code that says what to do.
 * - An ambiguous answer (a write that timed out) is settled by reading back, never by hope.
 * - Every call ends promptly with the signal's reason when its signal is aborted.
 */
export interface ObjectStore {
  readonly kind: 'file' | 's3' | 'rclone';
  /** The place for people, without credentials: `s3://bucket/prefix`, `file:///backups`. */
  readonly location: string;

  /** Stores a small object in one atomic step and returns what it is now. Replaces an existing one unless `condition` says otherwise. */
  putSmall(key: ObjectKey, body: Uint8Array, options?: PutSmallOptions): Promise<ObjectInfo>;

  /**
   * Streams an object of unknown length, with memory bounded by part size × parts in flight. Rejects with
   * `object-exists` if there is an object of that name (checked before the first byte, and again in the last step where
   * the store can). Leaves the content of the blocks as it is: others may be reading them.
   */
  putStream(key: ObjectKey, body: ByteStream, options?: PutStreamOptions): Promise<StoredObject>;

  /** Rejects with `object-not-found`. A connection lost in mid-body is resumed by range, bound to the same etag. */
  get(key: ObjectKey, options?: CallOptions & { readonly range?: ByteRange }): Promise<ObjectBody>;

  /** Undefined if there is no such object. */
  head(key: ObjectKey, options?: CallOptions): Promise<ObjectInfo | undefined>;

  /** All objects whose key begins with `prefix`, all pages, ascending by the bytes of the key's UTF-8. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;

  delete(key: ObjectKey, options?: CallOptions): Promise<void>;

  /** Uploads that were opened under `prefix` and neither completed nor aborted, our own and those of others. */
  listUploads(prefix: string, options?: CallOptions): AsyncIterable<UploadInfo>;
  abortUpload(upload: UploadInfo, options?: CallOptions): Promise<void>;

  /** The store's own clock; leases expire by it. */
  now(options?: CallOptions): Promise<Date>;

  /** Finds out whether the store is there and what it can do. The profile is probed once and kept in memory. */
  probe(options?: ProbeOptions): Promise<ProviderProfile>;

  /** Frees connections. No other call follows. */
  close(): Promise<void>;
}
