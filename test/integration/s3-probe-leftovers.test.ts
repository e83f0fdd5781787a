import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
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
