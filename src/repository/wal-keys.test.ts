import { expect, test } from 'vitest';
import { parseWalFileName, parseWalKey, walKey, type WalName, walSegmentPrefix } from './wal-keys.ts';

const FOLDER = { source: 'a/b', systemIdentifier: '7380000000000000001' };
const NAME = '00000001000000A2000000F3';

test.each<[WalName, string, string]>([
  [{ kind: 'segment', name: NAME }, '.zst', `a%2Fb/wal/7380000000000000001/00000001/${NAME}.zst`],
  [
    { kind: 'delta', name: NAME, from: 0xa000, to: 0xf000 },
    '.zst.age',
    `a%2Fb/wal/7380000000000000001/00000001/${NAME}.00A000-00F000.delta.zst.age`,
  ],
  [
    { kind: 'delta', name: NAME, from: 0, to: 0x3fff_ffff },
    '.zst.enc',
    `a%2Fb/wal/7380000000000000001/00000001/${NAME}.000000-3FFFFFFF.delta.zst.enc`,
  ],
  [{ kind: 'history', name: '00000002.history' }, '', 'a%2Fb/wal/7380000000000000001/00000002.history'],
  [{ kind: 'file', name: `${NAME}.partial` }, '.zst', `a%2Fb/wal/7380000000000000001/00000001/${NAME}.partial.zst`],
  [
    { kind: 'file', name: `${NAME}.00000028.backup` },
    '.zst.age',
    `a%2Fb/wal/7380000000000000001/00000001/${NAME}.00000028.backup.zst.age`,
  ],
])('the key of %o is read as it was written', (wal, endings, key) => {
  expect(walKey(FOLDER, wal, endings)).toBe(key);
  const encryption = /\.(age|enc)$/.exec(endings)?.[0];
  expect(parseWalKey(key)).toEqual({ ...wal, source: 'a%2Fb', systemIdentifier: FOLDER.systemIdentifier, encryption });
  if (wal.kind !== 'history') expect(key.startsWith(walSegmentPrefix(FOLDER, NAME))).toBe(true);
});

test.each([
  'shop/wal/1/00000002.history.age',
  'shop/wal/1/00000001/00000002.history.zst',
  `shop/wal/1/00000001/${NAME}`,
  `shop/wal/1/00000002/${NAME}.zst`,
  `shop/wal/1/${NAME}.zst`,
  `shop/wal/one/00000001/${NAME}.zst`,
  `shop/wal/1/00000001/${NAME}.zst.gpg`,
  `shop/wal/1/00000001/${NAME}.00F000-00A000.delta.zst`,
  `shop/wal/1/00000001/${NAME.toLowerCase()}.zst`,
  `a/shop/wal/1/00000001/${NAME}.zst`,
  `shop/wal/1/00000001/${NAME}.delta.zst`,
])('%s is none of WAL', (key) => {
  expect(parseWalKey(key)).toBeUndefined();
});

test('a server’s own file names are told apart', () => {
  expect(parseWalFileName(NAME)).toEqual({ kind: 'segment', name: NAME });
  expect(parseWalFileName('0000000A.history')).toEqual({ kind: 'history', name: '0000000A.history' });
  expect(parseWalFileName(`${NAME}.partial`)?.kind).toBe('file');
  expect(parseWalFileName(`${NAME}.0000AB28.backup`)?.kind).toBe('file');
  for (const name of ['', 'PG_VERSION', `../${NAME}`, `${NAME}.zst`, '1.history']) {
    expect(parseWalFileName(name)).toBeUndefined();
  }
});
