import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type Fact, mergeFact, readFacts } from './facts.ts';
import { compatibilityPage } from './page.ts';

const file = path.resolve(import.meta.dirname, '../../docs/compatibility.md');

test('the page tells what the soak tests have seen', async () => {
  const page = await readFile(file, 'utf8');
  const made = compatibilityPage(page, await readFacts('versions'), await readFacts('archives'));
  await expect(made).toMatchFileSnapshot(file);
});

const empty = ['servers', 'archives', 'across servers']
  .map((name) => (name === 'across servers' ? name : `of ${name}`))
  .map((name) => `<!-- compatibility ${name}: begin -->\nold\n<!-- compatibility ${name}: end -->`)
  .join('\nby hand\n');

test('each fact is where its versions meet, and a failure is told', () => {
  const versions: Fact[] = [
    { kind: 'pair', server: '15.18', client: '18.6', outcome: 'yes' },
    { kind: 'pair', server: '18.6', client: '15.18', outcome: 'refused' },
    { kind: 'pair', server: '18.6', client: '18.6', outcome: 'no' },
    { kind: 'journey', server: '15.18', client: '18.6', target: '18.6', outcome: 'yes' },
    { kind: 'journey', server: '18.6', client: '18.6', target: '15.18', outcome: 'warned' },
  ];
  const archives: Fact[] = [
    { kind: 'archive', server: '13.23', client: '15.18', database: 'regression', outcome: 'yes' },
    { kind: 'archive', server: '15.18', client: '15.18', database: 'many tables', outcome: 'no' },
  ];
  expect(compatibilityPage(empty, versions, archives)).toBe(`<!-- compatibility of servers: begin -->
Servers: 15.18, 18.6; clients: 15.18, 18.6.

| Server | Client 15 | Client 18 |
|---|---|---|
| 15 | | yes |
| 18 | refused | **no** |
<!-- compatibility of servers: end -->
by hand
<!-- compatibility of archives: begin -->
| Server | Client | rich | sample | many tables | large objects | regression |
|---|---|---|---|---|---|---|
| 13 | 15 ² | | ³ | | | yes |
| 15 | 15 | | | **no** | | |

Servers: 13.23, 15.18; clients: 15.18.
<!-- compatibility of archives: end -->
by hand
<!-- compatibility across servers: begin -->
| Backup of → | into 15 | 18 |
|---|---|---|
| 15 (by 18) | = | yes |
| 18 (by 18) | warned | = |
<!-- compatibility across servers: end -->`);
});

test('a fact of newer minor versions takes the place of the one before, and none other', () => {
  const old: Fact = { kind: 'pair', server: '15.18', client: '18.4', outcome: 'yes' };
  const other: Fact = { kind: 'archive', server: '15.18', client: '18.4', database: 'rich', outcome: 'yes' };
  const later: Fact = { kind: 'pair', server: '15.20', client: '18.6', outcome: 'no' };
  const first: Fact = { kind: 'pair', server: '9.6', client: '18.6', outcome: 'yes' };
  expect(mergeFact([old, other], later)).toEqual([other, later]);
  expect(mergeFact([later], first)).toEqual([first, later]);
});
