import { hostname } from 'node:os';
import { systemClock } from './common/clock.ts';
import { type Logger, silentLogger } from './common/log.ts';
import { systemRandom } from './common/random.ts';
import { silentTracing, type Tracing } from './common/tracer.ts';
import type { EncryptionConfig, StorageConfig, TracesConfig } from './config/model.ts';
import type { Sealer } from './pipeline/encryption/sealer.ts';
import type { Throttle } from './pipeline/throttle.ts';
import { resendingBy, throttledStore } from './service/throttled-store.ts';
import type { ObjectStore } from './storage/object-store.ts';
import { lazyTracing } from './tracing/lazy-tracing.ts';
import { pgarkVersion } from './version.ts';

/**
 * The composition root: the only place where adapters are constructed from settings. The store's client library is
 * loaded when a store is opened, so that commands that need none start fast.
 */
export async function openStore(
  config: StorageConfig,
  logger: Logger = silentLogger,
  throttle?: Throttle,
): Promise<ObjectStore> {
  const store = await openAdapter(config, logger, throttle);
  if (throttle === undefined) return store;
  return throttledStore(store, throttle);
}

async function openAdapter(
  config: StorageConfig,
  logger: Logger,
  throttle: Throttle | undefined,
): Promise<ObjectStore> {
  const world = { clock: systemClock, random: systemRandom };
  switch (config.type) {
    case 'file': {
      const { FileStore } = await import('./storage/file/file-store.ts');
      return new FileStore({ root: config.path, ...world });
    }
    case 's3': {
      const { S3Store } = await import('./storage/s3/s3-store.ts');
      return new S3Store({
        bucket: config.bucket,
        prefix: config.prefix,
        region: config.region,
        credentials: config.credentials,
        forcePathStyle: config.forcePathStyle,
        ...(config.provider === undefined ? {} : { provider: config.provider }),
        ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
        ...(config.caFile === undefined ? {} : { caFile: config.caFile }),
        ...(config.objectLock === undefined ? {} : { objectLock: config.objectLock }),
        ...(config.partBytes === undefined ? {} : { partBytes: config.partBytes }),
        retry: config.retry,
        ...(throttle === undefined ? {} : { beforeResending: resendingBy(throttle) }),
        logger,
        ...world,
      });
    }
    case 'rclone': {
      const { RcloneStore } = await import('./storage/rclone/rclone-store.ts');
      return new RcloneStore({
        remote: config.remote,
        ...(config.configFile === undefined ? {} : { configFile: config.configFile }),
        env: process.env,
        retry: config.retry,
        logger,
        ...world,
      });
    }
    default:
      return config satisfies never;
  }
}

/** What encrypts for the keys of a configured encryption; undefined for none. Error: `key-invalid`. */
export async function sealerOf(config: EncryptionConfig | undefined): Promise<Sealer | undefined> {
  if (config === undefined) return undefined;
  if (config.scheme === 'openssl') {
    const { opensslSealer } = await import('./pipeline/encryption/openssl-sealer.ts');
    return opensslSealer(config);
  }
  const { ageSealer } = await import('./pipeline/encryption/age-sealer.ts');
  return ageSealer(config);
}

/** Where spans of runs go; undefined for nowhere. OpenTelemetry is an optional package, loaded with the first span. */
export function openTracing(config: TracesConfig | undefined, logger: Logger = silentLogger): Tracing {
  if (config === undefined) return silentTracing;
  return lazyTracing(async () => {
    const { otlpTracing } = await import('./tracing/otlp-tracing.ts');
    return otlpTracing({ ...config, version: pgarkVersion, host: hostname(), logger });
  }, logger);
}
