import { type EChartsOption, init } from 'echarts';
import { formatBytes } from '../../src/common/bytes.ts';
import { median } from '../statistics.ts';
import type { Kind } from './entrants.ts';
import { jobsTried } from './peer-report.ts';
import { mainSize, type PeerResults, type PeerRun, runsOf } from './results.ts';

export interface Chart {
  readonly file: string;
  readonly title: string;
  readonly svg: string;
}

const WIDTH = 860;
/** Of the longest name; nobody can measure text here, where there is no font. */
const LABEL_WIDTH = 270;
const KINDS: readonly Kind[] = ['logical', 'physical'];
const WHAT = { logical: 'dumps of one database', physical: 'base backups of a server' } as const;
const PICKS: readonly (readonly [string, (run: PeerRun) => number])[] = [
  ['backup', ({ backup }) => backup.wallS],
  ['restore', ({ restore }) => restore.wallS],
];

/** Of each kind: bars of the main size, lines over sizes, and lines over jobs where several were tried. */
export function chartsOf(results: PeerResults): readonly Chart[] {
  return KINDS.flatMap((kind) => {
    const names = results.entrants.filter(
      (entry) => entry.kind === kind && results.runs.some((run) => run.name === entry.name),
    );
    if (names.length === 0) return [];
    const lines = PICKS.flatMap(([what, pick]) => [
      ...(results.sizes.length > 1 ? [overSizes(results, { kind, what, pick, names })] : []),
      ...(jobsTried(results).length > 1 ? [overJobs(results, { kind, what, pick, names })] : []),
    ]);
    return [bars(results, kind, names), ...lines];
  });
}

type Entries = PeerResults['entrants'];

interface Series {
  readonly kind: Kind;
  readonly what: string;
  readonly pick: (run: PeerRun) => number;
  readonly names: Entries;
}

function bars(results: PeerResults, kind: Kind, names: Entries): Chart {
  const size = mainSize(results);
  const title = `Seconds for ${formatBytes(size.sqlBytes)} of SQL: ${WHAT[kind]}`;
  // The first is at the bottom of such a chart.
  const entries = names.toReversed();
  return draw(`${kind}.svg`, title, 120 + entries.length * 44, {
    grid: { left: LABEL_WIDTH, right: 60, top: 70, bottom: 30 },
    xAxis: { type: 'value', name: 's' },
    yAxis: { type: 'category', data: entries.map(({ label }) => label) },
    series: PICKS.map(([name, pick]) => ({
      name,
      type: 'bar' as const,
      silent: true,
      label: { show: true, position: 'right' as const },
      data: entries.map((entry) => medianOf(runsOf(results, size.name, entry.name), pick)),
    })),
  });
}

function overSizes(results: PeerResults, series: Series): Chart {
  const columns = results.sizes.map((size) => ({
    title: formatBytes(size.sqlBytes),
    size: size.name,
    jobs: results.jobs,
  }));
  return lineChart(results, `${series.kind}-${series.what}-by-size.svg`, 'as the size grows', { ...series, columns });
}

function overJobs(results: PeerResults, series: Series): Chart {
  const columns = jobsTried(results).map((jobs) => ({ title: `${jobs}`, size: results.jobsSize, jobs }));
  const able = series.names.filter(({ name }) =>
    results.runs.some((run) => run.name === name && run.jobs !== undefined),
  );
  const title = `as jobs grow (${results.jobsSize})`;
  return lineChart(results, `${series.kind}-${series.what}-by-jobs.svg`, title, { ...series, names: able, columns });
}

interface Lines extends Series {
  readonly columns: readonly { readonly title: string; readonly size: string; readonly jobs: number }[];
}

function lineChart(
  results: PeerResults,
  file: string,
  when: string,
  { kind, what, pick, names, columns }: Lines,
): Chart {
  const title = `Seconds of the ${what}, ${when}: ${WHAT[kind]}`;
  return draw(file, title, 360, {
    legend: { orient: 'vertical', left: WIDTH - LABEL_WIDTH, top: 60, selectedMode: false },
    grid: { left: 50, right: LABEL_WIDTH + 20, top: 70, bottom: 30 },
    xAxis: { type: 'category', data: columns.map((column) => column.title) },
    yAxis: { type: 'value', name: 's' },
    series: names.map(({ name, label }) => ({
      name: label,
      type: 'line' as const,
      silent: true,
      data: columns.map(({ size, jobs }) => medianOf(runsOf(results, size, name, jobs), pick)),
    })),
  });
}

/** With a tenth of a second; nothing where there is no run. */
function medianOf(runs: readonly PeerRun[], pick: (run: PeerRun) => number): number | null {
  return runs.length === 0 ? null : Number(median(runs.map(pick)).toFixed(1));
}

function draw(file: string, title: string, height: number, option: EChartsOption): Chart {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      title: { text: title, left: 'center', textStyle: { fontSize: 15 } },
      legend: { top: 30, selectedMode: false },
      ...option,
    });
    return { file, title, svg: `${withSteadyNames(chart.renderToSVGString())}\n` };
  } finally {
    chart.dispose();
  }
}

/** ECharts counts on from chart to chart; here each name is a number of this chart. */
function withSteadyNames(svg: string): string {
  const names = new Map<string, string>();
  return svg.replaceAll(/\bzr\d+-[a-z]+-?\d+/g, (name) => {
    const steady = names.get(name) ?? `n${names.size}`;
    names.set(name, steady);
    return steady;
  });
}
