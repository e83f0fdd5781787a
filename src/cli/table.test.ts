import { describe, expect, test } from 'vitest';
import { type Column, formatCount, formatFacts, formatTable, formatTime } from './table.ts';

const columns: readonly Column[] = [
  { title: 'ID' },
  { title: 'STORED', align: 'right' },
  { title: 'TOOK', align: 'right', yields: true },
  { title: 'FILE', yields: true },
];
const rows = [
  ['a', '1.0 KiB', '12 ms', 'shop_a.sql.gz'],
  ['long-id', '12.5 MiB', '3.1 s', 'shop_b.sql.gz'],
];

describe('a table', () => {
  test('has columns as wide as their widest cell and no blanks at the ends of lines', () => {
    expect(formatTable(columns, rows)).toBe(
      [
        'ID         STORED   TOOK  FILE',
        'a         1.0 KiB  12 ms  shop_a.sql.gz',
        'long-id  12.5 MiB  3.1 s  shop_b.sql.gz',
        '',
      ].join('\n'),
    );
  });

  test('that is too wide leaves out the columns that may yield, the last one first', () => {
    const widest = Math.max(
      ...formatTable(columns, rows)
        .split('\n')
        .map((line) => line.length),
    );
    expect(formatTable(columns, rows, widest)).toBe(formatTable(columns, rows));
    expect(formatTable(columns, rows, widest - 1).split('\n')[0]).toBe('ID         STORED   TOOK');
    expect(formatTable(columns, rows, 20).split('\n')[0]).toBe('ID         STORED');
  });

  test('never cuts the columns that have to stay', () => {
    expect(formatTable(columns, rows, 5)).toContain('long-id  12.5 MiB');
  });

  test('of no rows is its head', () => {
    expect(formatTable([{ title: 'A' }, { title: 'B' }], [])).toBe('A  B\n');
  });

  test('counts characters, not UTF-16 units', () => {
    expect(formatTable([{ title: 'A' }, { title: 'B' }], [['🐘', 'x']])).toBe('A  B\n🐘  x\n');
  });

  test('of very many rows is no deeper than its stack', () => {
    const many = Array.from({ length: 200_000 }, (_, index) => [String(index)]);
    expect(formatTable([{ title: 'N' }], many).endsWith('\n199999\n')).toBe(true);
  });
});

test('facts are padded, and those without a value left out', () => {
  expect(
    formatFacts([
      ['id', '1'],
      ['left out', undefined],
      ['storage', 'x'],
    ]),
  ).toBe('id       1\nstorage  x\n');
});

test('counts say one backup and two backups', () => {
  expect([0, 1, 2].map((count) => formatCount(count, 'backup'))).toEqual(['0 backups', '1 backup', '2 backups']);
});

test('times are UTC to the second', () => {
  expect(formatTime('2026-11-20T02:00:00.999+01:00')).toBe('2026-11-20T01:00:00Z');
});
