import { describe, expect, test } from 'vitest';
import { PgarkError } from '../common/errors.ts';
import { checkPlainNameTemplate, PLAIN_NAME_TEMPLATE, plainName } from './plain-name.ts';

const facts = {
  source: 'shop',
  database: 'we"ird/na me-Ü',
  id: '20261120T020304Z-pabc234',
  startedAt: new Date('2026-11-20T02:03:04.567Z'),
};

describe('names of plain backups', () => {
  test.each([
    [PLAIN_NAME_TEMPLATE, ['.gz'], 'we"ird%2Fna me-Ü_2026-11-20T02:03:04Z.sql.gz'],
    ['postgres-backup-{YYYY-MM-DD_HH-MM-SS}.sql.gz', ['.gz'], 'postgres-backup-2026-11-20_02-03-04.sql.gz'],
    ['backup_{YYYYMMDD_HHMMSS}.sql.gz', ['.zst', '.age'], 'backup_20261120_020304.sql.zst.age'],
    ['{source}/{YYYY}/{MM}/{id}', [], 'shop/2026/11/20261120T020304Z-pabc234.sql'],
  ])('the template %s becomes a name', (template, endings, name) => {
    expect(plainName(template, facts, endings)).toBe(name);
  });

  test.each([
    ['{databse}_{YYYY-MM-DDTHH:MM:SSZ}', 'unknown'],
    ['{database}', 'seconds'],
    ['backup_{YYYY-MM-DD}', 'seconds'],
    ['{database}_{HH-MM-SS}', 'same name'],
    ['{database}_{SS}', 'same name'],
    ['{YYYY-MM-DD}_{HH-SS}', 'same name'],
    ['{YYYY-MM-DD_MM-SS}', 'same name'],
    ['{YYYY-MM-DD}_{HH}-{MM}-{SS}', 'same name'],
    ['{YYYY-DD_HH-MM-SS}', 'same name'],
    ['{YYYY-MM_HH-MM-SS}', 'same name'],
    ['{MM-DD_HH-MM-SS}', 'same name'],
    ['{database_{id}', 'brace'],
    ['', 'empty'],
    ['/{id}', 'empty'],
    ['a//{id}', 'empty'],
    ['../{id}', 'dot'],
    ['.pgark/{id}', 'dot'],
  ])('the template %s is refused', (template, why) => {
    expect(() => checkPlainNameTemplate(template, { severalDatabases: false })).toThrow(PgarkError);
    expect(() => checkPlainNameTemplate(template, { severalDatabases: false })).toThrow(why);
  });

  test.each(['{YYYY}/{MM}/{DD}/{HH-MM-SS}', '{YYMMDDHHMMSS}', '{SS}_{id}'])('the template %s will do', (template) => {
    checkPlainNameTemplate(template, { severalDatabases: false });
  });

  test('several databases need the database, the source or the id in the name', () => {
    expect(() => checkPlainNameTemplate('b_{YYYYMMDD_HHMMSS}', { severalDatabases: true })).toThrow('{database}');
    checkPlainNameTemplate('{database}_{YYYYMMDD_HHMMSS}', { severalDatabases: true });
    checkPlainNameTemplate('{source}_{YYYYMMDD_HHMMSS}', { severalDatabases: true });
    checkPlainNameTemplate('{id}', { severalDatabases: true });
  });

  test('several databases of one source need the database or the id in the name', () => {
    const options = { severalDatabases: true, severalOfOneSource: true };
    expect(() => checkPlainNameTemplate('{source}_{YYYYMMDD_HHMMSS}', options)).toThrow('it has no {database}');
    checkPlainNameTemplate('{database}_{YYYYMMDD_HHMMSS}', options);
    checkPlainNameTemplate('{source}_{id}', options);
  });
});
