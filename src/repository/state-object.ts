import type { z } from 'zod';
import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import {
  SMALL_OBJECT_BYTES_MAX,
  type CallOptions,
  type ObjectKey,
  type ObjectStore,
  type PutSmallOptions,
} from '../storage/object-store.ts';
import { refuseHigherLayout } from './manifest.ts';

/** One of pgark's own JSON objects as it was read. */
export interface StateObject<T> {
  readonly value: T;
  /** What `ifMatch` wants, to replace exactly this one. */
  readonly etag: string;
}

/**
 * Reads a state object strictly; undefined if there is none. Errors, both naming the key: `repository-unknown-layout`
 * for one of a newer version, `repository-damaged` for anything else that the schema does not know.
 */
export async function readState<T>(
  store: ObjectStore,
  key: ObjectKey,
  schema: z.ZodType<T>,
  options: CallOptions = {},
): Promise<StateObject<T> | undefined> {
  const found = await readStateBytes(store, key, options);
  if (found === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(found.bytes));
  } catch (error) {
    throw damaged(store, key, `it is no JSON (${messageOf(error)})`, error);
  }
  refuseHigherLayout(value, key);
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const place = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
    throw damaged(store, key, `${place}${issue?.message ?? 'it is not what pgark writes'}`, parsed.error);
  }
  return { value: parsed.data, etag: found.etag };
}

/**
 * Writes a state object and returns its etag. If the condition fails, the object is read back: when it holds the very
 * bytes that were to be written, an earlier attempt had arrived although its answer was lost, and the write has
 * succeeded. Conditional values must therefore be unique (a token, a counter). Error: `store-condition-failed`.
 */
export async function writeState(
  store: ObjectStore,
  key: ObjectKey,
  value: object,
  options: CallOptions & Pick<PutSmallOptions, 'condition' | 'isLasting'> = {},
): Promise<string> {
  const bytes = new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`);
  try {
    return (await store.putSmall(key, bytes, { ...options, contentType: 'application/json' })).etag;
  } catch (error) {
    if (!isPgarkError(error, 'store-condition-failed')) throw error;
    const found = await readStateBytes(store, key, options);
    if (found === undefined || Buffer.compare(found.bytes, bytes) !== 0) throw error;
    return found.etag;
  }
}

/** The bytes of a state object as they are; undefined if there is none. Error: `repository-damaged` if they are too many. */
export async function readStateBytes(
  store: ObjectStore,
  key: ObjectKey,
  { signal }: CallOptions,
): Promise<{ readonly bytes: Uint8Array; readonly etag: string } | undefined> {
  try {
    const { info, body } = await store.get(key, signal ? { signal } : {});
    if (info.bytes > SMALL_OBJECT_BYTES_MAX) throw damaged(store, key, `${info.bytes} bytes are too many`);
    const chunks: Uint8Array[] = [];
    for await (const chunk of body) chunks.push(chunk);
    return { bytes: Buffer.concat(chunks), etag: info.etag };
  } catch (error) {
    if (isPgarkError(error, 'object-not-found')) return undefined;
    throw error;
  }
}

function damaged(store: ObjectStore, key: ObjectKey, why: string, cause?: unknown): PgarkError {
  return new PgarkError('repository-damaged', `${key} in ${store.location} cannot be read: ${why}`, {
    hint: 'look at the object; if no pgark is at work, remove it and run the command again',
    cause,
  });
}
