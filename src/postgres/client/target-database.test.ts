import { describe, expect, test } from 'vitest';
import { type DatabaseProperties, knowsProvider, localeClauses } from './target-database.ts';

const made = (properties: Partial<DatabaseProperties>): DatabaseProperties => ({
  encoding: 'UTF8',
  collation: 'C',
  ctype: 'C.UTF-8',
  localeProvider: 'libc',
  ...properties,
});
const ofProvider = (properties: Partial<DatabaseProperties>, serverMajor: number): string =>
  localeClauses(made(properties), serverMajor).join(' ');

describe('the locale of a new database', () => {
  test('is said in the words of the server’s version', () => {
    const icu = { localeProvider: 'icu', locale: "de'", icuRules: '&a < g' };
    const libc = `LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'`;
    expect(ofProvider(icu, 14)).toBe(libc);
    expect(ofProvider(icu, 15)).toBe(`${libc} LOCALE_PROVIDER icu ICU_LOCALE 'de'''`);
    expect(ofProvider(icu, 16)).toBe(`${libc} LOCALE_PROVIDER icu ICU_LOCALE 'de''' ICU_RULES '&a < g'`);
    const builtin = { localeProvider: 'builtin', locale: 'C.UTF-8' };
    expect(ofProvider(builtin, 18)).toBe(`${libc} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'`);
    expect(ofProvider(builtin, 16)).toBe(`${libc} LOCALE_PROVIDER libc`);
    expect(ofProvider(builtin, 13)).toBe(libc);
  });

  test('is libc’s by its name, since the template’s own would count otherwise', () => {
    expect(ofProvider({}, 14)).not.toContain('LOCALE_PROVIDER');
    expect(ofProvider({}, 15)).toContain('LOCALE_PROVIDER libc');
    expect(ofProvider({}, 18)).toContain('LOCALE_PROVIDER libc');
  });

  test.each([
    ['libc', 13, true],
    ['icu', 14, false],
    ['icu', 15, true],
    ['builtin', 16, false],
    ['builtin', 17, true],
  ])('has a provider that the server knows or not (%s, %i)', (provider, serverMajor, expected) => {
    expect(knowsProvider(provider, serverMajor)).toBe(expected);
  });
});
