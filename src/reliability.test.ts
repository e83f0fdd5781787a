import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = path.resolve(import.meta.dirname, '..');
const ROWS = 38;

interface Row {
  readonly number: number;
  readonly tests: readonly { readonly file: string; readonly title: string }[];
}

function rowsOf(text: string): readonly Row[] {
  return text.split('\n').flatMap((line) => {
    const [, number] = /^\| (\d+) \|/.exec(line) ?? [];
    const cell = line.split(' | ').at(-1) ?? '';
    const tests = [...cell.matchAll(/`([^`]+\.test\.ts)` “([^”]+)”/g)].map(([, file = '', title = '']) => ({
      file,
      title,
    }));
    return number === undefined ? [] : [{ number: Number(number), tests }];
  });
}

/** A test, or a group of tests, that is not run, or need not succeed. */
const LEFT_OUT = /\b(test|it|describe)(\.\w+)*\.(skip|skipIf|runIf|todo|fails|only)\b/;

/** Without what is commented out. */
function codeOf(source: string): string {
  return source.replaceAll(/^\s*(\/\*[\s\S]*?\*\/|\/\/.*$)/gm, '');
}

/** Whether there is a test, or a group of tests, of that title, in which something is expected. */
function isTested(source: string, title: string): boolean {
  const code = codeOf(source);
  if (LEFT_OUT.test(code)) return false;
  return ["'", '`', '"'].some((quote) => {
    const [before = '', after = ''] = code.split(quote + title + quote);
    const [, kind] = /\b(test|describe)\b[^;]*\(\s*$/.exec(before) ?? [];
    const body = kind === 'test' ? after.split(/^\s*(?:test|describe)\b/m)[0] : after;
    return kind !== undefined && /expect|\bvi\.wait/.test(body ?? '');
  });
}

function hasTest(file: string, title: string): boolean {
  const place = path.join(ROOT, file);
  if (!existsSync(place)) return false;
  return isTested(readFileSync(place, 'utf8'), title);
}

describe('the table of docs/reliability.md', () => {
  const rows = rowsOf(readFileSync(path.join(ROOT, 'docs/reliability.md'), 'utf8'));

  test('has every row', () => {
    expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: ROWS }, (_, index) => index + 1));
  });

  test.each(rows)('names tests that are there: row $number', ({ tests }) => {
    expect(tests.length).toBeGreaterThan(0);
    expect(tests.filter(({ file, title }) => !hasTest(file, title))).toEqual([]);
  });

  test('would tell a row without a test, and a test that is not there', () => {
    expect(rowsOf('| 1 | lost | kept | `src/x.test.ts` |')).toEqual([{ number: 1, tests: [] }]);
    expect(hasTest('src/reliability.test.ts', ['no', 'such', 'title'].join(' '))).toBe(false);
    expect(hasTest('src/never.test.ts', 'x')).toBe(false);
  });

  test.each([
    ["test('of it', () => {\n  expect(1).toBe(1);\n});", true],
    ["describe.each([1])('of it', () => {\n  test('x', () => {\n    expect(1).toBe(1);\n  });\n});", true],
    ["const name = 'of it';\nexpect(1).toBe(1);", false],
    ["// test('of it', () => {\n//  expect(1).toBe(1);\n// });", false],
    ["/*\ntest('of it', () => {\n  expect(1).toBe(1);\n});\n*/", false],
    ["test('of it', () => {});\ntest('other', () => {\n  expect(1).toBe(1);\n});", false],
    ["test.skip('of it', () => {\n  expect(1).toBe(1);\n});", false],
    ["test.todo('of it');", false],
    ["describe.skipIf(true)('all', () => {\n  test('of it', () => {\n    expect(1).toBe(1);\n  });\n});", false],
  ])('would tell a test that is skipped, commented out or empty: %j', (source, isOne) => {
    expect(isTested(source, 'of it')).toBe(isOne);
  });
});
