import { describe, expect, test } from 'vitest';
import { environmentNames } from './environment-names.ts';
import { foreignVariables } from './foreign-variables.ts';

const names = `
  SCHEDULE BACKUP_KEEP_DAYS PASSPHRASE S3_PREFIX S3_S3V4 POSTGRES_DATABASE PGDUMP_EXTRA_OPTS POSTGRES_EXTRA_OPTS
  POSTGRES_PASSFILE_STORE POSTGRES_CLUSTER BACKUP_DIR BACKUP_SUFFIX BACKUP_ON_START BACKUP_LATEST_TYPE
  BACKUP_KEEP_MINS BACKUP_KEEP_WEEKS BACKUP_KEEP_MONTHS HEALTHCHECK_PORT WEBHOOK_ERROR_URL WEBHOOK_PRE_BACKUP_URL
  WEBHOOK_POST_BACKUP_URL BACKUP_DATABASE_URL BACKUP_CRON_SCHEDULE AWS_S3_BUCKET AWS_S3_REGION AWS_S3_ENDPOINT
  AWS_S3_FORCE_PATH_STYLE RUN_ON_STARTUP SINGLE_SHOT_MODE BACKUP_FILE_PREFIX BUCKET_SUBFOLDER BACKUP_OPTIONS
  POSTGRES_PASS DBLIST CRON_SCHEDULE REMOVE_BEFORE MIN_SAVED_FILE DUMP_ARGS RUN_ONCE TARGET_DB TARGET_ARCHIVE
  BACKUP_CRON_EXPRESSION BACKUP_PRUNING_PREFIX AWS_S3_BUCKET_NAME AWS_S3_PATH GPG_PASSPHRASE AGE_PUBLIC_KEYS
  NOTIFICATION_URLS PGSERVICE
`
  .trim()
  .split(/\s+/);

describe('variables of other tools', () => {
  test.each(names)('%s is known, and is none of pgark’s own', (name) => {
    const [found, ...others] = foreignVariables({ [name]: 'a value' });
    expect(others).toEqual([]);
    expect(found).toMatchObject({ name, ownIsSet: false });
    expect(found?.own ?? found?.remark).toBeDefined();
    expect(environmentNames.map((own) => own.name)).not.toContain(name);
  });

  test('lead to names that pgark has', () => {
    const own = new Set(environmentNames.map(({ name }) => name));
    const env = Object.fromEntries(names.map((name) => [name, 'x']));
    const led = foreignVariables(env).flatMap(({ own: to }) => to ?? []);
    expect(led.filter((name) => !own.has(name))).toEqual([]);
    expect(led.length).toBeGreaterThan(25);
  });

  test('are reported when they are set, also as files, with whether their own name is', () => {
    const env = { SCHEDULE: '@daily', BACKUP_SCHEDULE: '@daily', PASSPHRASE: '', POSTGRES_DATABASE_FILE: '/run/x' };
    expect(foreignVariables(env)).toMatchObject([
      { name: 'SCHEDULE', own: 'BACKUP_SCHEDULE', ownIsSet: true },
      { name: 'POSTGRES_DATABASE_FILE', own: 'POSTGRES_DB', ownIsSet: false },
    ]);
    expect(foreignVariables({ DATABASE_URL: 'x', S3_BUCKET: 'y', PATH: '/bin' })).toEqual([]);
  });

  test('that are pgark’s too are reported where their value is written in another way', () => {
    expect(foreignVariables({ BACKUP_FILENAME: 'x-%Y.sql', POSTGRES_DB: 'a,b' }).map(({ name }) => name)).toEqual([
      'BACKUP_FILENAME',
      'POSTGRES_DB',
    ]);
    expect(foreignVariables({ BACKUP_FILENAME: '{database}_{id}', POSTGRES_DB: 'a b' })).toEqual([]);
  });

  test('never show a value', () => {
    const env = Object.fromEntries(names.map((name) => [name, 'the secret value']));
    expect(JSON.stringify(foreignVariables(env))).not.toContain('the secret value');
  });
});
