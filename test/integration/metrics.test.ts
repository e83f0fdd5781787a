import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { startHttpServer } from '../../src/http/server.ts';
import { healthcheckReport } from '../../src/observability/health.ts';
import { renderMetrics } from '../../src/observability/metrics.ts';
import { buildProtectionState, type ProtectionState } from '../../src/observability/protection-state.ts';
import { readProofs } from '../../src/service/read-proofs.ts';
import { readStorageHistory } from '../../src/observability/storage-history.ts';
import { Repository } from '../../src/repository/repository.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { readPage } from '../support/markdown.ts';
import { createDatabase } from '../support/postgres.ts';
import { query, startPrometheus } from '../support/prometheus.ts';
import { HistoryPlace, plan, walOf } from '../support/protection.ts';
import { makeTempDirectory } from '../support/temp.ts';

const deploy = path.resolve(import.meta.dirname, '../../deploy');

const dashboardSchema = z.object({
  templating: z.object({ list: z.array(z.object({ query: z.union([z.string(), z.object({ query: z.string() })]) })) }),
  panels: z.array(
    z.object({
      title: z.string(),
      gridPos: z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() }),
      targets: z.array(z.object({ expr: z.string(), legendFormat: z.string().optional() })),
    }),
  ),
});

const rulesSchema = z.object({
  groups: z.array(
    z.object({
      rules: z.array(z.object({ alert: z.string(), expr: z.string(), annotations: z.record(z.string(), z.string()) })),
    }),
  ),
});

async function dashboard() {
  return dashboardSchema.parse(JSON.parse(await readFile(path.join(deploy, 'grafana/pgark.json'), 'utf8')));
}

/** As Grafana sends it with everything chosen. */
function withoutVariables(expression: string): string {
  return expression.replaceAll('$source', '.*');
}

/** A state in which every metric has a series. */
async function fullState(): Promise<ProtectionState> {
  const place = new HistoryPlace(new Date());
  const now = place.clock.now();
  const ago = (hours: number): Date => new Date(now.getTime() - hours * 3_600_000);
  const backup = await place.backup(ago(48), { bytes: 4_096 });
  await place.prove(backup, 'verify', ago(4), { passed: true });
  await place.run('failed', ago(24), ago(23.9));
  const result = { backup: 'any', format: 'plain', restoreMs: 61_000 };
  await place.run('succeeded', ago(3), ago(2.9), { kind: 'drill', result });
  const running = await place.run('running', now);
  return buildProtectionState(
    await place.inputs({
      plans: [plan(), plan({ database: 'we"ird/na me-Ü\\', maxAgeMs: 1_000 })],
      proofs: [
        { kind: 'verify', source: 'shop', storage: 'r2', schedule: plan().schedules[0], canOpen: true, hasJobs: true },
      ],
      progressRatios: new Map([[running.id as string, 0.5]]),
      watchedSince: ago(1),
      wal: [
        walOf({
          earliest: ago(48),
          latest: now,
          lagMs: 3_600_000,
          lagBytes: 4_096,
          gaps: 0,
          storedBytes: 8_192,
          storages: [{ storage: 'r2', lagMs: 3_600_000 }],
          slot: { name: 'pgark_shop', retainedBytes: 4_096, limitBytes: 8_192, state: 'fine' },
        }),
      ],
    }),
  );
}

function metricNames(scrape: string): Set<string> {
  const names = new Set<string>();
  for (const [, name = '', type] of scrape.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    names.add(name);
    if (type === 'histogram') for (const suffix of ['bucket', 'sum', 'count']) names.add(`${name}_${suffix}`);
  }
  return names;
}

/** All labels that a metric's series have, by its name; Prometheus adds those of the target. */
function labelsByMetric(scrape: string): Map<string, Set<string>> {
  const labels = new Map<string, Set<string>>();
  for (const [, name = '', text = ''] of scrape.matchAll(/^(pgark_\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = labels.get(name) ?? new Set();
    for (const [, label = ''] of text.matchAll(/(?:^|,)(\w+)="(?:\\.|[^"\\])*"/g)) known.add(label);
    labels.set(name, known);
  }
  return labels;
}

const TARGET_LABELS = ['instance', 'job'];

/** Labels that an expression, or what is made of its result, names and none of its metrics has. */
function unknownLabels(labels: ReadonlyMap<string, ReadonlySet<string>>, expression: string, shown: string): string[] {
  const metrics = expression.match(/\bpgark_\w+/g) ?? [];
  const wrong: string[] = [];
  for (const [, metric = '', text = ''] of expression.matchAll(/(pgark_\w+)\{([^}]*)\}/g)) {
    for (const [, label = ''] of text.matchAll(/(\w+)\s*[!=]~?/g))
      if (!labels.get(metric)?.has(label)) wrong.push(`${metric}{${label}}`);
  }
  const grouped = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = '']) => names.split(/,\s*/));
  const last = [...shown.matchAll(/\$labels\.(\w+)|\{\{(\w+)\}\}/g)].map(
    ([, ofAlert, ofLegend]) => ofAlert ?? ofLegend ?? '',
  );
  for (const label of [...grouped, ...last]) {
    const has = TARGET_LABELS.includes(label) || metrics.some((metric) => labels.get(metric)?.has(label));
    if (!has && metrics.length > 0) wrong.push(`${label} of ${expression}`);
  }
  if (grouped.length > 0)
    wrong.push(...last.filter((label) => !grouped.includes(label)).map((label) => `${label} beside by`));
  return wrong;
}

function serve(state: () => ProtectionState) {
  return startHttpServer({ host: '127.0.0.1', port: 0, state, version: '1.2.3', logger: silentLogger });
}

describe('promtool', () => {
  test('finds nothing to mend in a scrape', async () => {
    const input = await renderMetrics(await fullState(), '1.2.3');
    expect(await runProgram('promtool', ['check', 'metrics'], { input })).toMatchObject({ exitCode: 0, stderr: '' });
  });

  test('accepts the alerts, which fire when they should and not otherwise', async () => {
    const cwd = path.join(deploy, 'prometheus');
    const checked = await runProgram('promtool', ['check', 'rules', 'pgark.rules.yaml'], { cwd });
    expect(checked).toMatchObject({ exitCode: 0 });
    const tested = await runProgram('promtool', ['test', 'rules', 'pgark.rules.test.yaml'], { cwd });
    expect(tested).toMatchObject({ exitCode: 0 });
  });

  test('accepts the example of a configuration', async () => {
    const cwd = path.join(deploy, 'prometheus');
    const checked = await runProgram('promtool', ['check', 'config', 'prometheus.yaml'], { cwd });
    expect(checked).toMatchObject({ exitCode: 0 });
  });
});

describe('what is shipped for Prometheus and Grafana', () => {
  test('names only metrics that there are', async () => {
    const names = metricNames(await renderMetrics(await fullState(), '1.2.3'));
    const { panels, templating } = await dashboard();
    const rules = await readFile(path.join(deploy, 'prometheus/pgark.rules.yaml'), 'utf8');
    const expressions = [
      ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
      ...templating.list.map(({ query: asked }) => (typeof asked === 'string' ? asked : asked.query)),
      rules,
    ];
    const named = new Set(expressions.flatMap((expression) => expression.match(/\bpgark_\w+/g) ?? []));
    expect([...named].filter((name) => !names.has(name))).toEqual([]);
    expect(named.size).toBeGreaterThan(10);
  });

  test('names only labels that these metrics have', async () => {
    const labels = labelsByMetric(await renderMetrics(await fullState(), '1.2.3'));
    const { panels, templating } = await dashboard();
    const rulesText = await readFile(path.join(deploy, 'prometheus/pgark.rules.yaml'), 'utf8');
    const { groups } = rulesSchema.parse(parse(rulesText));
    const asked: [string, string][] = [
      ...panels.flatMap(({ targets }) =>
        targets.map(({ expr, legendFormat = '' }): [string, string] => [expr, legendFormat]),
      ),
      ...groups.flatMap(({ rules }) =>
        rules.map(({ expr, annotations }): [string, string] => [expr, Object.values(annotations).join('\n')]),
      ),
    ];
    expect(asked.flatMap(([expression, shown]) => unknownLabels(labels, expression, shown))).toEqual([]);
    expect(asked.length).toBeGreaterThan(25);
    for (const { query: asks } of templating.list) {
      const [, metric, label] =
        /^label_values\((\w+), (\w+)\)$/.exec(typeof asks === 'string' ? asks : asks.query) ?? [];
      if (metric !== undefined) expect(labels.get(metric)).toContain(label);
    }
  });

  test('docs/monitoring.md names every metric, and its labels', async () => {
    const scrape = await renderMetrics(await fullState(), '1.2.3');
    const labels = labelsByMetric(scrape);
    const names = [...scrape.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name);
    const page = await readPage('docs/monitoring.md');
    const told = new Set(page.text.match(/\bpgark_[a-z_]+\b/g));
    expect([...told].filter((name) => !names.includes(name))).toEqual([]);
    expect(names.filter((name) => !told.has(name))).toEqual([]);
    let cell = '';
    let rows = 0;
    for (const line of page.prose) {
      const [, metrics, said = ''] = /^\| (`pgark_.*?`) \| (.*?) ?\|/.exec(line) ?? [];
      if (metrics === undefined) continue;
      if (said !== 'the same') cell = said;
      const wanted = [...cell.matchAll(/`(\w+)`/g)].map(([, label]) => label);
      for (const [, name = ''] of metrics.matchAll(/`(\w+)`/g)) {
        const known = labels.get(name) ?? labels.get(`${name}_count`);
        expect({ name, labels: new Set(known) }).toEqual({ name, labels: new Set(wanted) });
        rows += 1;
      }
    }
    expect(rows).toBeGreaterThan(12);
  });

  test('has an alert test for each alert', async () => {
    const [rules, tests] = await Promise.all(
      ['pgark.rules.yaml', 'pgark.rules.test.yaml'].map((name) =>
        readFile(path.join(deploy, 'prometheus', name), 'utf8'),
      ),
    );
    const alerts = [...(rules ?? '').matchAll(/alert: (\w+)/g)].map(([, name]) => name);
    expect(alerts.length).toBeGreaterThan(5);
    for (const alert of alerts) expect(tests).toMatch(new RegExp(`alertname: ${alert}\\n +exp_alerts:`));
  });

  test('is a dashboard of one screen, without overlaps', async () => {
    const taken = new Set<string>();
    for (const { gridPos } of (await dashboard()).panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      expect(gridPos.y + gridPos.h).toBeLessThanOrEqual(28);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken).not.toContain(`${x} ${y}`);
          taken.add(`${x} ${y}`);
        }
    }
  });
});

describe('Prometheus', () => {
  test('scrapes the server, alerts, and answers every query of the dashboard', { timeout: 300_000 }, async () => {
    const state = await fullState();
    const server = await serve(() => state);
    try {
      await using prometheus = await startPrometheus(server.port);
      const [size] = await query(prometheus.url, 'pgark_backup_last_size_bytes{database="shop"}');
      expect(size).toMatchObject({
        metric: { source: 'shop', storage: 'r2', format: 'plain' },
        value: [expect.any(Number), '4096'],
      });
      const [awkward] = await query(prometheus.url, 'pgark_backup_overdue{database!="shop"}');
      expect(awkward).toMatchObject({ metric: { database: 'we"ird/na me-Ü\\' }, value: [expect.any(Number), '1'] });
      // Two scrapes are needed before anything can increase.
      await query(prometheus.url, 'count_over_time(pgark_build_info[1m]) >= 2');
      for (const { title, targets } of (await dashboard()).panels) {
        if (title === 'Runs that ended') continue;
        for (const { expr } of targets) {
          expect(await query(prometheus.url, withoutVariables(expr))).not.toHaveLength(0);
        }
      }
      const pending = await query(prometheus.url, 'ALERTS{alertname="PgarkBackupFailed"}');
      expect(pending[0]).toMatchObject({ metric: { database: 'shop', alertstate: 'pending' } });
      const late = await query(prometheus.url, 'ALERTS{alertname="PgarkWalNotArchived"}');
      expect(late[0]).toMatchObject({ metric: { source: 'shop', alertstate: 'pending' } });
    } finally {
      await server.close();
    }
  });

  test('learns of a real backup what its manifest and its run say', { timeout: 300_000 }, async () => {
    await using database = await createDatabase({
      name: 'metrics',
      sql: 'CREATE TABLE t AS SELECT generate_series(1, 1000)',
    });
    await using directory = await makeTempDirectory();
    const env = { DATABASE_URL: database.url, BACKUP_STORAGE: `file://${directory.path}`, BACKUP_NAME: 'main' };
    const began = Date.now();
    const backedUp = await runPgark(['backup'], { env });
    expect(backedUp).toMatchObject({ exitCode: 0 });
    const world = { clock: systemClock, random: systemRandom };
    const store = new FileStore({ root: directory.path, ...world });
    const history = await readStorageHistory(new Repository(store, world), { clock: systemClock, readProofs });
    const state = buildProtectionState({
      now: new Date(),
      watchedSince: new Date(),
      timezone: 'UTC',
      plans: [plan({ source: 'main', database: database.name, storage: 'local' })],
      histories: new Map([['local', history]]),
      progressRatios: new Map(),
      probes: [],
      notificationFailures: 0,
    });
    expect(healthcheckReport(state, new Date())).toMatchObject({ exit: 0 });
    const server = await serve(() => state);
    try {
      await using prometheus = await startPrometheus(server.port);
      const [success] = await query(prometheus.url, 'pgark_backup_last_success_timestamp_seconds');
      expect(success?.metric).toMatchObject({
        source: 'main',
        database: database.name,
        format: 'plain',
        storage: 'local',
      });
      const finishedMs = Number(success?.value[1]) * 1_000;
      expect(finishedMs).toBeGreaterThanOrEqual(began);
      expect(finishedMs).toBeLessThanOrEqual(Date.now());
      const [succeeded] = await query(prometheus.url, 'pgark_runs_total{kind="backup",result="succeeded"}');
      expect(succeeded?.value[1]).toBe('1');
      const scrape = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
      expect(scrape).not.toContain(new URL(database.url).password);
      const [stored] = await query(prometheus.url, 'pgark_storage_bytes');
      expect(Number(stored?.value[1])).toBe(state.backups[0]?.storedBytes);
    } finally {
      await server.close();
    }
  });
});
