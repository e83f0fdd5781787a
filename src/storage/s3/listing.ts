import { AbortMultipartUploadCommand, ListMultipartUploadsCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { PgarkError } from '../../common/errors.ts';
import { compareKeys } from '../keys.ts';
import type { ObjectInfo, UploadInfo } from '../object-store.ts';
import type { S3Calls } from './calls.ts';
import { isUploadGone, notS3 } from './failures.ts';
import { bareEtag, decodeListedKey } from './wire.ts';

/** All objects whose full key begins with `prefix`, page by page, ascending by the bytes of the key. */
export async function* listObjects(
  calls: S3Calls,
  prefix: string,
  options: {
    readonly startAfter?: string | undefined;
    readonly signal?: AbortSignal | undefined;
    readonly pageKeysMax?: number;
  },
): AsyncGenerator<ObjectInfo> {
  const request = { action: 's3:ListBucket', signal: options.signal } as const;
  let token: string | undefined;
  let previous: string | undefined;
  do {
    const page = await calls.run(request, (client, callOptions) =>
      client.send(
        new ListObjectsV2Command({
          Bucket: calls.bucket,
          Prefix: prefix,
          EncodingType: 'url',
          ...(options.pageKeysMax === undefined ? {} : { MaxKeys: options.pageKeysMax }),
          ...(token === undefined ? {} : { ContinuationToken: token }),
          ...(options.startAfter === undefined || token !== undefined ? {} : { StartAfter: options.startAfter }),
        }),
        callOptions,
      ),
    );
    assertListing(calls, page);
    const encoded = page.EncodingType === 'url';
    for (const object of page.Contents ?? []) {
      options.signal?.throwIfAborted();
      const key = encoded ? decodeListedKey(object.Key ?? '') : (object.Key ?? '');
      if (!key.startsWith(prefix)) continue;
      assertAscending(calls, previous, key);
      previous = key;
      if (options.startAfter !== undefined && compareKeys(key, options.startAfter) <= 0) continue;
      yield { key, bytes: object.Size ?? 0, modified: object.LastModified ?? new Date(0), etag: bareEtag(object.ETag) };
    }
    token = nextToken(calls, page.IsTruncated === true, page.NextContinuationToken, token);
  } while (token !== undefined);
}

export interface ListedUpload extends UploadInfo {
  /** When it was opened, by the store's clock; some stores do not tell. */
  readonly initiated: Date | undefined;
}

/**
 * Uploads under the prefix that were neither completed nor aborted. Without `EncodingType`: Ceph encodes the keys then,
 * and neither says so nor encodes the marker.
 */
export async function* listUploads(calls: S3Calls, prefix: string, signal?: AbortSignal): AsyncGenerator<ListedUpload> {
  const request = { action: 's3:ListBucketMultipartUploads', signal } as const;
  let marker: { readonly key: string; readonly uploadId: string | undefined } | undefined;
  for (;;) {
    const page = await calls.run(request, (client, options) =>
      client.send(
        new ListMultipartUploadsCommand({
          Bucket: calls.bucket,
          Prefix: prefix,
          ...(marker === undefined ? {} : { KeyMarker: marker.key }),
          ...(marker?.uploadId === undefined ? {} : { UploadIdMarker: marker.uploadId }),
        }),
        options,
      ),
    );
    for (const { Key: key, UploadId: uploadId, Initiated: initiated } of page.Uploads ?? []) {
      if (key?.startsWith(prefix) && uploadId !== undefined) yield { key, uploadId, initiated };
    }
    const key = page.IsTruncated === true ? page.NextKeyMarker : undefined;
    if (key === undefined) return;
    if (marker?.key === key && marker.uploadId === page.NextUploadIdMarker) throw stuck(calls);
    marker = { key, uploadId: page.NextUploadIdMarker };
  }
}

/** Aborting what is not there succeeds. */
export async function abortUpload(calls: S3Calls, upload: UploadInfo, signal?: AbortSignal): Promise<void> {
  const request = { action: 's3:AbortMultipartUpload', key: upload.key, signal } as const;
  await calls.wording(request, async () => {
    try {
      await calls.retrying(request, () =>
        calls.once(request, (client, options) =>
          client.send(
            new AbortMultipartUploadCommand({ Bucket: calls.bucket, Key: upload.key, UploadId: upload.uploadId }),
            options,
          ),
        ),
      );
    } catch (error) {
      if (!isUploadGone(error)) throw error;
    }
  });
}

/** Every S3 store names the bucket in its listing; what is no listing reads as an empty one otherwise. */
export function assertListing(calls: S3Calls, page: { readonly Name?: string | undefined }): void {
  if (page.Name === undefined) throw notS3(calls.host, `its answer is no listing of bucket ${calls.bucket}`);
}

/** What is newest is found by order: a store that does not keep it must not be believed in silence. */
function assertAscending(calls: S3Calls, previous: string | undefined, key: string): void {
  if (previous === undefined || compareKeys(previous, key) < 0) return;
  throw new PgarkError(
    'store-unsupported',
    `${calls.host} lists ${key} after ${previous}: not in the order that S3 promises`,
  );
}

function nextToken(
  calls: S3Calls,
  truncated: boolean,
  next: string | undefined,
  token: string | undefined,
): string | undefined {
  if (!truncated) return undefined;
  if (next === undefined || next === token) throw stuck(calls);
  return next;
}

function stuck(calls: S3Calls): PgarkError {
  return new PgarkError('store-unsupported', `${calls.host} says that its listing goes on, but not where`);
}
