import { formatBytes, MIB } from '../../src/common/bytes.ts';
import { markdownTable } from '../../test/support/generated-part.ts';
import { type Spread, spread } from '../statistics.ts';
import { isOwn, type Kind } from './entrants.ts';
import { mainSize, type PeerResults, type PeerRun, runsOf, type Size } from './results.ts';

type Entry = PeerResults['entrants'][number];

/** A quantity of which less is better. */
interface Quantity {
  readonly title: string;
  readonly of: (run: PeerRun) => number;
}

const QUANTITIES: readonly Quantity[] = [
  { title: 'backup time', of: ({ backup }) => backup.wallS },
  { title: 'restore time', of: ({ restore }) => restore.wallS },
  { title: 'CPU of the backup', of: ({ backup }) => backup.clientCpuS },
  { title: 'CPU of the restore', of: ({ restore }) => restore.clientCpuS },
  { title: 'memory of the backup', of: ({ backup }) => backup.rssKib },
  { title: 'bytes stored', of: ({ storedBytes }) => storedBytes },
];

const KINDS: readonly (readonly [Kind, string])[] = [
  ['logical', 'Dumps of one database'],
  ['physical', 'Base backups of the whole server'],
];

/** All tables in Markdown: figures, ratios, what is worse, and how they grow with the size and with jobs. */
export function describePeers(results: PeerResults): string {
  const size = mainSize(results);
  const kinds = KINDS.filter(([kind]) => present(results, size.name, kind).length > 0);
  return [
    introduction(results, size),
    ...kinds.flatMap(([kind, title]) => [
      `**${title}**`,
      figures(results, size, kind),
      ratioTable(results, size, kind),
    ]),
    worse(results, size),
    bySize(results),
    byJobs(results),
    absent(results),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

function introduction({ day, machine, versions, sizes, jobs, minutes }: PeerResults, size: Size): string {
  const each = sizes.map(({ name, rounds, wanted }) => {
    const short = rounds < wanted ? ` (of ${wanted}: time was up)` : '';
    return `${name}: ${rounds}${short}`;
  });
  return `${day}, ${machine}, ${minutes} minutes in all. Rounds by size: ${each.join(', ')}. First tables: ${formatBytes(size.sqlBytes)} of SQL, a database of ${formatBytes(size.databaseBytes)}; ${jobs} jobs where a program can be told. ${versions.join(', ')}.`;
}

/** Those of a kind who were measured at a size. */
function present(results: PeerResults, size: string, kind?: Kind): readonly Entry[] {
  return results.entrants.filter(
    (entry) => (kind === undefined || entry.kind === kind) && runsOf(results, size, entry.name).length > 0,
  );
}

/** In Markdown's tables even code may not hold a bare bar. */
function code(label: string): string {
  return `\`${label.replaceAll('|', '\\|')}\``;
}

function figures(results: PeerResults, { name: size }: Size, kind: Kind): string {
  const rows = present(results, size, kind).map(({ name, label }) => {
    const runs = runsOf(results, size, name);
    const of = (pick: (run: PeerRun) => number): Spread => spread(runs.map(pick));
    const peak = (pick: (run: PeerRun) => number): string => (of(pick).max / 1024).toFixed(0);
    return [
      code(label),
      withSpread(
        of(({ backup }) => backup.wallS),
        1,
      ),
      of(({ backup }) => backup.clientCpuS).median.toFixed(1),
      of(({ backup }) => backup.serverCpuS).median.toFixed(1),
      of(({ backup }) => backup.storeCpuS).median.toFixed(1),
      peak(({ backup }) => backup.rssKib),
      (of(({ storedBytes }) => storedBytes).median / MIB).toFixed(0),
      withSpread(
        of(({ restore }) => restore.wallS),
        1,
      ),
      of(({ restore }) => restore.clientCpuS).median.toFixed(1),
      of(({ restore }) => restore.serverCpuS).median.toFixed(1),
      peak(({ restore }) => restore.rssKib),
    ];
  });
  const head = ['backup s', 'CPU s', 'server CPU', 'store CPU', 'peak MiB', 'stored MiB'];
  return markdownTable(['', ...head, 'restore s', 'CPU s', 'server CPU', 'peak MiB'], rows);
}

function withSpread({ median, min, max }: Spread, digits: number): string {
  const text = (value: number): string => value.toFixed(digits);
  return `${text(median)} (${text(min)}–${text(max)})`;
}

/** What a peer needs, divided by what pgark needs, round by round. */
function ratioOf(results: PeerResults, size: string, { own, peer, of }: Pair): Spread | undefined {
  const ratios = runsOf(results, size, own).flatMap((run) => {
    const other = runsOf(results, size, peer).find(({ round }) => round === run.round);
    return other === undefined ? [] : [of(other) / of(run)];
  });
  return ratios.length === 0 ? undefined : spread(ratios);
}

interface Pair {
  readonly own: string;
  readonly peer: string;
  readonly of: Quantity['of'];
}

function ratioTable(results: PeerResults, { name: size }: Size, kind: Kind): string {
  const entries = present(results, size, kind);
  const peers = entries.filter(({ name }) => !isOwn(name));
  const owns = entries.filter(({ name }) => isOwn(name));
  if (peers.length === 0 || owns.length === 0) return '';
  const rows = owns.flatMap((own) =>
    peers.map((peer) => [
      code(own.label),
      code(peer.label),
      ...QUANTITIES.map(({ of }) => markedRatio(ratioOf(results, size, { own: own.name, peer: peer.name, of }))),
    ]),
  );
  return [
    'What the peer needs, divided by what pgark needs in the same round: more than 1 is better. **▼** marks what is worse than the peer.',
    markdownTable(['pgark', 'peer', ...QUANTITIES.map(({ title }) => title)], rows),
  ].join('\n\n');
}

/** Judged as it is shown, so that 0.996 is no loss that reads as 1.00. */
export function isWorse(ratio: number): boolean {
  return Number(ratio.toFixed(2)) < 1;
}

export function markedRatio(ratio: Spread | undefined): string {
  if (ratio === undefined) return '';
  const text = withSpread(ratio, 2);
  return isWorse(ratio.median) ? `**▼ ${text}**` : text;
}

/** Each peer that is faster than one of pgark's ways of the same kind. */
function worse(results: PeerResults, { name: size }: Size): string {
  const entries = present(results, size);
  const lines = entries
    .filter(({ name }) => isOwn(name))
    .flatMap((own) =>
      QUANTITIES.slice(0, 2).flatMap(({ title, of }) => {
        const faster = entries
          .filter(({ name, kind }) => !isOwn(name) && kind === own.kind)
          .flatMap((peer) => {
            const ratio = ratioOf(results, size, { own: own.name, peer: peer.name, of });
            return ratio !== undefined && isWorse(ratio.median)
              ? [`\`${peer.label}\` (${ratio.median.toFixed(2)})`]
              : [];
          });
        return faster.length === 0 ? [] : [`- \`${own.label}\`, ${title}: slower than ${faster.join(', ')}`];
      }),
    );
  const nothing = '- Nothing at this size.';
  return ['**Where pgark is still slower than a peer**', (lines.length > 0 ? lines : [nothing]).join('\n')].join(
    '\n\n',
  );
}

/** `12.3 / 4.5`: seconds of backup and restore. */
function times(runs: readonly PeerRun[]): string {
  if (runs.length === 0) return '';
  const [backup, restore] = [QUANTITIES[0], QUANTITIES[1]].map((each) => spread(runs.map((run) => each?.of(run) ?? 0)));
  return `${backup?.median.toFixed(1)} / ${restore?.median.toFixed(1)}`;
}

function bySize(results: PeerResults): string {
  if (results.sizes.length < 2) return '';
  const rows = results.entrants
    .filter(({ name }) => results.sizes.some((size) => runsOf(results, size.name, name).length > 0))
    .map(({ name, label }) => [code(label), ...results.sizes.map((size) => times(runsOf(results, size.name, name)))]);
  return [
    '**As the size grows**: seconds of the backup / of the restore, by the length of the SQL',
    markdownTable(['', ...results.sizes.map(({ sqlBytes }) => formatBytes(sqlBytes))], rows),
  ].join('\n\n');
}

/** All numbers of jobs that were tried, in order. */
export function jobsTried({ runs }: PeerResults): readonly number[] {
  return [...new Set(runs.flatMap(({ jobs }) => jobs ?? []))].sort((a, b) => a - b);
}

function byJobs(results: PeerResults): string {
  const numbers = jobsTried(results);
  const able = results.entrants.filter(({ name }) =>
    results.runs.some((run) => run.name === name && run.jobs !== undefined),
  );
  if (numbers.length < 2 || able.length === 0) return '';
  const rows = able.map(({ name, label }) => [
    code(label),
    ...numbers.map((jobs) => times(runsOf(results, results.jobsSize, name, jobs))),
  ]);
  return [
    `**As jobs grow**: the same for ${results.jobsSize}, by the number of sessions or processes`,
    markdownTable(['', ...numbers.map((jobs) => `${jobs} ${jobs === 1 ? 'job' : 'jobs'}`)], rows),
  ].join('\n\n');
}

function absent({ missing, entrants }: PeerResults): string {
  if (missing.length === 0) return '';
  const lines = missing.map(({ name, why }) => {
    const label = entrants.find((entry) => entry.name === name)?.label ?? name;
    return `- \`${label}\`: ${why}`;
  });
  return ['**Not measured**', lines.join('\n')].join('\n\n');
}
