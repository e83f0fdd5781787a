import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { Secret } from '../../src/common/secret.ts';
import type { S3StoreOptions } from '../../src/storage/s3/options.ts';
import { S3Store } from '../../src/storage/s3/s3-store.ts';
import { s3Facts } from './facts.ts';

/** A store in the given bucket of the tests' S3 server, which retries at once. */
export function openS3Store(bucket: string, options: Partial<S3StoreOptions> = {}): S3Store {
  const { endpoint, region, accessKey, secretKey } = s3Facts();
  return new S3Store({
    bucket,
    endpoint,
    region,
    credentials: { kind: 'keys', accessKeyId: accessKey, secretAccessKey: new Secret(secretKey) },
    retry: { delayMs: 10 },
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...options,
  });
}
