import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { chartsOf } from './charts.ts';
import { entrants } from './entrants.ts';
import { describePeers, isWorse, jobsTried, markedRatio } from './peer-report.ts';
import type { PeerResults, PeerRun } from './results.ts';

/** A run whose every figure is some multiple of one number. */
function run(
  size: string,
  round: number,
  name: string,
  [backup, restore]: readonly [number, number],
  jobs?: number,
): PeerRun {
  const measurement = (wallS: number) => ({
    wallS,
    clientCpuS: wallS,
    serverCpuS: 1,
    storeCpuS: 1,
    rssKib: 1024 * wallS,
  });
  return {
    size,
    round,
    name,
    ...(jobs === undefined ? {} : { jobs }),
    backup: measurement(backup),
    restore: measurement(restore),
    storedBytes: 10 * MIB,
  };
}

const results: PeerResults = {
  day: '2026-01-02',
  minutes: 3,
  machine: '2 × processor',
  versions: ['Node.js v26'],
  entrants: [
    { name: 'gzip', label: 'pg_dump | gzip', kind: 'logical' },
    { name: 'directory', label: 'pg_dump -Fd', kind: 'logical' },
    { name: 'pgark-archive', label: 'pgark backup', kind: 'logical' },
    { name: 'pgbackrest', label: 'pgbackrest', kind: 'physical' },
  ],
  sizes: [
    { name: '1MiB', sqlBytes: MIB, databaseBytes: MIB, rounds: 1, wanted: 1 },
    { name: '2MiB', sqlBytes: 2 * MIB, databaseBytes: 3 * MIB, rounds: 2, wanted: 3 },
  ],
  jobs: 2,
  jobsSize: '2MiB',
  missing: [{ name: 'pgbackrest', why: 'not installed: pgbackrest' }],
  runs: [
    run('1MiB', 1, 'gzip', [4, 4]),
    run('1MiB', 1, 'pgark-archive', [2, 2], 2),
    run('2MiB', 1, 'gzip', [10, 9]),
    run('2MiB', 1, 'directory', [4, 2], 2),
    run('2MiB', 1, 'directory', [8, 3], 1),
    run('2MiB', 1, 'pgark-archive', [5, 4], 2),
    run('2MiB', 1, 'pgark-archive', [9, 8], 1),
    run('2MiB', 2, 'gzip', [12, 9]),
    run('2MiB', 2, 'directory', [3, 2], 2),
    run('2MiB', 2, 'pgark-archive', [4, 4], 2),
  ],
};

test('tables tell medians, ratios of the same round with their spread, and what is slower', () => {
  expect(describePeers(results)).toMatchInlineSnapshot(`
    "2026-01-02, 2 × processor, 3 minutes in all. Rounds by size: 1MiB: 1, 2MiB: 2 (of 3: time was up). First tables: 2.0 MiB of SQL, a database of 3.0 MiB; 2 jobs where a program can be told. Node.js v26.

    **Dumps of one database**

    | | backup s | CPU s | server CPU | store CPU | peak MiB | stored MiB | restore s | CPU s | server CPU | peak MiB |
    |---|---|---|---|---|---|---|---|---|---|---|
    | \`pg_dump \\| gzip\` | 11.0 (10.0–12.0) | 11.0 | 1.0 | 1.0 | 12 | 10 | 9.0 (9.0–9.0) | 9.0 | 1.0 | 9 |
    | \`pg_dump -Fd\` | 3.5 (3.0–4.0) | 3.5 | 1.0 | 1.0 | 4 | 10 | 2.0 (2.0–2.0) | 2.0 | 1.0 | 2 |
    | \`pgark backup\` | 4.5 (4.0–5.0) | 4.5 | 1.0 | 1.0 | 5 | 10 | 4.0 (4.0–4.0) | 4.0 | 1.0 | 4 |

    What the peer needs, divided by what pgark needs in the same round: more than 1 is better. **▼** marks what is worse than the peer.

    | pgark | peer | backup time | restore time | CPU of the backup | CPU of the restore | memory of the backup | bytes stored |
    |---|---|---|---|---|---|---|---|
    | \`pgark backup\` | \`pg_dump \\| gzip\` | 2.50 (2.00–3.00) | 2.25 (2.25–2.25) | 2.50 (2.00–3.00) | 2.25 (2.25–2.25) | 2.50 (2.00–3.00) | 1.00 (1.00–1.00) |
    | \`pgark backup\` | \`pg_dump -Fd\` | **▼ 0.78 (0.75–0.80)** | **▼ 0.50 (0.50–0.50)** | **▼ 0.78 (0.75–0.80)** | **▼ 0.50 (0.50–0.50)** | **▼ 0.78 (0.75–0.80)** | 1.00 (1.00–1.00) |

    **Where pgark is still slower than a peer**

    - \`pgark backup\`, backup time: slower than \`pg_dump -Fd\` (0.78)
    - \`pgark backup\`, restore time: slower than \`pg_dump -Fd\` (0.50)

    **As the size grows**: seconds of the backup / of the restore, by the length of the SQL

    | | 1.0 MiB | 2.0 MiB |
    |---|---|---|
    | \`pg_dump \\| gzip\` | 4.0 / 4.0 | 11.0 / 9.0 |
    | \`pg_dump -Fd\` | | 3.5 / 2.0 |
    | \`pgark backup\` | 2.0 / 2.0 | 4.5 / 4.0 |

    **As jobs grow**: the same for 2MiB, by the number of sessions or processes

    | | 1 job | 2 jobs |
    |---|---|---|
    | \`pg_dump -Fd\` | 8.0 / 3.0 | 3.5 / 2.0 |
    | \`pgark backup\` | 9.0 / 8.0 | 4.5 / 4.0 |

    **Not measured**

    - \`pgbackrest\`: not installed: pgbackrest"
  `);
});

test('a ratio is judged as it is shown', () => {
  expect([isWorse(0.994), isWorse(0.996), isWorse(1)]).toEqual([true, false, false]);
  expect(markedRatio({ median: 0.5, min: 0.4, max: 0.6 })).toBe('**▼ 0.50 (0.40–0.60)**');
  expect(markedRatio({ median: 1.5, min: 0.9, max: 2 })).toBe('1.50 (0.90–2.00)');
  expect(markedRatio(undefined)).toBe('');
});

test('where nothing is slower, that is what it says; a comparison without peers has no ratios', () => {
  const alone = { ...results, missing: [], runs: results.runs.filter(({ name }) => name !== 'directory') };
  expect(describePeers(alone)).toContain('- Nothing at this size.');
  expect(describePeers(alone)).not.toContain('Not measured');
  const own = { ...results, runs: results.runs.filter(({ name }) => name === 'pgark-archive') };
  expect(describePeers(own)).not.toContain('more than 1 is better');
});

test('charts show each who was measured, at each size and number of jobs', () => {
  expect(jobsTried(results)).toEqual([1, 2]);
  const charts = chartsOf(results);
  expect(charts.map(({ file }) => file)).toEqual([
    'logical.svg',
    'logical-backup-by-size.svg',
    'logical-backup-by-jobs.svg',
    'logical-restore-by-size.svg',
    'logical-restore-by-jobs.svg',
  ]);
  for (const { svg } of charts) expect(svg).toMatch(/^<svg [^]*<\/svg>\n$/);
  expect(charts[0]?.svg).toContain('pg_dump | gzip');
  expect(charts[0]?.svg).toContain('>11<');
  // The same figures make the same file.
  expect(chartsOf(results)).toEqual(charts);
});

test('names of contenders are told apart', () => {
  expect(new Set(entrants.map(({ name }) => name)).size).toBe(entrants.length);
  expect(new Set(entrants.map(({ label }) => label)).size).toBe(entrants.length);
});

test('the page holds what the figures beside it say', async () => {
  const docs = path.resolve(import.meta.dirname, '../../docs');
  const page = await readFile(path.join(docs, 'performance.md'), 'utf8');
  const text = await readFile(path.join(docs, 'benchmark', 'peers.json'), 'utf8').catch(() => undefined);
  if (text === undefined) {
    expect(page).toContain('<!-- bench peers: begin -->\nNot measured yet.\n<!-- bench peers: end -->');
    return;
  }
  const measured = JSON.parse(text) as PeerResults;
  expect(page).toContain(`<!-- bench peers: begin -->\n${describePeers(measured)}\n`);
  for (const { file, svg } of chartsOf(measured)) {
    expect(await readFile(path.join(docs, 'benchmark', file), 'utf8')).toBe(svg);
  }
});
