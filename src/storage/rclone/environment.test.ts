import { describe, expect, test } from 'vitest';
import { GIB, MIB } from '../../common/bytes.ts';
import { chunkSizes, findRclone, rcloneEnvironment, secretsOf } from './environment.ts';

describe('the environment of rclone', () => {
  test.each([
    'PATH',
    'HOME',
    'https_proxy',
    'SSL_CERT_FILE',
    'XDG_CONFIG_HOME',
    'AWS_ACCESS_KEY_ID',
    'GOOGLE_APPLICATION_CREDENTIALS',
    'RCLONE_CONFIG',
    'RCLONE_CONFIG_PASS',
    'RCLONE_CONFIG_GDRIVE_TOKEN',
    'RCLONE_S3_SECRET_ACCESS_KEY',
    'RCLONE_HASHER_HASHES',
    'RCLONE_BWLIMIT',
    'RCLONE_CA_CERT',
    'RCLONE_HEADER',
    'RCLONE_LOW_LEVEL_RETRIES',
  ])('has %s', (name) => {
    expect(rcloneEnvironment({ [name]: 'value' })).toMatchObject({ [name]: 'value' });
  });

  test.each([
    'PGPASSWORD',
    'DATABASE_URL',
    'BACKUP_ENCRYPTION_KEY',
    'S3_SECRET_ACCESS_KEY',
    'NODE_OPTIONS',
    'LD_PRELOAD',
    // Its S3 client does not start with it.
    'AWS_CA_BUNDLE',
    // These hide objects, change what is written, or show credentials.
    'RCLONE_EXCLUDE',
    'RCLONE_MAX_AGE',
    'RCLONE_FILES_FROM_RAW',
    'RCLONE_MIN_SIZE',
    'RCLONE_DRY_RUN',
    'RCLONE_INTERACTIVE',
    'RCLONE_IGNORE_EXISTING',
    'RCLONE_IMMUTABLE',
    'RCLONE_BACKUP_DIR',
    'RCLONE_HEAD',
    'RCLONE_OFFSET',
    'RCLONE_VERBOSE',
    'RCLONE_DUMP',
    'RCLONE_DUMP_HEADERS',
    'RCLONE_LOG_FILE',
    'RCLONE_RC_ADDR',
    'RCLONE_HASH_TYPE',
  ])('has no %s', (name) => {
    expect(rcloneEnvironment({ [name]: 'value' })).not.toHaveProperty(name);
  });

  test('lets nobody turn on questions or debugging, but choose his own time limits', () => {
    expect(
      rcloneEnvironment({
        RCLONE_ASK_PASSWORD: 'true',
        RCLONE_LOG_LEVEL: 'DEBUG',
        RCLONE_CONTIMEOUT: '5s',
        TZ: 'Asia/Tokyo',
      }),
    ).toMatchObject({
      RCLONE_ASK_PASSWORD: 'false',
      RCLONE_LOG_LEVEL: 'NOTICE',
      RCLONE_CONTIMEOUT: '5s',
      RCLONE_S3_NO_CHECK_BUCKET: 'true',
      TZ: 'UTC',
    });
  });
});

describe('the size of parts', () => {
  test.each([
    ['nothing is known', undefined, '32M'],
    ['the stream is short', 10 * MIB, '16M'],
    ['the stream is long', 500 * GIB, '57M'],
  ])('lets the stream fit into the parts that S3 allows, where %s', (_title, estimate, size) => {
    expect(chunkSizes(estimate, {})).toMatchObject({ RCLONE_S3_CHUNK_SIZE: size });
    if (estimate !== undefined) expect(Number.parseInt(size, 10) * MIB * 10_000).toBeGreaterThan(estimate);
  });

  test('is the caller’s where he said it', () => {
    expect(chunkSizes(1, { RCLONE_S3_CHUNK_SIZE: '5Mi' })).not.toHaveProperty('RCLONE_S3_CHUNK_SIZE');
  });
});

test('secrets are what variables with such names hold', () => {
  const env = {
    RCLONE_CONFIG_X_PASS: 'hidden1',
    AWS_SECRET_ACCESS_KEY: 'hidden2',
    RCLONE_BWLIMIT: '10M-limit',
    KEY: '',
  };
  expect(secretsOf(env)).toEqual(['hidden1', 'hidden2']);
});

test('rclone is looked for in absolute folders only: what lies in the working directory may be anybody’s', () => {
  expect(findRclone({ PATH: '' })).toBeUndefined();
  expect(findRclone({})).toBeUndefined();
  expect(findRclone({ PATH: '.:bin::/nonexistent' })).toBeUndefined();
});
