import type { TestProject } from 'vitest/node';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { startCeph } from './ceph.ts';
import type { PostgresFacts, S3Facts, S3Login } from './facts.ts';

interface Started<Facts> {
  readonly facts: Facts;
  stop(): Promise<void>;
}

/**
 * One PostgreSQL and one S3 server for all integration tests: those that PG_TEST_* and S3_TEST_* name, else private ones
 * that end with the tests. A server that cannot be started fails the run.
 */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const starting = [providePostgres(process.env), provideS3(process.env)] as const;
  const outcomes = await Promise.allSettled(starting);
  const stop = async () => {
    await Promise.all(outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.stop()] : [])));
  };
  const [postgres, s3] = outcomes;
  if (postgres.status === 'rejected' || s3.status === 'rejected') {
    await stop();
    throw new AggregateError(
      outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : [])),
      'the servers that the tests need could not be started',
    );
  }
  project.provide('postgres', postgres.value.facts);
  project.provide('s3', s3.value.facts);
  return stop;
}

const nothingToStop = async () => {};

async function providePostgres(env: NodeJS.ProcessEnv): Promise<Started<PostgresFacts>> {
  if (env['PG_TEST_HOST']) {
    return {
      facts: {
        host: env['PG_TEST_HOST'],
        port: Number(env['PG_TEST_PORT'] ?? '5432'),
        user: env['PG_TEST_USER'] ?? 'postgres',
        password: env['PG_TEST_PASSWORD'] ?? '',
      },
      stop: nothingToStop,
    };
  }
  const server = await startThrowawayServer({
    listen: 'tcp',
    settings: {
      // Test files run side by side, and some hold several connections open.
      max_connections: '300',
      // It would come to databases of tests when nobody expects it.
      autovacuum: 'off',
      shared_buffers: '128MB',
      max_wal_size: '4GB',
      checkpoint_timeout: '30min',
      wal_level: 'replica',
    },
  });
  return {
    facts: { host: server.host, port: server.port, user: server.user, password: server.password.reveal() },
    stop: () => server.stop(),
  };
}

async function provideS3(env: NodeJS.ProcessEnv): Promise<Started<S3Facts>> {
  const region = env['S3_TEST_REGION'] ?? 'us-east-1';
  if (env['S3_TEST_ENDPOINT']) {
    const readOnly = login(env, 'S3_TEST_READ_ONLY_');
    const noRights = login(env, 'S3_TEST_NO_RIGHTS_');
    const user = login(env, 'S3_TEST_');
    if (user === undefined)
      throw new Error('S3_TEST_ENDPOINT is set, but S3_TEST_ACCESS_KEY or S3_TEST_SECRET_KEY is not');
    return {
      facts: {
        endpoint: env['S3_TEST_ENDPOINT'],
        region,
        ...user,
        ...(readOnly && { readOnly }),
        ...(noRights && { noRights }),
      },
      stop: nothingToStop,
    };
  }
  const ceph = await startCeph();
  const { endpoint, accessKey, secretKey, cephConf } = ceph;
  return { facts: { endpoint, region, accessKey, secretKey, cephConf }, stop: () => ceph.stop() };
}

function login(env: NodeJS.ProcessEnv, prefix: string): S3Login | undefined {
  const accessKey = env[`${prefix}ACCESS_KEY`];
  const secretKey = env[`${prefix}SECRET_KEY`];
  return accessKey && secretKey ? { accessKey, secretKey } : undefined;
}
