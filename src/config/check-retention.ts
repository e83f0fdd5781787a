import { isDeepStrictEqual } from 'node:util';
import type { BuildContext } from './context.ts';
import type { JobConfig, RetentionConfig, SourceConfig, StorageConfig } from './model.ts';

/**
 * Reports jobs of one source that would delete each other's backups: retention looks at all backups of a database in a
 * storage, and a backup does not say which job made it. Two names of one place count as one storage.
 */
export function checkRetention(
  context: BuildContext,
  databases: ReadonlyMap<string, SourceConfig>,
  storages: ReadonlyMap<string, StorageConfig>,
): void {
  for (const source of databases.values()) {
    const jobs = [...source.jobs.values()];
    for (const [index, job] of jobs.entries()) {
      for (const earlier of jobs.slice(0, index)) {
        if (!arePrunedTogether(earlier, job) || sameRetention(earlier.retention, job.retention)) continue;
        const shared = sharedStorage(earlier, job, storages);
        if (shared === undefined) continue;
        context.problem(
          ['databases', source.name, 'jobs', job.name, 'retention'],
          'config-conflict',
          `the jobs ${earlier.name} and ${job.name} of ${source.name} both write to the storage ${shared} and keep ` +
            `different backups (${describe(earlier)}, ${describe(job)}): one would delete what the other must keep`,
          'give both jobs the same retention, or different storages (another prefix or directory is enough)',
        );
      }
    }
  }
}

/** The files of a whole server and the contents of databases are counted apart. */
export function arePrunedTogether(a: Pick<JobConfig, 'format'>, b: Pick<JobConfig, 'format'>): boolean {
  return (a.format === 'physical') === (b.format === 'physical');
}

/** Whether two rules keep the same backups, whatever they are called. Without rules everything is kept. */
export function sameRetention(a: RetentionConfig | undefined, b: RetentionConfig | undefined): boolean {
  const rules = (retention: RetentionConfig | undefined): unknown =>
    retention === undefined ? undefined : { ...retention, name: '' };
  return isDeepStrictEqual(rules(a), rules(b));
}

function sharedStorage(a: JobConfig, b: JobConfig, storages: ReadonlyMap<string, StorageConfig>): string | undefined {
  const placesOfA = new Map(a.to.map((name) => [placeOf(storages.get(name), name), name]));
  for (const name of b.to) {
    const other = placesOfA.get(placeOf(storages.get(name), name));
    if (other !== undefined) return other === name ? name : `${other}, which is the same place as ${name},`;
  }
  return undefined;
}

/** The same text for the same place. A name that is not defined was reported before; it is a place of its own. */
function placeOf(storage: StorageConfig | undefined, name: string): string {
  switch (storage?.type) {
    case 'file':
      return JSON.stringify(['file', storage.path]);
    case 's3':
      return JSON.stringify(['s3', storage.endpoint ?? '', storage.bucket, storage.prefix]);
    case 'rclone':
      return JSON.stringify(['rclone', storage.remote, storage.configFile ?? '']);
    default:
      return JSON.stringify(['unknown', name]);
  }
}

function describe(job: JobConfig): string {
  return job.retention === undefined ? `${job.name} keeps all` : `${job.name} has ${job.retention.name}`;
}
