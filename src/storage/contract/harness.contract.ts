import { createHash } from 'node:crypto';
import { BLOCK_BYTES, type ByteStream, KIB, MIB } from '../../common/bytes.ts';
import type { ObjectInfo, ObjectStore, UploadInfo } from '../object-store.ts';

/** A store to try, alone in a place that nothing else uses. */
export interface StoreUnderTest {
  readonly store: ObjectStore;
  /** Another client of the same place, as another process would have it. */
  reopen?(): Promise<ObjectStore>;
  /** Removes the place with all that is in it. */
  dispose(): Promise<void>;
}

/** What differs between stores by nature. */
export interface ContractOptions {
  /** Objects to list: more than one page of the store's. Default: 1,100. */
  readonly pageObjects?: number;
  /** Size of the parts that the store makes of a stream of unknown length; its boundaries are tried. Default: 8 MiB. */
  readonly partBytes?: number;
  /** User metadata is kept and comes back from `head` and `get`. Default: true. */
  readonly keepsMetadata?: boolean;
  /** What `probe` has to find out; conditions are tried only where they work. Default: true. */
  readonly conditionalWrites?: boolean;
  /** A name taken while the stream still runs is found out in the last step. Default: true. */
  readonly findsLateCollision?: boolean;
  /** Names that differ only in Unicode's composition are different objects. Default: true. */
  readonly keepsCompositionApart?: boolean;
  /** Each awkward name is tried alone, in every call; else all of them side by side only. Default: true. */
  readonly namesOneByOne?: boolean;
}

/** What each part of the suite is given. */
export interface ContractContext {
  readonly options: Required<ContractOptions>;
  readonly store: ObjectStore;
  /** Another client of the same place, or the same where there is only one. */
  readonly other: ObjectStore;
  /** A folder (`name/`) that no other test uses. */
  folder(): string;
}

/** Bytes in which every 4-byte word is different, so that a swapped, missing or repeated part shows. */
export function distinctBytes(count: number, seed = 0): Uint8Array {
  const words = new Uint32Array(Math.ceil(count / 4));
  for (let index = 0; index < words.length; index += 1) words[index] = Math.imul(index + 1, 0x9e3779b1) ^ seed;
  return new Uint8Array(words.buffer, 0, count);
}

/** The bytes as a stream whose blocks are the store's own to keep or to overwrite. */
export async function* streamOf(bytes: Uint8Array, chunkBytes = BLOCK_BYTES): ByteStream {
  for (let start = 0; start < bytes.length; start += chunkBytes) yield bytes.slice(start, start + chunkBytes);
}

/** A stream that first gives the bytes, then does as told, then ends: for looks at a store while a put is in progress. */
export async function* streamThen(bytes: Uint8Array, action: () => Promise<void>): ByteStream {
  yield* streamOf(bytes, 256 * KIB);
  await action();
}

/** Reads all blocks before it looks at any, so that memory used twice by the store shows. */
export async function readAll(body: ByteStream): Promise<Uint8Array> {
  const blocks: Uint8Array[] = [];
  for await (const block of body) blocks.push(block);
  return Buffer.concat(blocks);
}

export async function readObject(store: ObjectStore, key: string): Promise<Uint8Array> {
  const { body } = await store.get(key);
  return readAll(body);
}

/** A digest instead of megabytes in an assertion's message. */
export function digestOf(bytes: Uint8Array): string {
  return `${bytes.length} bytes, sha256 ${createHash('sha256').update(bytes).digest('hex')}`;
}

export const textBytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
export const bytesText = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

export async function listKeys(store: ObjectStore, prefix: string, startAfter?: string): Promise<string[]> {
  const infos: ObjectInfo[] = [];
  for await (const info of store.list(prefix, startAfter === undefined ? {} : { startAfter })) infos.push(info);
  return infos.map((info) => info.key);
}

export async function uploadsOf(store: ObjectStore, prefix: string): Promise<UploadInfo[]> {
  const uploads: UploadInfo[] = [];
  for await (const upload of store.listUploads(prefix)) uploads.push(upload);
  return uploads;
}

/** Runs the tasks, at the most so many at a time. */
export async function inParallel(tasks: readonly (() => Promise<unknown>)[], limit = 16): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let task = tasks[next++]; task !== undefined; task = tasks[next++]) await task();
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

/** More than two parts, so that an upload is surely open while the stream runs. */
export const multiPartBytes = (partBytes: number): number => 2 * partBytes + MIB + 7;
