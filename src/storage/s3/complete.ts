import { CompleteMultipartUploadCommand } from '@aws-sdk/client-s3';
import { PgarkError } from '../../common/errors.ts';
import { abandonUpload, cleaningUp, ownObject, removeOwnObject } from './abandon.ts';
import type { S3Calls } from './calls.ts';
import { isAmbiguous, isConditionFailed, isTransient, isUploadGone } from './failures.ts';
import type { OpenUpload, SentPart } from './parts.ts';
import type { S3Profile } from './profile.ts';
import { headObject, type ObjectHead } from './small-objects.ts';
import { bareEtag, compositeEtag } from './wire.ts';

/**
 * CompleteMultipartUpload, and what the store then says of the object. An answer that leaves open whether the object now
 * stands (none, a failure of the server, an error inside a 200, an upload that is suddenly gone) is settled by looking.
 * Rejects only after the upload is aborted and no object of it stands.
 */
export async function completeUpload(
  calls: S3Calls,
  upload: OpenUpload,
  parts: readonly SentPart[],
  options: { readonly profile: S3Profile; readonly bytes: number; readonly signal: AbortSignal },
): Promise<ObjectHead> {
  let head: ObjectHead;
  try {
    if (!options.profile.completesIfAbsent) await assertAbsent(calls, upload.key, options.signal);
    head = await complete(calls, upload, parts, options);
  } catch (error) {
    const settled = await settleFailed(calls, upload);
    if (settled === undefined || options.signal.aborted) {
      if (settled !== undefined) await removeOwnObject(calls, upload.key, upload.writeId);
      throw error;
    }
    head = settled;
  }
  const fault = faultOf(head, parts, options);
  if (fault === undefined) return head;
  await removeOwnObject(calls, upload.key, upload.writeId);
  throw new PgarkError('store-integrity', `${upload.key} is not what was sent, and was removed: ${fault}`);
}

/** Rejects with `object-exists` if the name is taken. */
export async function assertAbsent(calls: S3Calls, key: string, signal: AbortSignal): Promise<void> {
  if ((await headObject(calls, key, signal)) !== undefined) throw objectExists(calls, key);
}

export function objectExists(calls: S3Calls, key: string): PgarkError {
  return new PgarkError('object-exists', `${key} is already in bucket ${calls.bucket}`);
}

async function complete(
  calls: S3Calls,
  upload: OpenUpload,
  parts: readonly SentPart[],
  options: { readonly profile: S3Profile; readonly signal: AbortSignal },
): Promise<ObjectHead> {
  const { profile, signal } = options;
  const request = { action: 's3:PutObject', key: upload.key, signal } as const;
  let doubtful = false;
  const attempt = async (): Promise<ObjectHead> => {
    try {
      await calls.once(request, (client, callOptions) =>
        client.send(
          new CompleteMultipartUploadCommand({
            Bucket: calls.bucket,
            Key: upload.key,
            UploadId: upload.uploadId,
            MultipartUpload: { Parts: [...parts] },
            ...(profile.completesIfAbsent ? { IfNoneMatch: '*' } : {}),
          }),
          callOptions,
        ),
      );
    } catch (error) {
      if (isAmbiguous(error)) doubtful = true;
      // After an attempt without an answer, "gone" and "taken" may be that attempt's own work.
      if (!doubtful || !(isAmbiguous(error) || isConditionFailed(error) || isUploadGone(error))) throw error;
      const own = await ownObject(calls, upload.key, upload.writeId, signal);
      if (own !== undefined) return own;
      throw error;
    }
    const head = await headObject(calls, upload.key, signal);
    if (head === undefined) throw new NotYetVisible(upload.key);
    return head;
  };
  const isRetryable = (error: unknown): boolean =>
    isTransient(error) || error instanceof NotYetVisible || (doubtful && (isAmbiguous(error) || isUploadGone(error)));
  return calls.wording(request, async () => {
    try {
      return await calls.retrying(request, attempt, isRetryable);
    } catch (error) {
      if (isConditionFailed(error)) throw objectExists(calls, upload.key);
      if (error instanceof NotYetVisible) throw new PgarkError('store-integrity', error.message);
      throw error;
    }
  });
}

/** The store said that the object is complete, and does not show it. */
class NotYetVisible extends Error {
  constructor(key: string) {
    super(`the store confirmed ${key} and does not have it`);
  }
}

/**
 * After a Complete that failed: the abort is the fence after which no late Complete can make the object appear; what is
 * there then is the outcome.
 */
async function settleFailed(calls: S3Calls, upload: OpenUpload): Promise<ObjectHead | undefined> {
  await abandonUpload(calls, upload);
  const what = { event: 'store.settle-failed', message: `the outcome of ${upload.key} is unknown`, key: upload.key };
  return cleaningUp(calls, what, (signal) => ownObject(calls, upload.key, upload.writeId, signal));
}

function faultOf(
  head: ObjectHead,
  parts: readonly SentPart[],
  { profile, bytes }: { readonly profile: S3Profile; readonly bytes: number },
): string | undefined {
  if (head.bytes !== bytes) return `${bytes} bytes were sent, the store has ${head.bytes}`;
  const expected = profile.etagIsComposite ? compositeEtag(parts.map((part) => bareEtag(part.ETag))) : undefined;
  if (expected === undefined || head.etag === expected) return undefined;
  return `its etag should be ${expected} by its parts, and is ${head.etag}`;
}
