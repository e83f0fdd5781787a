import { describe, expect, test } from 'vitest';
import { environmentNames } from './environment-names.ts';
import { unknownVariables } from './unknown-variables.ts';

const unknown = (env: Record<string, string>) => unknownVariables(env, ['BACKUP_', 'PGARK_']);

describe('a variable that begins as pgark’s own do and is none', () => {
  test.each([
    ['BACKUP_RETENTION_DAY', 'BACKUP_RETENTION_DAYS'],
    ['BACKUP_RETENTON_DAYS', 'BACKUP_RETENTION_DAYS'],
    ['BACKUP_SHEDULE', 'BACKUP_SCHEDULE'],
    ['BACKUP_ENCRYPTION_KEYS_FILE', 'BACKUP_ENCRYPTION_KEY_FILE'],
    ['PGARK_CONFG', 'PGARK_CONFIG'],
  ])('%s is told of, with %s as what was meant', (name, meant) => {
    expect(unknown({ [name]: '3' })).toEqual([
      `${name} is no setting of pgark and was ignored; did you mean ${meant}?`,
    ]);
  });

  test('is told of without a guess where nothing is near', () => {
    for (const name of ['BACKUP_KEEP', 'BACKUP_HOST', 'BACKUP_SOURCES', 'PGARK_DATA']) {
      expect(unknown({ [name]: 'x' })).toEqual([`${name} is no setting of pgark and was ignored`]);
    }
  });

  test('never shows its value', () => {
    expect(unknown({ BACKUP_ENCRYPTION_KYE: 'hunter2' }).join()).not.toContain('hunter2');
  });
});

describe('nothing is said', () => {
  test('of pgark’s own names, also as files', () => {
    const own = environmentNames.flatMap(({ name }) => [name, `${name}_FILE`]);
    expect(unknown(Object.fromEntries(own.map((name) => [name, 'x'])))).toEqual([]);
  });

  test('of what other tools call their settings, of an empty variable, and of other names', () => {
    expect(unknown({ BACKUP_KEEP_DAYS: '7', BACKUP_DIR: '/x', BACKUP_DATABASE_URL_FILE: '/y' })).toEqual([]);
    expect(unknown({ BACKUP_RETENTION_DAY: '', MY_BACKUP_DAYS: '3', BACKUPS: 'x', pgark_config: 'x' })).toEqual([]);
  });

  test('of what Kubernetes and Docker set for a service called pgark or backup', () => {
    const names = ['PGARK_SERVICE_HOST', 'PGARK_SERVICE_PORT_HTTP', 'BACKUP_PORT', 'PGARK_PORT_8080_TCP_ADDR'];
    expect(unknown(Object.fromEntries(names.map((name) => [name, 'x'])))).toEqual([]);
  });

  test('of what a hook is told, when it calls pgark', () => {
    expect(unknown({ PGARK_HOOK: 'after', PGARK_DATABASE: 'shop', PGARK_RESULT: 'succeeded' })).toEqual([]);
  });
});
