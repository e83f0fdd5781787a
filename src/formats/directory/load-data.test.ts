import { describe, expect, test } from 'vitest';
import { tocEntry } from '../../../test/support/toc-entry.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import { type LoadTask, planTasks, stagesOf } from './load-data.ts';

let files = 0;

function rowsOf(entry: TocEntry, bytes: number): Extract<LoadTask, { kind: 'rows' }> {
  files += 1;
  const file = {
    name: `${files}.dat`,
    role: 'data' as const,
    storedBytes: bytes,
    plainBytes: bytes,
    storedSha256: '',
    plainSha256: '',
  };
  return { kind: 'rows', file, entry, rows: 1 };
}

/** Names of tables, of each stage; `0` for large objects. */
function named(stages: readonly (readonly LoadTask[])[]): string[][] {
  return stages.map((tasks) => tasks.map((task) => (task.kind === 'rows' ? task.entry.tag : '0')));
}

describe('the order of rows', () => {
  const user = tocEntry(10, 'TABLE DATA', 'public.orders', 5);
  const small = tocEntry(11, 'TABLE DATA', 'public.small', 6);
  const tables = [tocEntry(5, 'TABLE', 'public.orders'), tocEntry(6, 'TABLE', 'public.small')];
  const object = rowsOf(user, 20).file;

  test('is that of their size, the largest first, in one stage, large objects too', () => {
    const tasks = planTasks([rowsOf(small, 1), rowsOf(user, 30)], [{ oid: '7', file: object }]);
    expect(named(stagesOf(tasks, [...tables, user, small]))).toEqual([['orders', '0', 'small']]);
  });

  test('is that of pg_dump for tables of extensions, before all others, with the pieces of a table together', () => {
    const parent = tocEntry(12, 'TABLE DATA', 'partman.part_config', 7);
    const child = tocEntry(13, 'TABLE DATA', 'partman.part_config_sub', 8);
    const tasks = planTasks([rowsOf(parent, 1), rowsOf(user, 30), rowsOf(child, 60), rowsOf(child, 50)], []);
    const stages = stagesOf(tasks, [...tables, user, parent, child]);
    expect(named(stages)).toEqual([['part_config'], ['part_config_sub', 'part_config_sub'], ['orders']]);
    // A part of a backup keeps the order, and has no stage without work.
    expect(named(stagesOf(tasks.slice(0, 2), [...tables, user, parent, child]))).toEqual([
      ['part_config_sub', 'part_config_sub'],
    ]);
    expect(stagesOf([], [...tables, user, parent, child])).toEqual([]);
  });
});
