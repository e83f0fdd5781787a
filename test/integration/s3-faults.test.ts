import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { isPgarkError } from '../../src/common/errors.ts';
import { digestOf, readAll, readObject, streamOf } from '../../src/storage/contract/harness.contract.ts';
import type { Decide, Fault, ProxiedRequest } from '../support/fault-proxy.ts';
import { bytes, KEY, type Outcome, PART, put, setStage, type Stage } from '../support/s3-stage.ts';

const digest = digestOf(bytes);

/** Of the whole object: the store makes it of the digests of all parts, whatever became of requests. */
let wholeEtag: string | undefined;

/** The digest of the object's bytes, which are read but where its etag tells that they are the same as before. */
async function contentOf({ direct }: Stage): Promise<string> {
  const { etag } = (await direct.head(KEY)) ?? {};
  if (etag !== undefined && etag === wholeEtag) return digest;
  const found = digestOf(await readObject(direct, KEY));
  if (found === digest) wholeEtag = etag;
  return found;
}

/** A put ends right or leaves nothing: no third way. */
async function expectWholeOrNothing(stage: Stage, outcome: Outcome): Promise<void> {
  stage.proxy.setFaults(() => undefined);
  const stored = 'stored' in outcome;
  const left = {
    outcome: stored ? outcome.stored.bytes : isPgarkError(outcome.error),
    uploads: await stage.bucket.listOpenUploads(),
    keys: await stage.bucket.listKeys(),
    content: stored ? await contentOf(stage) : undefined,
  };
  const whole = { outcome: bytes.length, uploads: [], keys: [KEY], content: digest };
  const nothing = { outcome: true, uploads: [], keys: [], content: undefined };
  expect(left).toEqual(stored ? whole : nothing);
  await stage.direct.delete(KEY);
}

const onceAt =
  (matches: (request: ProxiedRequest) => boolean, fault: Fault): Decide =>
  (request) =>
    matches(request) ? fault : undefined;

const slowDown: Fault = { kind: 'answer', status: 503, code: 'SlowDown' };
/** Whichever of the two the store confirms parts by. */
const damaged: Fault = {
  kind: 'headers',
  headers: { etag: `"${'0'.repeat(32)}"`, 'x-amz-checksum-crc32': 'AAAAAA==' },
};
const errorIn200 = '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>please retry</Message></Error>';

describe('a put through a network that fails once', () => {
  const passing: readonly [string, Fault][] = [
    ['is told to slow down', slowDown],
    ['is answered by a server error', { kind: 'answer', status: 500, code: 'InternalError' }],
    ['is cut before its body', { kind: 'cut-request', afterBytes: 0 }],
    ['is cut within its body', { kind: 'cut-request', afterBytes: 100_000 }],
    ['is carried out and its answer lost', { kind: 'lose-answer' }],
    ['is carried out and answered by a gateway’s error', { kind: 'replace-answer', status: 502, body: 'Bad Gateway' }],
    ['is carried out and its answer cut short', { kind: 'cut-answer', afterBytes: 10 }],
    ['is never answered', { kind: 'silence' }],
    ['is carried out and never answered', { kind: 'withhold-answer' }],
  ];
  test.each(passing)('ends right wherever a request %s', async (_title, fault) => {
    await using stage = await setStage();
    const undisturbed = await put(stage, () => undefined);
    const requests = stage.proxy.seen.length;
    await expectWholeOrNothing(stage, undisturbed);
    expect(requests).toBeGreaterThanOrEqual(7);
    for (let position = 0; position < requests; position += 1) {
      const outcome = await put(
        stage,
        onceAt(({ index }) => index === position, fault),
      );
      expect({ position, outcome }).toMatchObject({ position, outcome: { stored: { bytes: bytes.length } } });
      await expectWholeOrNothing(stage, outcome);
    }
  });

  test('leaves nothing wherever it is forbidden to go on', async () => {
    await using stage = await setStage();
    const denial: Fault = { kind: 'answer', status: 403, code: 'AccessDenied' };
    for (let position = 0; position < 7; position += 1) {
      const outcome = await put(
        stage,
        onceAt(({ index }) => index === position, denial),
      );
      await expectWholeOrNothing(stage, outcome);
    }
  });
});

describe('a put whose every', () => {
  const lasting: readonly [string, string, Fault, string][] = [
    ['part is told to slow down', 'UploadPart', slowDown, 'store-unreachable'],
    ['part is cut', 'UploadPart', { kind: 'cut-request', afterBytes: PART / 2 }, 'store-unreachable'],
    ['part is answered by another checksum', 'UploadPart', damaged, 'store-integrity'],
    [
      'part finds the store full',
      'UploadPart',
      { kind: 'answer', status: 507, code: 'InsufficientStorage' },
      'store-full',
    ],
    [
      'part finds the quota used up',
      'UploadPart',
      { kind: 'answer', status: 403, code: 'QuotaExceeded' },
      'store-full',
    ],
    [
      'part finds the token expired',
      'UploadPart',
      { kind: 'answer', status: 400, code: 'ExpiredToken' },
      'store-credentials-rejected',
    ],
    ['Complete never reaches the store', 'CompleteMultipartUpload', slowDown, 'store-unreachable'],
    [
      'Complete is refused',
      'CompleteMultipartUpload',
      { kind: 'answer', status: 400, code: 'InvalidPart' },
      'store-failed',
    ],
    ['opening fails', 'CreateMultipartUpload', slowDown, 'store-unreachable'],
  ];
  test.each(lasting)('%s rejects, says why and leaves nothing', async (_title, operation, fault, code) => {
    await using stage = await setStage();
    const outcome = await put(
      stage,
      onceAt((request) => request.operation === operation, fault),
    );
    expect(outcome).toMatchObject({ error: { code } });
    await expectWholeOrNothing(stage, outcome);
  });

  const executed: readonly [string, Fault][] = [
    ['lost', { kind: 'lose-answer' }],
    ['withheld', { kind: 'withhold-answer' }],
    ['an error in a 200', { kind: 'replace-answer', status: 200, body: errorIn200 }],
    ['empty', { kind: 'replace-answer', status: 200, body: '' }],
    ['a server error', { kind: 'replace-answer', status: 500, body: errorIn200 }],
    ['that the upload is gone, after a first one was lost', { kind: 'lose-answer' }],
  ];
  test.each(executed)('answer to Complete is %s has nevertheless succeeded', async (title, fault) => {
    await using stage = await setStage();
    const gone: Fault = { kind: 'answer', status: 404, code: 'NoSuchUpload' };
    const outcome = await put(stage, ({ operation, nth }) => {
      if (operation !== 'CompleteMultipartUpload') return undefined;
      return nth > 0 && title.startsWith('that') ? gone : fault;
    });
    expect(outcome).toMatchObject({ stored: { partCount: 3 } });
    await expectWholeOrNothing(stage, outcome);
  });
});

describe('a put', () => {
  test.each([
    ['etag', { etag: `"${'0'.repeat(32)}-3"` }],
    ['length', { 'content-length': '1' }],
  ])('whose finished object has another %s than was sent is removed', async (_title, headers) => {
    await using stage = await setStage();
    let completed = false;
    const outcome = await put(stage, ({ operation }) => {
      completed ||= operation === 'CompleteMultipartUpload';
      return completed && operation === 'HeadObject' ? { kind: 'headers', headers } : undefined;
    });
    expect(outcome).toMatchObject({ error: { code: 'store-integrity' } });
    await expectWholeOrNothing(stage, outcome);
  });

  test('of a part that once arrives damaged sends that part again', async () => {
    await using stage = await setStage({ inactivityTimeoutMs: 60_000 });
    const outcome = await put(stage, ({ partNumber, nth }) => (partNumber === 2 && nth < 3 ? damaged : undefined));
    expect(outcome).toMatchObject({ stored: { partCount: 3, confirmedBy: expect.stringMatching(/^(md5|crc32)$/u) } });
    expect(stage.proxy.seen.filter((operation) => operation === 'UploadPart')).toHaveLength(4);
    await expectWholeOrNothing(stage, outcome);
  });

  test('aborted while Complete waits for its answer leaves no object', async () => {
    await using stage = await setStage();
    const controller = new AbortController();
    const reason = new Error('stopped by the user');
    const outcome = await put(
      stage,
      ({ operation }) => {
        if (operation !== 'CompleteMultipartUpload') return undefined;
        setTimeout(() => controller.abort(reason), 300);
        return { kind: 'withhold-answer' };
      },
      { signal: controller.signal },
    );
    expect(outcome).toEqual({ error: reason });
    stage.proxy.setFaults(() => undefined);
    expect(await stage.bucket.listKeys()).toEqual([]);
    expect(await stage.bucket.listOpenUploads()).toEqual([]);
  });

  test('that is aborted while parts are on their way waits for none of them and leaves nothing', async () => {
    await using stage = await setStage();
    const controller = new AbortController();
    const reason = new Error('stopped by the user');
    const outcome = await put(
      stage,
      ({ operation, nth }) => {
        if (operation !== 'UploadPart') return undefined;
        if (nth === 1) controller.abort(reason);
        return { kind: 'withhold-answer' };
      },
      { signal: controller.signal },
    );
    expect(outcome).toEqual({ error: reason });
    stage.proxy.setFaults(() => undefined);
    expect(await stage.bucket.listKeys()).toEqual([]);
    expect(await stage.bucket.listOpenUploads()).toEqual([]);
  });

  test('reads no further ahead than its buffers reach, and sends that many parts at once', async () => {
    const partsInFlight = 3;
    await using stage = await setStage({ partsInFlight, inactivityTimeoutMs: 30_000 });
    const released = Promise.withResolvers<void>();
    const full = Promise.withResolvers<void>();
    let read = 0;
    const body = async function* (): AsyncGenerator<Uint8Array> {
      for (let block = 0; block < 64; block += 1) {
        read += MIB;
        yield new Uint8Array(MIB).fill(block);
      }
    };
    const putting = put(
      stage,
      ({ operation, nth }) => {
        if (operation !== 'UploadPart') return undefined;
        if (nth === partsInFlight - 1) setTimeout(full.resolve, 500);
        return nth < partsInFlight ? { kind: 'delay', until: released.promise } : undefined;
      },
      {},
      body(),
    );
    await full.promise;
    expect(read).toBeLessThanOrEqual((partsInFlight + 1) * PART + 2 * MIB);
    expect(stage.proxy.concurrencyMax('UploadPart')).toBe(partsInFlight);
    released.resolve();
    expect(await putting).toMatchObject({ stored: { bytes: 64 * MIB, partCount: 8 } });
    expect(stage.proxy.concurrencyMax('UploadPart')).toBe(partsInFlight);
  });
});

describe('a small conditional put whose answer is lost', () => {
  test('knows its own object again', async () => {
    await using stage = await setStage();
    stage.proxy.setFaults(
      onceAt(({ operation, nth }) => operation === 'PutObject' && nth === 0, { kind: 'lose-answer' }),
    );
    const body = Buffer.from('mine');
    const info = await stage.store.putSmall('lease', body, { condition: { ifAbsent: true } });
    expect(await stage.direct.head('lease')).toMatchObject({ etag: info.etag });
    stage.proxy.setFaults(
      onceAt(({ operation, nth }) => operation === 'PutObject' && nth === 0, { kind: 'lose-answer' }),
    );
    const renewed = await stage.store.putSmall('lease', Buffer.from('mine 2'), { condition: { ifMatch: info.etag } });
    expect(renewed.etag).not.toBe(info.etag);
    expect(await stage.direct.head('lease')).toMatchObject({ etag: renewed.etag });
  });

  test('does not take another’s object for its own', async () => {
    await using stage = await setStage();
    const body = Buffer.from('the same bytes');
    await stage.direct.putSmall('lease', body);
    stage.proxy.setFaults(
      onceAt(({ operation, nth }) => operation === 'PutObject' && nth === 0, { kind: 'lose-answer' }),
    );
    await expect(stage.store.putSmall('lease', body, { condition: { ifAbsent: true } })).rejects.toMatchObject({
      code: 'store-condition-failed',
    });
  });
});

describe('a read', () => {
  test('goes on where it was cut, several times', async () => {
    await using stage = await setStage();
    await stage.direct.putStream(KEY, streamOf(bytes));
    stage.proxy.setFaults(onceAt(({ nth }) => nth < 5, { kind: 'cut-answer', afterBytes: 3 * MIB + 17 }));
    expect(digestOf(await readObject(stage.store, KEY))).toBe(digest);
    expect(stage.proxy.seen.filter((operation) => operation === 'GetObject').length).toBeGreaterThanOrEqual(6);
  });

  test('goes on where the store fell silent, and for a range, too', async () => {
    await using stage = await setStage({ inactivityTimeoutMs: 1_000 });
    await stage.direct.putStream(KEY, streamOf(bytes));
    const range = { start: 1_000, end: 10 * MIB };
    stage.proxy.setFaults(({ nth }) => {
      if (nth === 0) return { kind: 'cut-answer', afterBytes: MIB };
      return nth === 1 ? { kind: 'silence' } : undefined;
    });
    const { body, info } = await stage.store.get(KEY, { range });
    expect(info.bytes).toBe(bytes.length);
    expect(digestOf(await readAll(body))).toBe(digestOf(bytes.subarray(range.start, range.end + 1)));
  });

  test('that gets nowhere is given up and says so', async () => {
    await using stage = await setStage();
    await stage.direct.putStream(KEY, streamOf(bytes));
    stage.proxy.setFaults(({ nth }) => ({ kind: 'cut-answer', afterBytes: nth === 0 ? MIB : 0 }));
    await expect(readObject(stage.store, KEY)).rejects.toMatchObject({ code: 'store-unreachable' });
  });

  test('does not go on with another object of that name', async () => {
    await using stage = await setStage();
    await stage.direct.putStream(KEY, streamOf(bytes));
    stage.proxy.setFaults(onceAt(({ nth }) => nth === 0, { kind: 'cut-answer', afterBytes: 2 * MIB }));
    const { body } = await stage.store.get(KEY);
    await stage.direct.putSmall(KEY, bytes.subarray(0, 8 * MIB));
    await expect(readAll(body)).rejects.toMatchObject({ code: 'store-condition-failed' });
  });

  test('frees its connection when it is left early', async () => {
    await using stage = await setStage();
    const object = bytes.subarray(0, 3 * MIB);
    await stage.direct.putSmall(KEY, object);
    // More turns than the agent has sockets.
    for (let turn = 0; turn < 70; turn += 1) {
      const { body } = await stage.store.get(KEY);
      for await (const block of body) {
        expect(block.length).toBeGreaterThan(0);
        break;
      }
    }
    expect(digestOf(await readObject(stage.store, KEY))).toBe(digestOf(object));
  });
});

describe('a clock that is off', () => {
  test('is named with its distance when the store refuses signatures for it', async () => {
    await using stage = await setStage({ retry: { delayMs: 1, retriesMax: 1 } });
    const refuse: Decide = () => ({
      kind: 'answer',
      status: 403,
      code: 'RequestTimeTooSkewed',
      date: new Date(Date.now() + 3_600_000),
    });
    stage.proxy.setFaults(refuse);
    await expect(stage.store.get(KEY)).rejects.toMatchObject({
      code: 'store-credentials-rejected',
      message: expect.stringMatching(/clock of this machine is 3(600|5\d\d) s behind/u),
      hint: expect.stringContaining('NTP'),
    });
  });
});
