import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { KEY, PART, put, setStage, type Stage } from '../support/s3-stage.ts';

/** Blocks that fill more than a part; what follows is up to the test. */
async function* moreThanAPart(then: () => Promise<void>): AsyncGenerator<Uint8Array> {
  for (let block = 0; block * MIB <= PART; block += 1) yield new Uint8Array(MIB).fill(block);
  await then();
}

async function expectNothing({ bucket }: Stage): Promise<void> {
  expect(await bucket.listOpenUploads()).toEqual([]);
  expect(await bucket.listKeys()).toEqual([]);
}

describe('a put whose upload is being opened', () => {
  test('reads its body on meanwhile, but not beyond its buffers', async () => {
    await using stage = await setStage({ partsInFlight: 2, inactivityTimeoutMs: 30_000 });
    let read = 0;
    const opened = Promise.withResolvers<void>();
    const body = async function* (): AsyncGenerator<Uint8Array> {
      for (let block = 0; block < 40; block += 1) {
        read += MIB;
        if (read === 2 * PART) setTimeout(opened.resolve, 300);
        yield new Uint8Array(MIB).fill(block);
      }
    };
    let readAtAnswer = 0;
    const outcome = await put(
      stage,
      ({ operation }) => (operation === 'CreateMultipartUpload' ? { kind: 'delay', until: opened.promise } : undefined),
      {
        onUploadOpened: async () => {
          readAtAnswer = read;
        },
      },
      body(),
    );
    expect(outcome).toMatchObject({ stored: { bytes: 40 * MIB } });
    expect(readAtAnswer).toBeGreaterThanOrEqual(2 * PART);
    expect(readAtAnswer).toBeLessThanOrEqual(3 * PART + 2 * MIB);
  });

  test.each([
    ['while the request is on its way', 'late'],
    ['whose answer never comes', 'withhold-answer'],
  ] as const)('and whose body fails then, %s, leaves nothing', async (_title, kind) => {
    await using stage = await setStage();
    const asked = Promise.withResolvers<void>();
    const failed = Promise.withResolvers<void>();
    const failure = new Error('the dump has failed');
    const outcome = await put(
      stage,
      ({ operation, nth }) => {
        if (operation !== 'CreateMultipartUpload' || nth > 0) return undefined;
        asked.resolve();
        return kind === 'late' ? { kind, until: failed.promise } : { kind };
      },
      {},
      moreThanAPart(async () => {
        await asked.promise;
        // The request goes on when the failure has had time to arrive.
        setTimeout(failed.resolve, 400);
        throw failure;
      }),
    );
    expect(outcome).toEqual({ error: failure });
    await stage.proxy.idle();
    stage.proxy.setFaults(() => undefined);
    await expectNothing(stage);
  });

  test('and which may not be noted is aborted', async () => {
    await using stage = await setStage();
    const refused = new Error('the intent is gone');
    const onUploadOpened = (): Promise<void> => Promise.reject(refused);
    expect(await put(stage, () => undefined, { onUploadOpened })).toEqual({ error: refused });
    await expectNothing(stage);
  });
});

test('a name that is known to be free is not looked at before', async () => {
  await using stage = await setStage();
  expect(await put(stage, () => undefined, { nameIsFree: true })).toMatchObject({ stored: { key: KEY } });
  expect(stage.proxy.seen[0]).toBe('CreateMultipartUpload');
});
