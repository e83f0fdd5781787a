import { describe, expect, test } from 'vitest';
import { ProgramFailure } from '../../common/child-process.ts';
import type { PgarkError } from '../../common/errors.ts';
import { isTransient, lastWords, rcloneError } from './failures.ts';

const run = { doing: 'write the object "a/b"', subject: 'b' };
const failed = (lines: readonly string[], code = 1): ProgramFailure =>
  new ProgramFailure('rclone', `exited with ${code}`, lines, { code });
const errorOf = (lines: readonly string[], code?: number): unknown => rcloneError(failed(lines, code), run, []);

const wrongKey = [
  '2026/11/20 12:24:52 ERROR : x: Failed to copy: SignatureDoesNotMatch: ',
  '\tstatus code: 403, request id: tx0000016f-1008-default, host id: ',
  '2026/11/20 12:24:52 Failed to rcat: SignatureDoesNotMatch: ',
  '\tstatus code: 403, request id: tx0000016f-1008-default, host id: ',
];

describe('a failure of rclone', () => {
  test.each([
    ["2026/11/20 12:23:30 Failed to backend: didn't find section in config file", 'storage-config-invalid'],
    ['2026/11/20 12:23:30 Failed to load config file "/x": unable to decrypt configuration', 'storage-config-invalid'],
    ['Error: unknown flag: --stat', 'store-unsupported'],
    ['2026/11/20 12:24:49 Failed to rcat: NoSuchBucket: status code: 404', 'store-bucket-missing'],
    ['Failed to lsjson: AccessDenied: status code: 403, request id: x', 'store-access-denied'],
    ['Failed to lsjson: Forbidden: Forbidden status code: 403', 'store-access-denied'],
    ['Failed to rcat: open /srv/x: permission denied', 'store-access-denied'],
    [
      'Failed to lsjson: couldn\'t fetch token - maybe it has expired? - refresh with "rclone config reconnect x:": oauth2: cannot fetch token: 400',
      'store-credentials-rejected',
    ],
    ['Failed to lsjson: failed to read metadata: 401 Unauthorized', 'store-credentials-rejected'],
    ['Failed to rcat: write /srv/x: no space left on device', 'store-full'],
    [
      "Failed to rcat: googleapi: Error 403: The user's Drive storage quota has been exceeded., storageQuotaExceeded",
      'store-full',
    ],
    [
      'Failed to lsjson: RequestError: send request failed caused by: dial tcp 127.0.0.1:1: connect: connection refused',
      'store-unreachable',
    ],
    ['Failed to lsjson: dial tcp: lookup nowhere.invalid: no such host', 'store-unreachable'],
    ['Failed to rcat: SlowDown: status code: 503, request id: x', 'store-unreachable'],
    ['Failed to lsjson: directory not found', 'object-not-found'],
    ['Failed to rcat: something else entirely', 'store-failed'],
  ])('%j is %s', (line, code) => {
    expect(errorOf([line])).toMatchObject({ name: 'PgarkError', code });
  });

  test('says what failed, in rclone’s last words, and with which status', () => {
    expect(errorOf(wrongKey)).toMatchObject({
      code: 'store-credentials-rejected',
      message:
        'cannot write the object "a/b": SignatureDoesNotMatch: status code: 403, request id: tx0000016f-1008-default, host id: (rclone exited with 1)',
    });
  });

  test.each([
    [3, 'object-not-found'],
    [4, 'object-not-found'],
    [5, 'store-unreachable'],
    [7, 'store-failed'],
    [8, 'store-failed'],
  ])('without known words is what its status %i says', (status, code) => {
    expect(errorOf([], status)).toMatchObject({ code });
  });

  test('is not what the object’s name says', () => {
    const named = { doing: 'x', subject: 'AccessDenied.quota' };
    const error = rcloneError(failed(['ERROR : AccessDenied.quota: Failed to copy: strange']), named, []);
    expect(error).toMatchObject({ code: 'store-failed' });
  });

  test.each(['a', 'Denied', 'x.*+?^${}()|[]\\/-'])('keeps its words beside an object named %j', (subject) => {
    expect(rcloneError(failed(['Failed to lsjson: AccessDenied']), { doing: 'x', subject }, [])).toMatchObject({
      code: 'store-access-denied',
    });
  });

  test('may pass where the network or the server was in trouble, and only there', () => {
    expect(isTransient(failed(['connection reset by peer']), run)).toBe(true);
    expect(isTransient(failed([], 5), run)).toBe(true);
    expect(isTransient(failed(wrongKey), run)).toBe(false);
    expect(isTransient(failed([]), run)).toBe(false);
    expect(isTransient(new ProgramFailure('rclone', 'was killed', ['timeout'], { signal: 'SIGKILL' }), run)).toBe(
      false,
    );
    expect(isTransient(new Error('connection reset'), run)).toBe(false);
  });

  test('of a killed rclone names the signal', () => {
    const killed = new ProgramFailure('rclone', 'was killed by SIGKILL', [], { signal: 'SIGKILL' });
    expect(rcloneError(killed, run, [])).toMatchObject({
      code: 'store-failed',
      message: expect.stringContaining('SIGKILL'),
    });
  });

  test('shows no secret: none that is known, and nothing of addresses where one may be', () => {
    const words = lastWords(
      ['Failed to cat: Get "https://user:hidden1@host/path?X-Amz-Signature=hidden2&x=y": the key hidden3 is wrong'],
      ['hidden3'],
    );
    expect(words).toBe('Get "https://[redacted]@host/path?[redacted]": the key [redacted] is wrong');
    const error = rcloneError(failed(['Failed to cat: hidden3']), run, ['hidden3']) as PgarkError;
    expect(error.cause).toBeUndefined();
  });

  test('that is none is passed on as it is', () => {
    const error = new Error('the dump broke');
    expect(rcloneError(error, run, [])).toBe(error);
  });
});
