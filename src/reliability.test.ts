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

/** Whether the file has a test, or a group of tests, of that title. */
function hasTest(file: string, title: string): boolean {
  const place = path.join(ROOT, file);
  if (!existsSync(place)) return false;
  const source = readFileSync(place, 'utf8');
  return ["'", '`', '"'].some((quote) => source.includes(quote + title + quote));
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
});
