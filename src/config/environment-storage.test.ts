import { describe, expect, test } from 'vitest';
import { Secret } from '../common/secret.ts';
import { loadConfig } from './load.ts';
import type { StorageConfig } from './model.ts';

type Env = Record<string, string>;

async function store(env: Env): Promise<StorageConfig> {
  const config = await loadConfig({ env, cwd: '/srv', needs: ['storage'] });
  const storage = config.storages.get('default');
  if (storage === undefined) throw new Error('there is no storage');
  return storage;
}

/** Secrets in the open, for comparisons. */
function open(value: unknown): unknown {
  if (value instanceof Secret) return value.reveal();
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, open(inner)]));
}

const keys = { kind: 'keys', accessKeyId: 'AK', secretAccessKey: 'SK' };
const chain = { kind: 'default-chain' };
const S3 = { S3_BUCKET: 'backups', S3_ENDPOINT: 'minio.lan:9000', S3_ACCESS_KEY_ID: 'AK', S3_SECRET_ACCESS_KEY: 'SK' };
const URL = { S3_URL: 'http://minio:9000', S3_PATH: 'backups/eu', S3_ACCESS_KEY: 'AK', S3_SECRET_KEY: 'SK' };
const RCLONE = { RCLONE_S3_BUCKET: 'backups', RCLONE_S3_ACCESS_KEY_ID: 'AK', RCLONE_S3_SECRET_ACCESS_KEY: 'SK' };

describe('the storage by environment names', () => {
  test.each<[string, Env, Record<string, unknown>]>([
    ['nothing: a directory', {}, { type: 'file', path: '/srv/backups' }],
    ['BACKUP_PREFIX alone: a directory in it', { BACKUP_PREFIX: 'eu' }, { type: 'file', path: '/srv/backups/eu' }],
    ['file:///dir', { BACKUP_STORAGE: 'file:///var/my%20backups' }, { type: 'file', path: '/var/my backups' }],
    ['file:./dir', { BACKUP_STORAGE: 'file:./rel' }, { type: 'file', path: '/srv/rel' }],
    ['file:/dir', { BACKUP_STORAGE: 'file:/abs' }, { type: 'file', path: '/abs' }],
    [
      'rclone:',
      { BACKUP_STORAGE: 'rclone:gdrive:pg/x', RCLONE_CONFIG: '/rc.conf' },
      { type: 'rclone', remote: 'gdrive:pg/x', configFile: '/rc.conf' },
    ],
    [
      'rclone: with a prefix',
      { BACKUP_STORAGE: 'rclone:gdrive:', BACKUP_PREFIX: 'eu' },
      { type: 'rclone', remote: 'gdrive:eu' },
    ],
    [
      'S3_*: an endpoint without a scheme is https, and the path style is chosen',
      S3,
      {
        type: 's3',
        bucket: 'backups',
        prefix: 'postgres-backups',
        endpoint: 'https://minio.lan:9000',
        region: 'us-east-1',
        credentials: keys,
        forcePathStyle: true,
      },
    ],
    [
      'S3_*: the endpoint’s own scheme stays',
      { ...S3, S3_ENDPOINT: 'http://minio:9000/' },
      { endpoint: 'http://minio:9000' },
    ],
    ['S3_*: BACKUP_PREFIX', { ...S3, BACKUP_PREFIX: '/eu/shop/' }, { prefix: 'eu/shop' }],
    [
      'S3_* of AWS',
      { S3_BUCKET: 'backups', S3_REGION: 'eu-central-1' },
      { region: 'eu-central-1', credentials: chain, forcePathStyle: false },
    ],
    [
      'S3_URL as an endpoint',
      URL,
      { bucket: 'backups', prefix: 'eu', endpoint: 'http://minio:9000', credentials: keys },
    ],
    [
      'S3_URL with BACKUP_PREFIX',
      { ...URL, S3_PATH: 'backups', BACKUP_PREFIX: 'x' },
      { bucket: 'backups', prefix: 'x' },
    ],
    ['S3_URL without a prefix', { ...URL, S3_PATH: 'backups' }, { bucket: 'backups', prefix: '' }],
    [
      'S3_URL as an endpoint with a bucket',
      { ...URL, S3_URL: 'http://minio:9000/backups' },
      { bucket: 'backups', prefix: 'backups/eu' },
    ],
    [
      'S3_URL as s3://, with the endpoint of S3_ENDPOINT',
      {
        S3_URL: 's3://backups/eu',
        S3_ENDPOINT: 'minio:9000',
        S3_REGION: 'r1',
        S3_ACCESS_KEY: 'AK',
        S3_SECRET_KEY: 'SK',
      },
      { bucket: 'backups', prefix: 'eu', endpoint: 'https://minio:9000', region: 'r1', credentials: keys },
    ],
    [
      'RCLONE_S3_*',
      { ...RCLONE, RCLONE_S3_PROVIDER: 'Cloudflare', RCLONE_S3_ENDPOINT: 'r2.example.com', RCLONE_S3_REGION: 'auto' },
      {
        type: 's3',
        bucket: 'backups',
        prefix: '',
        provider: 'cloudflare',
        endpoint: 'https://r2.example.com',
        region: 'auto',
        credentials: keys,
      },
    ],
    [
      'RCLONE_S3_* with a provider that is not known',
      { ...RCLONE, RCLONE_S3_PROVIDER: 'Other', RCLONE_S3_ENDPOINT: 'x.lan' },
      { bucket: 'backups' },
    ],
    [
      'BUCKET_NAME and the AWS names',
      {
        BUCKET_NAME: 'backups',
        AWS_ACCESS_KEY_ID: 'AK',
        AWS_SECRET_ACCESS_KEY: 'SK',
        AWS_REGION: 'auto',
        AWS_ENDPOINT_URL_S3: 'https://fly.example.com',
      },
      {
        bucket: 'backups',
        prefix: 'postgres-backups',
        region: 'auto',
        endpoint: 'https://fly.example.com',
        credentials: chain,
      },
    ],
    ['AWS_DEFAULT_REGION', { BUCKET_NAME: 'backups', AWS_DEFAULT_REGION: 'eu-west-1' }, { region: 'eu-west-1' }],
    [
      's3://',
      { BACKUP_STORAGE: 's3://backups/eu/shop' },
      { bucket: 'backups', prefix: 'eu/shop', credentials: chain, region: 'us-east-1' },
    ],
    ['s3:// without a prefix', { BACKUP_STORAGE: 's3://backups' }, { bucket: 'backups', prefix: '' }],
    [
      's3:// with keys and endpoint of S3_*',
      {
        BACKUP_STORAGE: 's3://backups/eu',
        S3_ENDPOINT: 'minio:9000',
        S3_ACCESS_KEY_ID: 'AK',
        S3_SECRET_ACCESS_KEY: 'SK',
      },
      { bucket: 'backups', prefix: 'eu', endpoint: 'https://minio:9000', credentials: keys },
    ],
    [
      'S3_* beside AWS names that belong to something else',
      { ...S3, AWS_REGION: 'eu-west-1', AWS_ENDPOINT_URL: 'https://x' },
      { region: 'us-east-1', endpoint: 'https://minio.lan:9000', credentials: keys },
    ],
    ['two groups that say the same', { ...S3, BUCKET_NAME: 'backups' }, { bucket: 'backups', credentials: keys }],
    [
      'an endpoint with a profile',
      { S3_BUCKET: 'backups', S3_ENDPOINT: 'minio', AWS_PROFILE: 'lan' },
      { credentials: chain },
    ],
  ])('%s', async (_title, env, expected) => {
    expect(open(await store(env))).toMatchObject(expected);
  });

  test('an unknown provider of rclone leaves no provider', async () => {
    expect(await store({ ...RCLONE, RCLONE_S3_PROVIDER: 'Other', RCLONE_S3_ENDPOINT: 'x.lan' })).not.toHaveProperty(
      'provider',
    );
  });

  test.each<[string, Env, readonly string[]]>([
    ['another bucket', { ...S3, BUCKET_NAME: 'other' }, ['BUCKET_NAME', 'S3_BUCKET', 'bucket']],
    ['another bucket of rclone', { ...S3, RCLONE_S3_BUCKET: 'other' }, ['RCLONE_S3_BUCKET', 'S3_BUCKET']],
    ['another bucket in BACKUP_STORAGE', { ...S3, BACKUP_STORAGE: 's3://other' }, ['BACKUP_STORAGE', 'S3_BUCKET']],
    ['a directory beside a bucket', { ...S3, BACKUP_STORAGE: 'file:///x' }, ['BACKUP_STORAGE', 'S3_BUCKET']],
    ['another endpoint', { ...URL, S3_ENDPOINT: 'https://elsewhere' }, ['S3_ENDPOINT', 'S3_URL', 'endpoint']],
    [
      'another endpoint of AWS, whose keys are used',
      {
        S3_BUCKET: 'backups',
        S3_ENDPOINT: 'minio',
        AWS_ENDPOINT_URL_S3: 'https://x',
        AWS_ACCESS_KEY_ID: 'AK',
        AWS_SECRET_ACCESS_KEY: 'SK',
      },
      ['AWS_ENDPOINT_URL_S3', 'S3_ENDPOINT'],
    ],
    ['another key', { ...S3, S3_ACCESS_KEY: 'other-secret' }, ['S3_ACCESS_KEY', 'S3_ACCESS_KEY_ID', 'access key']],
    [
      'keys of another group',
      { S3_BUCKET: 'backups', S3_ACCESS_KEY: 'AK', S3_SECRET_KEY: 'other-secret' },
      ['S3_ACCESS_KEY:', 'use S3_ACCESS_KEY_ID'],
    ],
    ['another prefix', { ...URL, BACKUP_PREFIX: 'us' }, ['BACKUP_PREFIX', 'S3_PATH', 'prefix']],
  ])('%s is a conflict that names both variables', async (_title, env, words) => {
    const error = await store(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-conflict', exitCode: 1 });
    for (const word of words) expect(String(error)).toContain(word);
    expect(String(error)).not.toContain('other-secret');
  });

  test.each<[string, Env, readonly string[]]>([
    ['the bucket and both keys', { S3_ENDPOINT: 'minio' }, ['S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY']],
    ['the secret key', { S3_BUCKET: 'backups', S3_ACCESS_KEY_ID: 'AK' }, ['S3_SECRET_ACCESS_KEY']],
    ['the secret key of S3_URL', { S3_URL: 's3://backups', S3_ACCESS_KEY: 'AK' }, ['S3_SECRET_KEY']],
    ['the bucket of S3_URL', { S3_URL: 'http://minio', S3_ACCESS_KEY: 'AK', S3_SECRET_KEY: 'SK' }, ['S3_PATH']],
    [
      'the bucket of rclone',
      { RCLONE_S3_ACCESS_KEY_ID: 'AK', RCLONE_S3_SECRET_ACCESS_KEY: 'SK' },
      ['RCLONE_S3_BUCKET'],
    ],
    ['half of the AWS keys', { BUCKET_NAME: 'backups', AWS_ACCESS_KEY_ID: 'AK' }, ['AWS_SECRET_ACCESS_KEY']],
  ])('%s missing is one error that names all', async (_title, env, names) => {
    const error = await store(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-missing', exitCode: 1 });
    for (const name of names) expect(String(error)).toContain(name);
  });

  test.each<[string, Env, string]>([
    ['an endpoint that is no address', { ...S3, S3_ENDPOINT: 'ftp://minio' }, 'S3_ENDPOINT'],
    ['an endpoint with a password', { ...S3, S3_ENDPOINT: 'https://u:hunter2@minio' }, 'S3_ENDPOINT'],
    ['an endpoint with a path', { ...S3, S3_ENDPOINT: 'https://minio/backups' }, 'S3_ENDPOINT'],
    ['a bucket that is no name', { ...S3, S3_BUCKET: 'my bucket' }, 'S3_BUCKET'],
    ['a region that is none', { ...S3, S3_REGION: 'eu central' }, 'S3_REGION'],
    ['a prefix that climbs', { ...S3, BACKUP_PREFIX: 'a/../b' }, 'BACKUP_PREFIX'],
    ['a prefix of a directory that climbs', { BACKUP_PREFIX: '../b' }, 'BACKUP_PREFIX'],
    ['a storage of no kind', { BACKUP_STORAGE: 'ftp://hunter2@x' }, 'BACKUP_STORAGE'],
    ['a bare path', { BACKUP_STORAGE: '/backups' }, 'BACKUP_STORAGE'],
    ['an S3_URL that is neither', { ...URL, S3_URL: 's3://' }, 'S3_URL'],
  ])('%s is an invalid storage configuration, exit 3', async (_title, env, name) => {
    const error = await store(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'storage-config-invalid', exitCode: 3 });
    expect(String(error)).toContain(name);
    expect(String(error)).not.toContain('hunter2');
  });

  test('a storage that is wrong does no harm where only the database is needed', async () => {
    const env = { DATABASE_URL: 'postgres://app@db/shop', S3_BUCKET: 'my bucket' };
    const config = await loadConfig({ env, cwd: '/srv', needs: ['database'] });
    expect([...config.storages.keys()]).toEqual([]);
    expect([...config.databases.keys()]).toEqual(['shop']);
  });
});
