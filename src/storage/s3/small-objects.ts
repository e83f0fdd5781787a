import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { PgarkError } from '../../common/errors.ts';
import type { ObjectInfo, ObjectLock, WriteCondition } from '../object-store.ts';
import type { S3Calls } from './calls.ts';
import { failureOf, isAmbiguous, isConditionFailed, isNotFound, isTransient } from './failures.ts';
import { lockInput } from './lock.ts';
import { bareEtag, decodeMetadata, encodeMetadata, md5Base64, newWriteId, quotedEtag, WRITE_ID } from './wire.ts';

/** How the store wants the etag of an If-Match on PUT, as the probe found out. */
export type IfMatchStyle = 'quoted' | 'bare';

export interface SmallPut {
  /** Full key in the bucket. */
  readonly key: string;
  readonly body: Uint8Array;
  readonly condition?: WriteCondition | undefined;
  readonly ifMatchStyle: IfMatchStyle;
  readonly contentType?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** The mark of this write; a new one by default. */
  readonly writeId?: string | undefined;
  /** Sent along for the store to compare, and compared with what it answers. */
  readonly crc32?: string | undefined;
  readonly lock?: ObjectLock | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a HEAD tells, together with the mark of the write that made the object. */
export interface ObjectHead {
  readonly bytes: number;
  readonly etag: string;
  readonly modified: Date;
  readonly metadata: Readonly<Record<string, string>>;
  readonly writeId: string | undefined;
  /** Undefined: it is not locked, or this key may not know. */
  readonly lockedUntil?: Date | undefined;
}

export interface StoredPut {
  readonly etag: string;
  /** The store's own checksum, if it told one. */
  readonly crc32: string | undefined;
  readonly writeId: string;
}

/**
 * PutObject, and the etag of what it stored. Every write carries a mark of its own: when an attempt got no answer and the
 * next one is told that the condition does not hold, the mark says whether it was that first attempt which came through.
 */
export async function putObject(calls: S3Calls, put: SmallPut): Promise<StoredPut> {
  const { key, lock, signal } = put;
  const request = { action: 's3:PutObject', key, locks: lock !== undefined, signal } as const;
  const writeId = put.writeId ?? newWriteId(calls.random);
  let doubtful = false;
  const attempt = async (count: number): Promise<StoredPut> => {
    if (count > 1) await calls.beforeResending?.(put.body.byteLength, put.signal);
    try {
      const output = await calls.once(request, (client, options) =>
        client.send(new PutObjectCommand(putInput(calls, put, writeId)), options),
      );
      return { etag: bareEtag(output.ETag), crc32: output.ChecksumCRC32, writeId };
    } catch (error) {
      if (isAmbiguous(error)) doubtful = true;
      else if (!doubtful || !isConditionFailed(error)) throw error;
      const stored = await headObject(calls, put.key, put.signal).catch(() => undefined);
      put.signal?.throwIfAborted();
      if (stored?.writeId === writeId) return { etag: stored.etag, crc32: undefined, writeId };
      throw error;
    }
  };
  return calls.wording(request, async () => {
    try {
      return await calls.retrying(request, attempt);
    } catch (error) {
      // AWS and Ceph 20 say so where there is no object to match.
      if (put.condition === undefined || !isNotFound(error)) throw error;
      throw new PgarkError('store-condition-failed', `${put.key} is not there any more`);
    }
  });
}

function putInput(calls: S3Calls, put: SmallPut, writeId: string): ConstructorParameters<typeof PutObjectCommand>[0] {
  const { condition } = put;
  return {
    Bucket: calls.bucket,
    Key: put.key,
    Body: put.body,
    ContentLength: put.body.byteLength,
    // Buckets with Object Lock take nothing without it.
    ContentMD5: md5Base64(put.body),
    Metadata: { ...encodeMetadata(put.metadata ?? {}), [WRITE_ID]: writeId },
    ...lockInput(put.lock, calls),
    ...(put.crc32 === undefined ? {} : { ChecksumCRC32: put.crc32 }),
    ...(put.contentType === undefined ? {} : { ContentType: put.contentType }),
    ...(condition === undefined ? {} : conditionInput(condition, put.ifMatchStyle)),
  };
}

function conditionInput(condition: WriteCondition, style: IfMatchStyle): { IfNoneMatch?: string; IfMatch?: string } {
  if ('ifAbsent' in condition) return { IfNoneMatch: '*' };
  return { IfMatch: style === 'quoted' ? quotedEtag(condition.ifMatch) : condition.ifMatch };
}

/** Undefined if there is no such object. The bucket's own absence cannot be told from it (a HEAD's answer has no words). */
export async function headObject(calls: S3Calls, key: string, signal?: AbortSignal): Promise<ObjectHead | undefined> {
  const request = { action: 's3:GetObject', key, signal } as const;
  return calls.wording(request, async () => {
    try {
      const output = await calls.retrying(request, () =>
        calls.once(request, (client, options) =>
          client.send(new HeadObjectCommand({ Bucket: calls.bucket, Key: key }), options),
        ),
      );
      return headOf(output);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      if (failureOf(error).status === 403) await explainDenial(calls, key, signal);
      throw error;
    }
  });
}

function headOf(output: HeadObjectCommandOutput): ObjectHead {
  return {
    bytes: output.ContentLength ?? 0,
    etag: bareEtag(output.ETag),
    modified: output.LastModified ?? new Date(0),
    metadata: decodeMetadata(output.Metadata),
    writeId: output.Metadata?.[WRITE_ID],
    lockedUntil: output.ObjectLockRetainUntilDate,
  };
}

/** A refused HEAD does not say whether the key, the signature or a right is at fault; the same GET does. */
async function explainDenial(calls: S3Calls, key: string, signal: AbortSignal | undefined): Promise<void> {
  const request = { action: 's3:GetObject', key, signal } as const;
  await calls.once(request, async (client, options) => {
    const output = await client.send(
      new GetObjectCommand({ Bucket: calls.bucket, Key: key, Range: 'bytes=0-0' }),
      options,
    );
    await output.Body?.transformToByteArray();
  });
}

/** Rejects with `store-bucket-missing` where that is so; a bucket that may not be looked at counts as there. */
export async function assertBucketExists(calls: S3Calls, signal?: AbortSignal): Promise<void> {
  const request = { action: 's3:ListBucket', signal } as const;
  try {
    await calls.retrying(request, () =>
      calls.once(request, (client, options) => client.send(new HeadBucketCommand({ Bucket: calls.bucket }), options)),
    );
  } catch (error) {
    signal?.throwIfAborted();
    if (failureOf(error).status === 404) {
      throw new PgarkError('store-bucket-missing', `bucket ${calls.bucket} does not exist at ${calls.host}`);
    }
    if (isTransient(error)) throw calls.errorOf(error, request);
  }
}

/** Removing what is not there succeeds. */
export async function deleteObject(calls: S3Calls, key: string, signal?: AbortSignal): Promise<void> {
  const request = { action: 's3:DeleteObject', key, signal } as const;
  await calls.wording(request, async () => {
    try {
      await calls.retrying(request, () =>
        calls.once(request, (client, options) =>
          client.send(new DeleteObjectCommand({ Bucket: calls.bucket, Key: key }), options),
        ),
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  });
}

export function infoOf(key: string, head: ObjectHead): ObjectInfo {
  return { key, bytes: head.bytes, modified: head.modified, etag: head.etag, metadata: head.metadata };
}
