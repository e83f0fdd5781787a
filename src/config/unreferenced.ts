import type { Config, JobConfig, SourceConfig } from './model.ts';

/** A section that is written down and has no effect, since nothing refers to it. */
export interface Unreferenced {
  /** `notifications.ops` */
  readonly setting: string;
  /** Follows it: `is named by no database: nobody is told through it`. */
  readonly remark: string;
}

/**
 * What is set up and left out of every database and job, so that nobody counts on it. Keys may be there for restores alone,
 * and are named only where some backup is not encrypted at all, without anybody having said so.
 */
export function unreferenced(config: Config): readonly Unreferenced[] {
  const sources = [...config.databases.values()];
  const jobs = sources.flatMap((source) => [...source.jobs.values()]);
  const wal = sources.flatMap((source) => source.wal ?? []);
  const told = sources.flatMap(({ notify }) => notify);
  const keys = [...jobs, ...wal].flatMap(({ encryption }) => encryption?.name ?? []);
  const policies = jobs.flatMap(({ retention }) => retention?.name ?? []);
  const storages = [...jobs, ...wal].flatMap(({ to }) => to);
  const plain = sources.filter((source) => isPlainUnsaid(config, source)).map(({ name }) => name);
  // Who stores nothing may still try what lies in any storage.
  const isStoredFrom = sources.every((source) => source.jobs.size > 0 || source.wal !== undefined);
  return [
    ...left(config, 'notifications', told, 'is named by no database: nobody is told through it'),
    ...(plain.length === 0
      ? []
      : left(config, 'encryption', keys, `is used by no job: backups of ${plain.join(', ')} are not encrypted`)),
    ...left(config, 'retention', policies, 'is used by no job: nothing is deleted by it'),
    ...(isStoredFrom ? left(config, 'storages', storages, 'is used by no job: nothing is stored there') : []),
  ];
}

/** What is wrong with a notification that no database names; undefined for others. */
export function whyUnheard(config: Config, notification: string): string | undefined {
  const setting = `notifications.${notification}`;
  return unreferenced(config).find((each) => each.setting === setting)?.remark;
}

function left(
  config: Config,
  section: 'notifications' | 'encryption' | 'retention' | 'storages',
  named: readonly string[],
  remark: string,
): readonly Unreferenced[] {
  const names = [...config[section].keys()].filter((name) => !named.includes(name));
  return names.map((name) => ({ setting: `${section}.${name}`, remark }));
}

/** Whether backups of it are not encrypted, and no `encryption: none` says that this is meant. */
function isPlainUnsaid({ source: origin, origins }: Config, { name, jobs }: SourceConfig): boolean {
  // The environment has one switch for it, which says so.
  if (origin === 'environment') return false;
  const isUnsaid = (job: JobConfig): boolean =>
    job.encryption === undefined && origins.isDefault(['databases', name, 'jobs', job.name, 'encryption']);
  return [...jobs.values()].some(isUnsaid);
}
