import { assert, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { arePrunedTogether, sameRetention } from '../config/check-retention.ts';
import { defaultCompression } from '../config/default-compression.ts';
import type { Config, JobConfig, SourceConfig, StorageConfig } from '../config/model.ts';
import { unreferenced } from '../config/unreferenced.ts';
import { checkPlainNameTemplate, PLAIN_NAME_TEMPLATE } from '../repository/plain-name.ts';

/** What a job of the configuration says, for its source, with the storages that it writes to. */
export interface Job {
  /** `shop/nightly`: the source's and the job's name, as logs show them. */
  readonly id: string;
  readonly source: SourceConfig;
  readonly settings: JobConfig;
  /** At least one. */
  readonly storages: readonly StorageConfig[];
}

export interface JobSelection {
  readonly sources: readonly SourceConfig[];
  /** Instead of the storages that the jobs name. */
  readonly to?: readonly StorageConfig[];
  /** Only jobs of this format; of a source that has none, its jobs in this format. Default: all, as they are. */
  readonly format?: JobConfig['format'];
  /** Only incremental jobs; of a source that has none, its physical ones, which are incremental then. Default: all. */
  readonly incremental?: boolean;
  /** Instead of what the jobs say of connections. */
  readonly parallel?: number;
  /** Whether the jobs' own retention is carried out afterwards: then they must not delete what another keeps. */
  readonly prunes: boolean;
  /** Whether it is fine that there are none. Default: false. */
  readonly mayBeNone?: boolean;
}

/** What of the configuration is to be done. Error: `config-invalid` if that cannot be done as it is configured. */
export function planJobs(config: Config, selection: JobSelection, logger: Logger): readonly Job[] {
  const { sources } = selection;
  const jobs = sources.flatMap((source) => jobsOf(config, source, selection));
  if (jobs.length === 0 && selection.mayBeNone !== true) {
    throw new PgarkError('config-invalid', 'none of the databases asked for has a job', {
      hint: 'add a job with format: directory, see docs/configuration.md',
    });
  }
  checkNames(config, jobs);
  if (selection.prunes) checkRetentions(config, jobs);
  warnOfUnused(config, sources, logger);
  return jobs;
}

function jobsOf(
  config: Config,
  source: SourceConfig,
  { to, format, incremental = false, parallel }: Pick<JobSelection, 'to' | 'format' | 'incremental' | 'parallel'> = {},
): readonly Job[] {
  const all = [...source.jobs.values()];
  const wanted = all.filter((settings) => format === undefined || settings.format === format);
  const fitting = incremental ? wanted.filter((settings) => settings.incremental) : wanted;
  const chosen = [fitting, wanted, all].find(({ length }) => length > 0) ?? [];
  return chosen.map((settings) => ({
    id: `${source.name}/${settings.name}`,
    source,
    settings: {
      ...settings,
      ...(format === undefined ? {} : inFormat(config, source, settings, format)),
      ...(parallel === undefined ? {} : { parallel }),
      ...(incremental ? { incremental } : {}),
    },
    storages: to ?? settings.to.map((name) => storageOf(config, name)),
  }));
}

/** A compression that nobody has set follows the format. */
function inFormat(
  { origins }: Config,
  source: SourceConfig,
  { name }: JobConfig,
  format: JobConfig['format'],
): Partial<JobConfig> {
  const path = ['databases', source.name, 'jobs', name, 'compression'];
  const isDefault = ['algorithm', 'level'].every((part) => origins.isDefault([...path, part]));
  return isDefault ? { format, compression: defaultCompression(format) } : { format };
}

function storageOf(config: Config, name: string): StorageConfig {
  const storage = config.storages.get(name);
  assert(storage !== undefined, `a job's storage ${name} is configured`);
  return storage;
}

/** Backups of several sources in one storage must not be named alike, whether or not all of them are made in this run. */
function checkNames(config: Config, jobs: readonly Job[]): void {
  const all = [...jobs, ...[...config.databases.values()].flatMap((source) => jobsOf(config, source))];
  for (const job of jobs) {
    if (job.settings.format !== 'plain') continue;
    const template = templateOf(job.settings);
    const severalDatabases = all.some(
      (other) =>
        other.source !== job.source &&
        other.settings.format === 'plain' &&
        templateOf(other.settings) === template &&
        sharedStorage(other, job) !== undefined,
    );
    checkPlainNameTemplate(template, { severalDatabases });
  }
}

/** Of a source that is one database. The connection's of a source with patterns is one to ask, not one to back up. */
export function databaseOf({ databases, connection }: SourceConfig): string | undefined {
  return databases === undefined ? connection.database : undefined;
}

/** What plain backups of the job are named by. */
export function templateOf(settings: JobConfig): string {
  return settings.filename ?? PLAIN_NAME_TEMPLATE;
}

/** What the configuration may not say, other storages may not bring about: jobs that prune each other's backups. */
function checkRetentions(config: Config, jobs: readonly Job[]): void {
  for (const job of jobs) {
    for (const other of [...jobs, ...jobsOf(config, job.source)]) {
      if (other.source !== job.source || !arePrunedTogether(other.settings, job.settings)) continue;
      if (sameRetention(other.settings.retention, job.settings.retention)) continue;
      const storage = sharedStorage(other, job);
      if (storage === undefined) continue;
      throw new PgarkError(
        'config-conflict',
        `the jobs ${job.settings.name} and ${other.settings.name} of ${job.source.name} would both write to the storage ` +
          `${storage} and keep different backups: one would delete what the other must keep`,
        { hint: 'say --no-prune, or another storage' },
      );
    }
  }
}

/** Name of a storage that both write to. */
function sharedStorage(one: Job, other: Job): string | undefined {
  return one.storages.find(({ name }) => other.storages.some((storage) => storage.name === name))?.name;
}

/** Says what is configured and not done, so that nobody counts on it. */
function warnOfUnused(config: Config, sources: readonly SourceConfig[], logger: Logger): void {
  const warn = (message: string, setting: string, source?: string): void =>
    logger.warning('config.unused', message, { source, setting });
  for (const source of sources) {
    const { name } = source;
    if (source.jobs.size === 0) warn(`${name} has no jobs: no backup of it is made`, 'jobs', name);
  }
  for (const { setting, remark } of unreferenced(config)) warn(`${setting} ${remark}`, setting);
  if (config.server.publicUrl !== undefined) {
    warn('the setting server.public_url is not carried out by this version', 'server.public_url');
  }
  if (config.origins.originOf(['server', 'auth', 'mode']) !== 'default') {
    const open = 'whoever reaches server.listen reads health and metrics';
    warn(`the setting server.auth is not carried out by this version: ${open}`, 'server.auth');
  }
}
