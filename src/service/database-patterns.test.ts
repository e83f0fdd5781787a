import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CandidateDatabase, mayChooseSeveral, selectDatabases } from './database-patterns.ts';

const ordinary = (name: string): CandidateDatabase => ({
  name,
  isTemplate: false,
  allowsConnections: true,
  mayConnect: true,
});
const server: readonly CandidateDatabase[] = [
  ...['postgres', 'shop', 'shop_eu', 'Shop', 'crm', 'test_1', 'test_keep'].map(ordinary),
  { ...ordinary('template1'), isTemplate: true },
  { ...ordinary('template0'), isTemplate: true, allowsConnections: false },
  { ...ordinary('closed'), allowsConnections: false },
  { ...ordinary('secret'), mayConnect: false },
  ordinary('shop_restoring_01K5ABCDEFGHJKMNPQRSTVWXYZ'),
  ordinary('shop_before_01K5ABCDEFGHJKMNPQRSTVWXYZ'),
];
const all = [
  'Shop',
  'crm',
  'postgres',
  'shop',
  'shop_before_01K5ABCDEFGHJKMNPQRSTVWXYZ',
  'shop_eu',
  'test_1',
  'test_keep',
];
const choose = (...patterns: string[]): readonly string[] => selectDatabases(patterns, server).names;

describe('patterns over the databases of a server', () => {
  test('"*" chooses all but templates, databases that allow no connections, and what a restore is loading', () => {
    expect(choose('*')).toEqual(all);
    expect(choose('**')).toEqual(all);
  });

  test.each([
    [['shop*'], ['shop', 'shop_before_01K5ABCDEFGHJKMNPQRSTVWXYZ', 'shop_eu']],
    [
      ['*', '!shop*', '!test*', '!postgres'],
      ['Shop', 'crm'],
    ],
    [
      ['*', '!*_before_*', '!test*'],
      ['Shop', 'crm', 'postgres', 'shop', 'shop_eu'],
    ],
    [['?hop'], ['Shop', 'shop']],
    [['test_?'], ['test_1']],
    [
      ['*_*', '!shop*'],
      ['test_1', 'test_keep'],
    ],
    [['hop'], ['hop']],
    [['*hop'], ['Shop', 'shop']],
  ])('%j choose %j', (patterns, names) => {
    expect(choose(...patterns)).toEqual(names);
  });

  test('are applied in their order: the later one wins', () => {
    expect(choose('test*', '!test*', 'test_keep')).toEqual(['test_keep']);
    expect(choose('test_keep', '!test*')).toEqual([]);
    expect(choose('!test*', 'test*')).toEqual(['test_1', 'test_keep']);
  });

  test('tell upper from lower case', () => {
    expect(choose('Shop*')).toEqual(['Shop']);
    expect(choose('SHOP*')).toEqual([]);
  });

  test('without wildcards choose a template, and what is not there or not permitted, whose backups will say so', () => {
    expect(choose('template1', 'gone', 'secret', 'closed')).toEqual(['closed', 'gone', 'secret', 'template1']);
  });

  test('name what the role may not connect to, unless it was excluded', () => {
    expect(selectDatabases(['*'], server).notPermitted).toEqual(['secret']);
    expect(selectDatabases(['*', '!secret'], server).notPermitted).toEqual([]);
    expect(selectDatabases(['*', 'secret'], server)).toMatchObject({
      notPermitted: [],
      names: [...all, 'secret'].sort(),
    });
  });

  test('name the wildcards that match nothing', () => {
    expect(selectDatabases(['*', 'web_*', '!old_*', 'gone'], server).unmatched).toEqual(['web_*']);
    expect(selectDatabases(['*', '!*'], server)).toMatchObject({ names: [], unmatched: [] });
  });

  test('a backslash takes the meaning from what follows it', () => {
    const odd = ['a*b', 'axb', '!a', 'a\\b', 'a?b', '*'].map(ordinary);
    const of = (...patterns: string[]): readonly string[] => selectDatabases(patterns, odd).names;
    expect(of(String.raw`a\*b`)).toEqual(['a*b']);
    expect(of(String.raw`a\?*`)).toEqual(['a?b']);
    expect(of(String.raw`\!*`)).toEqual(['!a']);
    expect(of('*', String.raw`!\!a`, String.raw`!a\\b`, String.raw`!\*`)).toEqual(['a*b', 'a?b', 'axb']);
    expect(of('a?b')).toEqual(['a*b', 'a?b', 'a\\b', 'axb']);
  });

  test('match names with every awkward character, line breaks and signs beyond 16 bits included', () => {
    const names = [`we"ird/na me-Ü'\\%`, 'a\nb', 'data🐘base', '(a|b)+[c]{2}^$.', '%66'];
    for (const name of names) {
      const escaped = name.replaceAll(/[\\*?]/g, String.raw`\$&`);
      const odd = names.map(ordinary);
      expect(selectDatabases([escaped], []).names).toEqual([name]);
      expect(selectDatabases([`${escaped}*`], odd).names).toEqual([name]);
      expect(selectDatabases(['*', `!${escaped}`], odd).names).toEqual(names.filter((each) => each !== name).sort());
    }
    expect(selectDatabases(['data?base'], names.map(ordinary)).names).toEqual(['data🐘base']);
  });

  test('whatever a name is, its escaped form chooses it and nothing else', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme' }), { minLength: 1 }),
        (names) => {
          const [name = ''] = names;
          const escaped = name.replaceAll(/[\\*?!]/g, String.raw`\$&`);
          const databases = names.map(ordinary);
          expect(selectDatabases([escaped], databases).names).toEqual([name]);
          expect(selectDatabases(['*', `!${escaped}`], databases).names).toEqual(names.slice(1).sort());
        },
      ),
    );
  });

  test('may choose several as soon as there is a wildcard or a second name', () => {
    expect(mayChooseSeveral(['*'])).toBe(true);
    expect(mayChooseSeveral(['a?'])).toBe(true);
    expect(mayChooseSeveral(['a', 'b'])).toBe(true);
    expect(mayChooseSeveral(['a'])).toBe(false);
    expect(mayChooseSeveral(['a', 'a', '!*', String.raw`\a`])).toBe(false);
  });
});
