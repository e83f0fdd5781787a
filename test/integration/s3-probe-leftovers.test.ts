import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { s3Facts } from '../support/facts.ts';
import { createBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';

test('a probe removes objects and uploads that probes of killed processes left, once they are old', async () => {
  await using bucket = await createBucket();
  const open = (key: string) => bucket.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.name, Key: key }));
  const probe = 'prod/.pgark/probe-0123456789abcdef';
  const others = ['other/.pgark/probe-0123456789abcdef', 'prod/.pgark/probe-notes', 'prod/shop.sql.gz'];
  for (const key of [probe, ...others]) {
    await bucket.put(key, 'left');
    await open(key);
  }
  // A store whose limit has not come leaves all of it.
  await openS3Store(bucket.name, { prefix: 'prod' }).probe({ write: true });
  expect(await bucket.listKeys()).toEqual([...others, probe].sort());
  expect((await bucket.listOpenUploads()).sort()).toEqual([...others, probe].sort());

  await openS3Store(bucket.name, { prefix: 'prod', probeStaleMs: -60_000 }).probe({ write: true });
  expect(await bucket.listKeys()).toEqual(others);
  expect((await bucket.listOpenUploads()).sort()).toEqual(others);
});

test('a probe that is aborted, at whatever request, leaves nothing in a store that answers', async () => {
  await using bucket = await createBucket();
  await using proxy = await startFaultProxy(s3Facts().endpoint);
  const reason = new Error('stopped by the user');
  const probe = async (abortAt: number): Promise<number> => {
    const store = openS3Store(bucket.name, { endpoint: proxy.endpoint });
    const controller = new AbortController();
    const late = new Promise<void>((resolve) => {
      controller.signal.addEventListener('abort', () => setTimeout(resolve, 100), { once: true });
    });
    proxy.setFaults(({ index }) => {
      if (index !== abortAt) return undefined;
      controller.abort(reason);
      return { kind: 'late', until: late };
    });
    const outcome = await store.probe({ write: true, signal: controller.signal }).then(
      () => undefined,
      (error: unknown) => error,
    );
    // A store that is in the way of itself is asked again: not every probe makes as many requests.
    expect(outcome).toBe(controller.signal.aborted ? reason : undefined);
    await proxy.idle();
    expect({ abortAt, keys: await bucket.listKeys(), uploads: await bucket.listOpenUploads() }).toEqual({
      abortAt,
      keys: [],
      uploads: [],
    });
    await store.close();
    return proxy.seen.length;
  };
  const requests = await probe(Number.POSITIVE_INFINITY);
  // The first one only looks whether the bucket is there.
  for (let index = 1; index < requests; index += 2) await probe(index);
});
