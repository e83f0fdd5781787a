import { AbortMultipartUploadCommand, ListPartsCommand } from '@aws-sdk/client-s3';
import { messageOf } from '../../common/errors.ts';
import { linkedAbort, type S3Calls } from './calls.ts';
import { failureOf, isUploadGone } from './failures.ts';
import { abortUpload, listUploads } from './listing.ts';
import type { OpenUpload } from './parts.ts';
import { deleteObject, headObject, type ObjectHead } from './small-objects.ts';

/** Cleaning up has a time of its own: the caller's signal has often been aborted already. */
const CLEAN_UP_MS = 30_000;
const ROUNDS_MAX = 5;
const ROUND_PAUSE_MS = 200;

/** Runs the action with a signal that ends it in time. What goes wrong is logged: the first failure is the one to tell. */
export async function cleaningUp<T>(
  calls: S3Calls,
  what: { readonly event: string; readonly message: string; readonly key: string; readonly uploadId?: string },
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const { controller: done } = linkedAbort(undefined);
  const { controller: deadline } = linkedAbort(undefined);
  const timer = calls.clock.sleep(CLEAN_UP_MS, done.signal).then(
    () => deadline.abort(new Error('the store did not answer in time')),
    () => {},
  );
  try {
    return await action(deadline.signal);
  } catch (error) {
    const { event, message, ...fields } = what;
    calls.logger.warning(event, `${message}: ${messageOf(error)}`, fields);
    return undefined;
  } finally {
    done.abort();
    await timer;
  }
}

/**
 * Aborts an upload whose put has failed, and looks that it is gone: a part that was still on its way may arrive after the
 * abort. Nothing of the upload must be in flight from here. Never rejects; what stays behind is found by `listUploads`.
 */
export async function abandonUpload(calls: S3Calls, upload: OpenUpload): Promise<void> {
  const what = {
    event: 'store.abort-failed',
    message: `the unfinished upload of ${upload.key} could not be removed`,
    key: upload.key,
    uploadId: upload.uploadId,
  };
  await cleaningUp(calls, what, async (signal) => {
    await abortUpload(calls, upload, signal);
    for (let round = 1; round <= ROUNDS_MAX; round += 1) {
      if (await isGone(calls, upload, signal)) return;
      await calls.clock.sleep(ROUND_PAUSE_MS * round, signal);
      await calls
        .once({ signal }, (client, options) =>
          client.send(
            new AbortMultipartUploadCommand({ Bucket: calls.bucket, Key: upload.key, UploadId: upload.uploadId }),
            options,
          ),
        )
        .catch((error: unknown) => {
          if (!isUploadGone(error)) throw error;
        });
    }
    throw new Error('the store still lists it after it was aborted');
  });
}

async function isGone(calls: S3Calls, upload: OpenUpload, signal: AbortSignal): Promise<boolean> {
  const request = { action: 's3:ListMultipartUploadParts', key: upload.key, signal } as const;
  try {
    await calls.retrying(request, () =>
      calls.once(request, (client, options) =>
        client.send(
          new ListPartsCommand({ Bucket: calls.bucket, Key: upload.key, UploadId: upload.uploadId, MaxParts: 1 }),
          options,
        ),
      ),
    );
    return false;
  } catch (error) {
    if (isUploadGone(error)) return true;
    const { status } = failureOf(error);
    // Who may not look, or whose store cannot, has to believe the abort's answer.
    if (status !== undefined && status >= 400 && (status < 500 || status === 501)) return true;
    throw error;
  }
}

/**
 * Removes what CreateMultipartUpload may have opened although it gave no answer: uploads of this very name, opened since,
 * that are not the one in use and have no part. Never rejects.
 */
export async function abandonUnanswered(
  calls: S3Calls,
  opening: { readonly key: string; readonly since: Date; readonly usedId: string | undefined },
): Promise<void> {
  const { key, since, usedId } = opening;
  const what = { event: 'store.abort-failed', message: `an upload of ${key} may have been left open`, key };
  await cleaningUp(calls, what, async (signal) => {
    for await (const upload of listUploads(calls, key, signal)) {
      const recent = upload.initiated !== undefined && upload.initiated >= since;
      if (upload.key !== key || upload.uploadId === usedId || !recent) continue;
      const parts = await calls.run({ action: 's3:ListMultipartUploadParts', key, signal }, (client, options) =>
        client.send(new ListPartsCommand({ Bucket: calls.bucket, Key: key, UploadId: upload.uploadId }), options),
      );
      if ((parts.Parts ?? []).length === 0) await abortUpload(calls, upload, signal);
    }
  });
}

/** The object, if it is there and was made by this very write. */
export async function ownObject(
  calls: S3Calls,
  key: string,
  writeId: string,
  signal?: AbortSignal,
): Promise<ObjectHead | undefined> {
  const head = await headObject(calls, key, signal);
  return head?.writeId === writeId ? head : undefined;
}

/** Removes the object of a put that must not stand. Only if it is that put's own. */
export async function removeOwnObject(calls: S3Calls, key: string, writeId: string): Promise<void> {
  const what = { event: 'store.remove-failed', message: `${key} must not be used, and could not be removed`, key };
  await cleaningUp(calls, what, async (signal) => {
    if ((await ownObject(calls, key, writeId, signal)) !== undefined) await deleteObject(calls, key, signal);
  });
}
