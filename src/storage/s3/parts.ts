import { UploadPartCommand } from '@aws-sdk/client-s3';
import { PgarkError } from '../../common/errors.ts';
import type { S3Calls } from './calls.ts';
import { withBodyDigest } from './client.ts';
import { isTransient } from './failures.ts';
import type { S3Profile } from './profile.ts';
import { bareEtag, md5Base64, md5Hex, type PartDigest } from './wire.ts';

/** An upload that is open at the store. */
export interface OpenUpload {
  /** Full key in the bucket. */
  readonly key: string;
  readonly uploadId: string;
  /** The mark in the object's metadata by which it is known to be this upload's. */
  readonly writeId: string;
}

/** A part as the store has confirmed it, as CompleteMultipartUpload wants it. */
export interface SentPart {
  readonly PartNumber: number;
  readonly ETag: string;
  readonly ChecksumCRC32?: string;
}

/** The store's answer to a part does not fit what was sent. Sent again, it may. */
class PartMismatch extends Error {}

/**
 * Sends one part until the store confirms its content by the checksum that the profile names. Bytes must not change until
 * this has settled.
 */
export async function sendPart(
  calls: S3Calls,
  upload: OpenUpload,
  part: {
    readonly partNumber: number;
    readonly bytes: Uint8Array;
    readonly digest: PartDigest;
    readonly checksum: S3Profile['partChecksum'];
    readonly signal: AbortSignal;
  },
): Promise<SentPart> {
  const { partNumber, bytes, signal } = part;
  const request = { action: 's3:PutObject', key: upload.key, signal } as const;
  const crc32 = part.checksum === 'crc32' ? part.digest.crc32Base64 : undefined;
  const md5 = part.checksum === 'md5' ? md5Hex(bytes) : undefined;
  // Buckets with Object Lock take nothing without one or the other.
  const checksum = crc32 === undefined ? { ContentMD5: md5Base64(bytes) } : { ChecksumCRC32: crc32 };

  const attempt = async (count: number): Promise<SentPart> => {
    if (count > 1) await calls.beforeResending?.(bytes.byteLength, signal);
    const output = await calls.once(request, (client, options) =>
      client.send(
        withBodyDigest(
          new UploadPartCommand({
            Bucket: calls.bucket,
            Key: upload.key,
            UploadId: upload.uploadId,
            PartNumber: partNumber,
            Body: bytes,
            ContentLength: bytes.byteLength,
            ...checksum,
          }),
          part.digest.sha256Hex,
        ),
        options,
      ),
    );
    if (output.ETag === undefined) throw new PartMismatch('the store told no etag');
    if (crc32 !== undefined && output.ChecksumCRC32 !== crc32) {
      throw new PartMismatch(`its CRC-32 is ${crc32}, the store has ${output.ChecksumCRC32 ?? 'none'}`);
    }
    if (md5 !== undefined && bareEtag(output.ETag) !== md5) {
      throw new PartMismatch(`its MD5 is ${md5}, the store has ${bareEtag(output.ETag)}`);
    }
    return { PartNumber: partNumber, ETag: output.ETag, ...(crc32 === undefined ? {} : { ChecksumCRC32: crc32 }) };
  };
  return calls.wording(request, async () => {
    try {
      return await calls.retrying(request, attempt, (error) => error instanceof PartMismatch || isTransient(error));
    } catch (error) {
      if (!(error instanceof PartMismatch)) throw error;
      throw new PgarkError('store-integrity', `part ${partNumber} of ${upload.key} arrived damaged: ${error.message}`);
    }
  });
}
