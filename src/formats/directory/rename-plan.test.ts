import { describe, expect, test } from 'vitest';
import { tocEntry } from '../../../test/support/toc-entry.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import { renameStatements } from './rename-plan.ts';

function defined(entry: TocEntry, definition: string): TocEntry {
  return { ...entry, definition: toByteString(definition) };
}

const ENTRIES = [
  tocEntry(1, 'SCHEMA', 'shop'),
  tocEntry(2, 'TABLE', 'shop.orders'),
  tocEntry(3, 'TABLE', 'crm.person'),
  tocEntry(4, 'TABLE', 'shop.person'),
  tocEntry(5, 'TABLE', 'public.shop'),
  tocEntry(6, 'VIEW', 'shop.orders_of_today', 2),
  defined(
    tocEntry(7, 'FUNCTION', 'public.parsed()'),
    'CREATE FUNCTION public.parsed() RETURNS bigint\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT count(*) FROM shop.orders;\nEND;\n',
  ),
  defined(
    tocEntry(8, 'FUNCTION', 'public.typed(shop.orders)'),
    'CREATE FUNCTION public.typed(o shop.orders) RETURNS int\n    LANGUAGE sql\n    AS $$ SELECT 1 $$;\n',
  ),
];

function rename(renames: Readonly<Record<string, string>>, more: readonly TocEntry[] = [], path = '"$user", public') {
  const names = Object.entries(renames).map(([from, to]) => ({ from, to }));
  return renameStatements(names, [...ENTRIES, ...more], [{ name: 'search_path', value: path }]);
}

describe('other names', () => {
  test('are given to tables, which stay in their schemas, and then to schemas', () => {
    expect(rename({ crm: 'people', 'shop.orders': 'shop.orders "old"', 'crm.person': 'human' })).toEqual([
      'ALTER TABLE "shop"."orders" RENAME TO "orders ""old"""',
      'ALTER TABLE "crm"."person" RENAME TO "human"',
      'ALTER SCHEMA "crm" RENAME TO "people"',
    ]);
    expect(rename({ orders: 'orders_old' })).toEqual(['ALTER TABLE "shop"."orders" RENAME TO "orders_old"']);
  });

  test.each<[what: string, renames: Readonly<Record<string, string>>, words: RegExp]>([
    ['a table that two schemas have', { person: 'human' }, /may mean table crm\.person or table shop\.person/],
    ['what is a table and a schema', { shop: 'store' }, /may mean table public\.shop or schema shop/],
    ['another schema', { 'shop.orders': 'crm.orders' }, /a table stays in its schema, shop/],
    ['no name', { 'shop.orders': '' }, /no name that a table can have/],
    ['a name that is cut', { 'shop.orders': 'Ü'.repeat(32) }, /no name that a table can have/],
    ['a schema’s name that the server keeps for itself', { crm: 'pg_crm' }, /no name that a schema can have/],
    ['the same thing twice', { orders: 'a', 'shop.orders': 'b' }, /names the same thing twice/],
    ['one name for two', { 'shop.orders': 'a', 'shop.person': 'a' }, /gives two things the same name/],
  ])('are wrong usage for %s', (_what, renames, words) => {
    expect(() => rename(renames)).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringMatching(words) }),
    );
  });

  test.each<[what: string, renames: Readonly<Record<string, string>>, words: RegExp]>([
    ['a name that is taken', { 'shop.orders': 'orders_of_today' }, /has something of that name/],
    ['a schema’s that is taken', { crm: 'shop' }, /has something of that name/],
    ['the schema of a new database', { crm: 'public' }, /has something of that name/],
    ['what is not there', { 'shop.order': 'orders_old' }, /no table or schema shop\.order/],
  ])('are refused for %s', (_what, renames, words) => {
    expect(() => rename(renames)).toThrow(
      expect.objectContaining({ code: 'restore-failed', message: expect.stringMatching(words) }),
    );
  });

  const body = (text: string, settings = ''): TocEntry =>
    defined(
      tocEntry(20, 'FUNCTION', 'public.f()'),
      `CREATE FUNCTION public.f() RETURNS int\n    LANGUAGE sql\n${settings}    AS $_$${text}$_$;\n`,
    );
  const trigger = (text: string): TocEntry =>
    defined(
      tocEntry(20, 'TRIGGER', 'crm.person t', 3),
      `CREATE TRIGGER t AFTER INSERT ON crm.person FOR EACH ROW EXECUTE FUNCTION public.f(${text});\n`,
    );

  test.each<[what: string, from: string, entry: TocEntry, refused: boolean]>([
    ['the body of a function', 'shop.orders', body('select count(*) from shop.Orders'), true],
    ['a quoted name in a body', 'shop.orders', body('insert into "orders"(a) values (1)'), true],
    ['another word in a body', 'shop.orders', body('select * from shop.reorders, orders_2, éorders'), false],
    ['a table’s name in a schema', 'crm', body('select * from crm.person'), true],
    ['the search path of a function', 'crm', body('', `    SET search_path TO 'crm', 'pg_temp'\n`), true],
    ['an argument of a trigger', 'shop.orders', trigger("'shop.orders'"), true],
    ['the table of a trigger', 'crm.person', trigger(''), false],
  ])('are refused where PostgreSQL would not follow them: %s', (_what, from, entry, refused) => {
    const failure = { code: 'restore-failed', message: expect.stringContaining('cannot be renamed faithfully') };
    if (refused) expect(() => rename({ [from]: 'another' }, [entry])).toThrow(expect.objectContaining(failure));
    else expect(rename({ [from]: 'another' }, [entry])).toHaveLength(1);
  });

  test('are refused for a schema that the database’s own settings name', () => {
    expect(() => rename({ crm: 'people' }, [], 'crm, public')).toThrow(/as text: setting search_path/);
    expect(rename({ 'crm.person': 'human' }, [], 'person')).toHaveLength(1);
  });
});
