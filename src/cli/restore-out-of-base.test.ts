import { describe, expect, test } from 'vitest';
import { checkOutOfBase } from './restore-out-of-base.ts';

describe('one database out of a physical backup', () => {
  test('is asked for with --database alone, or with a folder for the work', () => {
    checkOutOfBase({});
    checkOutOfBase({ database: 'shop', toDb: 'rescued', lsn: '0/3000028', workDir: '/srv' });
  });

  test.each([
    [{ workDir: '/srv' }, '--work-dir goes with --database'],
    [{ database: '' }, '--database needs the name'],
    [{ database: 'shop', toDir: '/srv/x' }, '--to-dir does not go with --database'],
    [{ database: 'shop', foreign: true }, '--foreign does not go with --database'],
    [{ database: 'shop', start: true }, '--start does not go with --database'],
    [{ database: 'shop', port: '5433' }, '--port does not go with --database'],
    [{ database: 'shop', tablespaceMapping: ['/a=/b'] }, '--tablespace-mapping goes with --to-dir'],
    [{ database: 'shop', allowTablespacePaths: true }, '--allow-tablespace-paths goes with --to-dir'],
  ])('is refused for %j', (options, words) => {
    expect(() => checkOutOfBase(options)).toThrow(words);
  });
});
