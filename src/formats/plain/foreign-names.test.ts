import { describe, expect, test } from 'vitest';
import { looksLikeDump, readForeignName } from './foreign-names.ts';

describe('the name of another tool’s dump', () => {
  test.each([
    ['backup/shop_2026-11-20T02:03:04.dump', 'shop', '2026-11-20T02:03:04Z'],
    ['backup/my_shop-eu_2026-11-20T02:03:04.dump.gpg', 'my_shop-eu', '2026-11-20T02:03:04Z'],
    ['shop_2026-11-20T02:03:04Z.sql.gz', 'shop', '2026-11-20T02:03:04Z'],
    ['last/shop-20261120-020304.sql.gz', 'shop', '2026-11-20T02:03:04Z'],
    ['pre/daily/my-shop-20261120.sql.gz', 'my-shop', undefined],
    ['weekly/shop-202647.sql.gz', 'shop', undefined],
    ['monthly/shop-202611.sql.gz', 'shop', undefined],
    ['last/shop-latest.sql.gz', 'shop', undefined],
    ['sub/backup-2026-11-20T02-03-04-567Z.tar.gz', undefined, '2026-11-20T02:03:04Z'],
    ['sub/shop-2026-11-20T02-03-04-567Z.tar.gz', undefined, '2026-11-20T02:03:04Z'],
    ['2026/November/PG_gis.20-November-2026-02-03.dmp', 'gis', '2026-11-20T02:03:00Z'],
    ['2019/February/PG_my_gis.7-February-2019.dmp.gz', 'my_gis', '2019-02-07T00:00:00Z'],
    ['postgres-backup-2026-11-20_02-03-04.sql.gz', undefined, '2026-11-20T02:03:04Z'],
    ['backup_20261120_020304.sql.gz', undefined, '2026-11-20T02:03:04Z'],
    ['we"ird na me-Ü_2026-11-20T02:03:04.dump', 'we"ird na me-Ü', '2026-11-20T02:03:04Z'],
    ['shop_2026-13-20T02:03:04.dump', 'shop', undefined],
    ['shop_2026-02-30T02:03:04.dump', 'shop', undefined],
    ['old.sql', undefined, undefined],
    ['20261120_020304.sql', undefined, '2026-11-20T02:03:04Z'],
  ])('%s tells the database %s and the time %s', (key, database, takenAt) => {
    expect(looksLikeDump(key)).toBe(true);
    expect(readForeignName(key)).toEqual({ database, takenAt: takenAt === undefined ? undefined : new Date(takenAt) });
  });

  test.each([
    'readme.txt',
    'backup-2026-11-20T02-03-04.tar.gz',
    'x.sql.md5',
    'PG_gis.20-November-2026.dir.tar.gz',
    'dump',
  ])('%s is none', (key) => {
    expect(looksLikeDump(key)).toBe(false);
  });
});
