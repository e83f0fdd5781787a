import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';

/** The rights of S3's access policies that pgark's requests need. */
export type S3Action =
  | 's3:PutObject'
  | 's3:GetObject'
  | 's3:DeleteObject'
  | 's3:ListBucket'
  | 's3:AbortMultipartUpload'
  | 's3:ListMultipartUploadParts'
  | 's3:ListBucketMultipartUploads'
  | 's3:PutObjectRetention'
  | 's3:GetBucketVersioning'
  | 's3:GetBucketObjectLockConfiguration';

/** What was tried, for the words of an error. */
export interface S3Attempt {
  readonly action: S3Action;
  readonly bucket: string;
  /** Host and port of the endpoint. */
  readonly host: string;
  /** Full key in the bucket; missing for requests about the bucket. */
  readonly key?: string | undefined;
  /** Whether it was to lock what it makes, which is another right. */
  readonly locks?: boolean | undefined;
  /** Store's clock minus this machine's, if a response has told it. */
  readonly clockSkewMs?: number | undefined;
}

/** What an error of the SDK tells, without its request (which carries signatures). */
export interface S3Failure {
  /** The store's code (`NoSuchBucket`), the operating system's (`ECONNRESET`), or the SDK's name of it. */
  readonly code: string;
  /** HTTP status; missing if there was no answer. */
  readonly status: number | undefined;
  readonly message: string;
}

const credentialCodes = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidToken',
  'InvalidSecurity',
  'TokenRefreshRequired',
  'CredentialsProviderError',
]);
const skewCodes = new Set(['RequestTimeTooSkewed', 'RequestExpired', 'RequestInTheFuture']);
const fullCodes = new Set([
  'QuotaExceeded',
  'EDQUOT',
  'ENOSPC',
  'InsufficientStorage',
  'XMinioStorageFull',
  'StorageFull',
]);
const integrityCodes = new Set([
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'InvalidDigest',
  'XAmzContentChecksumMismatch',
]);
/** Another write of the same object came in between. Sent again, the request is told what holds now. Ceph 20 has the second. */
const conflictCodes = ['ConditionalRequestConflict', 'ConcurrentModification'];
const transientCodes = new Set([
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'RequestTimeout',
  'RequestTimeoutException',
  'TimeoutError',
  'InternalError',
  'ServiceUnavailable',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'TooManyRequestsException',
  'RequestLimitExceeded',
  'BandwidthLimitExceeded',
  'OperationAborted',
  ...conflictCodes,
  'IncompleteBody',
]);
const connectionCodes = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EPROTO',
  'ERR_STREAM_PREMATURE_CLOSE',
]);
/** The TLS layer's and the HTTP parser's own codes: what answers does not speak the protocol, or was cut off. */
const protocolCode = /^(ERR_SSL_|HPE_)/u;
const regionCodes = new Set([
  'PermanentRedirect',
  'TemporaryRedirect',
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
]);
/** Certificates do not mend themselves within a retry. */
const certificateCode = /^(CERT_|ERR_TLS_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH)/u;

/** Reads what is known of anything that the SDK throws. */
export function failureOf(error: unknown): S3Failure {
  const status = statusOf(error);
  const name = error instanceof Error ? error.name : '';
  // Stores that send no code or no message make the SDK say "UnknownError", which helps nobody.
  const named = ['Error', '', 'Unknown', 'UnknownError'].includes(name) ? undefined : name;
  const code = systemCodeOf(error) ?? named ?? (status === undefined ? 'unknown' : `HTTP ${status}`);
  const said = messageOf(error);
  return { code, status, message: said === 'UnknownError' || said === name ? '' : said };
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return undefined;
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}

/** Whether the same request may succeed when it is sent again. */
export function isTransient(error: unknown): boolean {
  if (error instanceof PgarkError) return false;
  const { code, status } = failureOf(error);
  if (fullCodes.has(code) || status === 501 || status === 507) return false;
  if (transientCodes.has(code) || connectionCodes.has(code) || protocolCode.test(code)) return true;
  // Bytes damaged on their way may arrive whole the next time; a clock that is off is corrected by the SDK.
  if (integrityCodes.has(code) || skewCodes.has(code)) return true;
  return status !== undefined && (status >= 500 || status === 408 || status === 429);
}

/** Whether the request may have been carried out although no answer, or a failure, came back. */
export function isAmbiguous(error: unknown): boolean {
  if (error instanceof PgarkError) return false;
  const { code, status } = failureOf(error);
  if (status === undefined) return code !== 'ECONNREFUSED' && code !== 'ENOTFOUND';
  // A code of success together with an error is one that the SDK could not read to its end.
  return status >= 500 || status === 408 || (status >= 200 && status < 300);
}

export function isNotFound(error: unknown): boolean {
  const { code, status } = failureOf(error);
  return code === 'NoSuchKey' || (status === 404 && code !== 'NoSuchBucket' && code !== 'NoSuchUpload');
}

/** The upload that a request names is not there (any more). Ceph 16 calls it NoSuchKey. */
export function isUploadGone(error: unknown): boolean {
  return failureOf(error).code === 'NoSuchUpload' || isNotFound(error);
}

export function isConditionFailed(error: unknown): boolean {
  const { code, status } = failureOf(error);
  return status === 412 || code === 'PreconditionFailed' || conflictCodes.includes(code);
}

/** Some web server answers with success whatever it is asked: nothing that it says may be taken for the store's word. */
export function notS3(host: string, what: string): PgarkError {
  return new PgarkError('store-unsupported', `what answers at ${host} is no S3 store: ${what}`, {
    hint: 'give the address of the store’s S3 API as the endpoint, not that of its web console or of another server',
  });
}

/** Turns what was thrown, after the last retry, into the error that leaves the store. */
export function storeError(error: unknown, attempt: S3Attempt): PgarkError {
  if (error instanceof PgarkError) return error;
  const failure = failureOf(error);
  const { code, status } = failure;
  const what = `${verbs[attempt.action]} ${attempt.key ?? `bucket ${attempt.bucket}`} at ${attempt.host} failed`;
  const why = describe(failure);
  const details = { storeCode: code, ...(status === undefined ? {} : { status }) };
  // The SDK's error holds the signed request; only its words go further.
  const cause = new Error(why);

  if (code === 'NoSuchBucket') {
    return new PgarkError('store-bucket-missing', `bucket ${attempt.bucket} does not exist at ${attempt.host}`, {
      details,
      cause,
    });
  }
  if (skewCodes.has(code)) return skewError(what, attempt, details, cause);
  if (credentialCodes.has(code)) {
    return new PgarkError('store-credentials-rejected', `${what}: ${why}`, {
      hint: credentialHints[code] ?? 'check the access key, the secret key and the region',
      details,
      cause,
    });
  }
  if (fullCodes.has(code) || status === 507) return new PgarkError('store-full', `${what}: ${why}`, { details, cause });
  if (isConditionFailed(error)) {
    return new PgarkError('store-condition-failed', `${what}: the object is not as expected (${why})`, {
      details,
      cause,
    });
  }
  if (integrityCodes.has(code)) {
    return new PgarkError('store-integrity', `${what}: the store received other bytes than were sent (${why})`, {
      details,
      cause,
    });
  }
  if (status === 403 || code === 'AccessDenied') return accessDenied(why, attempt, details, cause);
  if (isNotFound(error)) {
    return new PgarkError('object-not-found', `${attempt.key ?? attempt.bucket} is not in bucket ${attempt.bucket}`, {
      details,
      cause,
    });
  }
  if (certificateCode.test(code)) {
    return new PgarkError('store-unreachable', `${what}: the certificate of ${attempt.host} is not trusted (${why})`, {
      hint: 'give the certificate authority of the store as a PEM file (ca_file), or correct the endpoint’s name',
      details,
      cause,
    });
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    return new PgarkError('store-unreachable', `${what}: ${attempt.host} does not answer with TLS (${code})`, {
      hint: 'if the store has no TLS there, write the endpoint with http://; otherwise check host and port',
      details,
      cause,
    });
  }
  if (regionCodes.has(code)) {
    return new PgarkError(
      'storage-config-invalid',
      `${what}: bucket ${attempt.bucket} lies in another region (${why})`,
      {
        hint: 'set the region of the bucket, or the endpoint that serves it',
        details,
        cause,
      },
    );
  }
  if (isTransient(error)) {
    return new PgarkError('store-unreachable', `${what}: ${why}`, { details, cause });
  }
  return new PgarkError('store-failed', `${what}: ${why}`, { details, cause });
}

const verbs: Readonly<Record<S3Action, string>> = {
  's3:PutObject': 'writing',
  's3:GetObject': 'reading',
  's3:DeleteObject': 'deleting',
  's3:ListBucket': 'listing',
  's3:AbortMultipartUpload': 'aborting the upload of',
  's3:ListMultipartUploadParts': 'listing the parts of',
  's3:ListBucketMultipartUploads': 'listing the uploads of',
  's3:PutObjectRetention': 'locking',
  's3:GetBucketVersioning': 'asking for the versioning of',
  's3:GetBucketObjectLockConfiguration': 'asking for the Object Lock of',
};

const credentialHints: Readonly<Record<string, string>> = {
  InvalidAccessKeyId:
    'the store does not know this access key: check it, and that the endpoint is the one it belongs to',
  SignatureDoesNotMatch: 'the secret key does not fit the access key, or the region is wrong',
  ExpiredToken: 'the temporary credentials have expired: renew them',
  ExpiredTokenException: 'the temporary credentials have expired: renew them',
  CredentialsProviderError: 'no credentials were found: give an access key, or set up the AWS credential chain',
};

function describe({ code, status, message }: S3Failure): string {
  const said = message === '' || message.includes(code) ? message : `${code}: ${message}`;
  const words = said === '' ? code : said;
  return status === undefined || words.startsWith('HTTP ') ? words : `${words} (${status})`;
}

type Details = Readonly<Record<string, string | number>>;

function accessDenied(why: string, attempt: S3Attempt, details: Details, cause: Error): PgarkError {
  const { action, bucket, key } = attempt;
  const resource = resourceOf(action, bucket, key);
  // Without the right to list, S3 answers a question for a missing object with 403, to tell nothing.
  const orMissing =
    action === 's3:GetObject'
      ? `, and s3:ListBucket on arn:aws:s3:::${bucket} (without it a missing object looks like this, too)`
      : '';
  const orLock = attempt.locks === true ? `, and s3:PutObjectRetention, which object_lock needs` : '';
  return new PgarkError(
    'store-access-denied',
    `${action} on ${key ?? `bucket ${bucket}`} at ${attempt.host} is not allowed: ${why}`,
    {
      hint: `grant ${action} on ${resource}${orMissing}${orLock}`,
      details: { ...details, action },
      cause,
    },
  );
}

function resourceOf(action: S3Action, bucket: string, key: string | undefined): string {
  if (action === 's3:ListBucket' || action === 's3:ListBucketMultipartUploads' || key === undefined)
    return `arn:aws:s3:::${bucket}`;
  const folder = key.includes('/') ? key.slice(0, key.indexOf('/') + 1) : '';
  return `arn:aws:s3:::${bucket}/${folder}*`;
}

function skewError(what: string, attempt: S3Attempt, details: Details, cause: Error): PgarkError {
  const skewMs = attempt.clockSkewMs;
  const measured =
    skewMs === undefined
      ? 'differs from the store’s'
      : `is ${Math.round(Math.abs(skewMs) / 1_000)} s ${skewMs > 0 ? 'behind' : 'ahead of'} the store’s`;
  return new PgarkError('store-credentials-rejected', `${what}: the clock of this machine ${measured}`, {
    hint: `set the clock of this machine (it ${measured}), for instance with NTP`,
    details,
    cause,
  });
}
