import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../common/error-table.ts';
import { isAmbiguous, isTransient, type S3Attempt, storeError } from './failures.ts';

const attempt: S3Attempt = { action: 's3:PutObject', bucket: 'backups', host: 's3.example.org', key: 'prod/shop/a' };

/** As the SDK throws it: the code as the error's name, the status beside, and the signed request within. */
function sdkError(name: string, status?: number, message = 'UnknownError'): Error {
  const error = Object.assign(new Error(message), {
    $response: { headers: { authorization: 'AWS4-HMAC-SHA256 Signature=abcdef' } },
    $metadata: status === undefined ? {} : { httpStatusCode: status },
  });
  error.name = name;
  return error;
}
const systemError = (code: string): Error => Object.assign(new Error(`connect ${code} 10.0.0.1:443`), { code });

describe('a failure of the store', () => {
  test.each<[string, Error, ErrorCode, boolean]>([
    ['a missing bucket', sdkError('NoSuchBucket', 404), 'store-bucket-missing', false],
    ['an unknown access key', sdkError('InvalidAccessKeyId', 403), 'store-credentials-rejected', false],
    ['a wrong secret key', sdkError('SignatureDoesNotMatch', 403), 'store-credentials-rejected', false],
    ['an expired token', sdkError('ExpiredToken', 400), 'store-credentials-rejected', false],
    ['no credentials at all', sdkError('CredentialsProviderError'), 'store-credentials-rejected', false],
    ['a clock that is off', sdkError('RequestTimeTooSkewed', 403), 'store-credentials-rejected', true],
    ['a right that is missing', sdkError('AccessDenied', 403), 'store-access-denied', false],
    ['a HEAD that is refused without a word', sdkError('Unknown', 403), 'store-access-denied', false],
    ['a quota that is used up', sdkError('QuotaExceeded', 403), 'store-full', false],
    ['a disk that is full', sdkError('Unknown', 507), 'store-full', false],
    ['a condition that does not hold', sdkError('PreconditionFailed', 412), 'store-condition-failed', false],
    ['a write at the same moment', sdkError('ConditionalRequestConflict', 409), 'store-condition-failed', true],
    ['a write in between, as Ceph has it', sdkError('ConcurrentModification', 409), 'store-condition-failed', true],
    ['an object that is not there', sdkError('NoSuchKey', 404), 'object-not-found', false],
    ['a damaged body', sdkError('BadDigest', 400), 'store-integrity', true],
    ['a store under load', sdkError('SlowDown', 503), 'store-unreachable', true],
    ['an internal error', sdkError('InternalError', 500), 'store-unreachable', true],
    ['a gateway’s error page', sdkError('SyntaxError', 502), 'store-unreachable', true],
    ['a connection reset', systemError('ECONNRESET'), 'store-unreachable', true],
    ['nobody at the port', systemError('ECONNREFUSED'), 'store-unreachable', true],
    ['a name that is not resolved', systemError('ENOTFOUND'), 'store-unreachable', true],
    ['a broken pipe', systemError('EPIPE'), 'store-unreachable', true],
    ['a time-out', sdkError('TimeoutError'), 'store-unreachable', true],
    ['a certificate that is not trusted', systemError('SELF_SIGNED_CERT_IN_CHAIN'), 'store-unreachable', false],
    ['another region', sdkError('PermanentRedirect', 301), 'storage-config-invalid', false],
    ['something that is not built', sdkError('NotImplemented', 501), 'store-failed', false],
    ['anything else', sdkError('EntityTooSmall', 400), 'store-failed', false],
    ['an upload that is gone', sdkError('NoSuchUpload', 404), 'store-failed', false],
  ])('as %s is told by its own code', (_title, error, code, retryable) => {
    const told = storeError(error, attempt);
    expect(told.code).toBe(code);
    expect(isTransient(error)).toBe(retryable);
    expect(inspect(told, { depth: 10 })).not.toContain('Signature=');
  });

  test('carries the store’s code, its words and the place', () => {
    const told = storeError(sdkError('EntityTooSmall', 400, 'Your proposed upload is smaller than allowed'), attempt);
    expect(told.message).toBe(
      'writing prod/shop/a at s3.example.org failed: EntityTooSmall: Your proposed upload is smaller than allowed (400)',
    );
    expect(told.details).toEqual({ storeCode: 'EntityTooSmall', status: 400 });
  });

  test('for a missing right names it and what to grant it on', () => {
    expect(storeError(sdkError('AccessDenied', 403), attempt)).toMatchObject({
      message: 's3:PutObject on prod/shop/a at s3.example.org is not allowed: AccessDenied (403)',
      hint: 'grant s3:PutObject on arn:aws:s3:::backups/prod/*',
    });
    expect(storeError(sdkError('AccessDenied', 403), { ...attempt, locks: true })).toMatchObject({
      hint: 'grant s3:PutObject on arn:aws:s3:::backups/prod/*, and s3:PutObjectRetention, which object_lock needs',
    });
    expect(
      storeError(sdkError('AccessDenied', 403), { ...attempt, action: 's3:ListBucket', key: undefined }),
    ).toMatchObject({
      hint: 'grant s3:ListBucket on arn:aws:s3:::backups',
    });
  });

  test('for a clock that is off says by how much', () => {
    const told = storeError(sdkError('RequestTimeTooSkewed', 403), { ...attempt, clockSkewMs: -1_200_000 });
    expect(told.message).toContain('the clock of this machine is 1200 s ahead of the store’s');
  });

  test('leaves the outcome open only where the request may have been carried out', () => {
    expect(isAmbiguous(systemError('ECONNRESET'))).toBe(true);
    expect(isAmbiguous(sdkError('TimeoutError'))).toBe(true);
    expect(isAmbiguous(sdkError('InternalError', 500))).toBe(true);
    expect(isAmbiguous(sdkError('SyntaxError', 200))).toBe(true);
    expect(isAmbiguous(systemError('ECONNREFUSED'))).toBe(false);
    expect(isAmbiguous(sdkError('AccessDenied', 403))).toBe(false);
    expect(isAmbiguous(sdkError('PreconditionFailed', 412))).toBe(false);
  });
});
