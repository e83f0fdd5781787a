import { formatBytes, formatDuration } from '../common/bytes.ts';
import type { PgarkError } from '../common/errors.ts';
import { gravest } from '../service/gravest.ts';
import { failureOf, type JobReport, type JobResult } from '../service/job-report.ts';
import type { CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { jsonLines, manifestJson } from './json.ts';
import { formatFacts } from './table.ts';
import { describeSuspicions, sizesOf } from '../repository/manifest.ts';
import { dataFolderOf } from '../repository/repository.ts';

interface Line {
  readonly source: string;
  readonly result: JobResult;
}

/**
 * Says what came of jobs, for each database and storage; then throws what the command ends with, if anything failed: `other` is what
 * else it has done and failed in.
 */
export function concludeJobs(run: CommandRun, reports: readonly JobReport[], other?: PgarkError): void {
  const lines = reports.flatMap(({ job, results }) => results.map((result) => ({ source: job.source.name, result })));
  const results = lines.map(resultJson);
  run.result(
    { results },
    () => lines.map(({ result }) => describeResult(result)).join(''),
    () => jsonLines('result', results),
  );
  const ofJobs = failureOf(lines.map(({ result }) => result));
  const failure = gravest([ofJobs, other].flatMap((each) => each ?? []));
  if (failure === undefined) return;
  // What is thrown is said by whoever catches it.
  if (lines.length > 1 || failure !== ofJobs) {
    for (const { source, result } of lines) {
      const { error, storage, database = source } = result;
      const what = database === source ? source : `${source}/${database}`;
      if (error !== undefined) run.failure(`${what} to ${storage}`, error);
    }
  }
  throw failure;
}

function resultJson({ source, result }: Line): Record<string, unknown> {
  const { database, storage, outcome, error } = result;
  const base = { source, database, storage };
  if (error !== undefined) return { ...base, state: 'failed', error: reportError(error) };
  if (outcome?.kind === 'committed') {
    return { ...base, state: 'committed', duration_ms: outcome.durationMs, backup: manifestJson(outcome.manifest) };
  }
  return { ...base, state: 'checked', key: outcome?.key };
}

function describeResult({ storage, location, outcome }: JobResult): string {
  if (outcome === undefined) return '';
  const where = location ?? storage;
  if (outcome.kind === 'checked') {
    return (
      `all checks passed: ${outcome.database.name} can be backed up to ${where}\n` +
      formatFacts([
        [outcome.key.endsWith('/') ? '  folder' : '  file', outcome.key],
        ['  by', `${outcome.client.program} ${outcome.client.version}`],
      ])
    );
  }
  const { manifest, durationMs } = outcome;
  const folder = dataFolderOf(manifest);
  const isText = manifest.format === 'plain';
  const { plainBytes: plain, storedBytes: stored } = sizesOf(manifest);
  const ratio = stored > 0 ? (plain / stored).toFixed(1) : '1.0';
  return (
    `backed up ${manifest.database.name} to ${where} in ${formatDuration(durationMs)}\n` +
    formatFacts([
      folder === undefined ? ['  file', manifest.objects[0]?.key] : ['  folder', folder],
      ['  id', manifest.id],
      ['  changes since', manifest.parents[0]],
      ['  suspicious', describeSuspicions(manifest)],
      ['  size', `${formatBytes(plain)} of ${isText ? 'SQL' : 'data'}, ${formatBytes(stored)} stored (${ratio}:1)`],
    ])
  );
}
