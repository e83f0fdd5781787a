import { COMPRESSION_LEVELS } from '../common/compression-levels.ts';
import { Secret } from '../common/secret.ts';
import {
  type ConnectionConfig,
  type ConnectionParts,
  ConnectionStringError,
  DEFAULT_PORT,
  DEFAULT_SSL_MODE,
  parseConnectionString,
  requiredParts,
} from './connection.ts';
import type { BuildContext } from './context.ts';
import { defaultCompression } from './default-compression.ts';
import { defined } from './defined.ts';
import type { CompressionConfig, EncryptionConfig, JobConfig, RetentionConfig, SourceConfig } from './model.ts';
import type { CompressionSection, DatabaseSection, JobSection, Sections } from './schema.ts';

/** The name that every plain backup gets if no template says otherwise; the ending follows the compression. */
const DEFAULT_FILENAME = '{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz';
/** Where to connect when databases are chosen by patterns and no database is said. */
const MAINTENANCE_DATABASE = 'postgres';

/** What jobs refer to by name. Wrong names were reported before; they are simply not in the maps. */
export interface Named {
  readonly storages: readonly string[];
  readonly encryption: ReadonlyMap<string, EncryptionConfig>;
  readonly retention: ReadonlyMap<string, RetentionConfig>;
  readonly defaults: Sections['defaults'];
}

export async function buildSource(
  context: BuildContext,
  name: string,
  section: DatabaseSection,
  named: Named,
): Promise<SourceConfig> {
  const path = ['databases', name];
  const connection = await buildConnection(context, path, section);
  if (section.databases?.every((pattern) => pattern.startsWith('!'))) {
    context.problem([...path, 'databases'], 'config-invalid', 'only excludes; add "*" to choose the others');
  }
  const jobs = Object.entries(section.jobs ?? {}).map(
    ([job, jobSection]) => [job, buildJob(context, path, job, section, jobSection, named)] as const,
  );
  if (section.notify === undefined) context.origins.copy([...path, 'notify'], ['defaults', 'notify']);
  return defined({
    name,
    connection,
    databases: section.databases,
    globals: section.globals ?? 'auto',
    protection: section.protection ?? 'normal',
    jobs: new Map(jobs),
    notify: section.notify ?? named.defaults?.notify ?? [],
    wal: buildWal(context, path, section, named),
    verify: section.verify,
    drill:
      section.drill?.workDir === undefined
        ? section.drill
        : { ...section.drill, workDir: context.resolve(section.drill.workDir) },
    hooks: section.hooks,
    expect: section.expect,
  });
}

function buildWal(
  context: BuildContext,
  sourcePath: readonly string[],
  { wal, encryption }: DatabaseSection,
  named: Named,
): SourceConfig['wal'] {
  if (wal === undefined) return undefined;
  const path = [...sourcePath, 'wal'];
  if (encryption !== undefined) context.origins.copy([...path, 'encryption'], [...sourcePath, 'encryption']);
  return defined({
    ...wal,
    to: storagesOf(context, [...path, 'to'], wal.to, named),
    encryption: encryption === undefined ? undefined : named.encryption.get(encryption),
  });
}

function storagesOf(
  context: BuildContext,
  path: readonly string[],
  chosen: readonly string[] | undefined,
  named: Named,
): readonly string[] {
  if (chosen !== undefined && chosen.length > 0) return [...new Set(chosen)];
  if (named.storages.length !== 1) {
    context.problem(path, 'config-missing', `is required, since there are ${named.storages.length} storages`);
  }
  return named.storages;
}

function buildJob(
  context: BuildContext,
  sourcePath: readonly string[],
  name: string,
  source: DatabaseSection,
  job: JobSection,
  named: Named,
): JobConfig {
  const path = [...sourcePath, 'jobs', name];
  const format = job.format ?? (job.filename === undefined ? 'directory' : 'plain');
  if (job.incremental === true && format !== 'physical') {
    context.problem([...path, 'incremental'], 'config-invalid', `needs format physical, not ${format}`);
  }
  if (job.full_every !== undefined && job.incremental !== true) {
    context.problem([...path, 'full_every'], 'config-invalid', 'needs incremental: true');
  }
  if (job.filename !== undefined && format !== 'plain') {
    context.problem([...path, 'filename'], 'config-invalid', `names plain backups; the format is ${format}`);
  }
  for (const key of ['checkpoint', 'max_rate'] as const) {
    if (job[key] === undefined || format === 'physical') continue;
    context.problem([...path, key], 'config-invalid', `needs format physical, not ${format}`);
  }
  if (job.exclude_table_data !== undefined && format === 'physical') {
    const why = 'leaves nothing out of a physical backup, which is of whole files';
    context.problem([...path, 'exclude_table_data'], 'config-invalid', why);
  }
  if (job.encryption === undefined && source.encryption !== undefined) {
    context.origins.copy([...path, 'encryption'], [...sourcePath, 'encryption']);
  }
  const encryption = job.encryption ?? source.encryption;
  return defined({
    name,
    format,
    incremental: job.incremental ?? false,
    fullEvery: job.full_every,
    schedule: job.schedule,
    jitterMs: job.jitter ?? 0,
    to: storagesOf(context, [...path, 'to'], job.to, named),
    retention: job.retention === undefined ? undefined : named.retention.get(job.retention),
    encryption: encryption === undefined ? undefined : named.encryption.get(encryption),
    compression: buildCompression(context, path, format, job.compression, named.defaults?.compression),
    filename: format === 'plain' ? (job.filename ?? DEFAULT_FILENAME) : undefined,
    parallel: job.parallel,
    excludeTableData: job.exclude_table_data ?? [],
    checkpoint: job.checkpoint,
    rateBytesPerSecondMax: job.max_rate,
  });
}

function buildCompression(
  context: BuildContext,
  jobPath: readonly string[],
  format: JobConfig['format'],
  own: CompressionSection | undefined,
  general: CompressionSection | undefined,
): CompressionConfig {
  const path = own === undefined ? ['defaults', 'compression'] : [...jobPath, 'compression'];
  const target = [...jobPath, 'compression'];
  const chosen = own ?? general;
  if (chosen === undefined) return defaultCompression(format);
  const { algorithm, level } = typeof chosen === 'string' ? { algorithm: chosen } : { level: undefined, ...chosen };
  context.origins.copy([...target, 'algorithm'], typeof chosen === 'string' ? path : [...path, 'algorithm']);
  if (level !== undefined) context.origins.copy([...target, 'level'], [...path, 'level']);
  if (algorithm === 'none') {
    if (level !== undefined)
      context.problem([...path, 'level'], 'config-invalid', 'has no meaning without compression');
    return { algorithm, level: 0 };
  }
  const levels = COMPRESSION_LEVELS[algorithm];
  if (level !== undefined && level > levels.max) {
    const range = `from ${levels.min} to ${levels.max} for ${algorithm}`;
    context.problem([...path, 'level'], 'config-invalid', `must be a whole number ${range}`);
  }
  return { algorithm, level: level ?? levels.default };
}

async function buildConnection(
  context: BuildContext,
  path: readonly string[],
  section: DatabaseSection,
): Promise<ConnectionConfig> {
  const urlPath = [...path, 'url'];
  const url = await context.text(urlPath, section.url, section.url_file);
  const fromUrl = url === undefined ? {} : parseUrl(context, urlPath, url);
  const password = await context.text([...path, 'password'], section.password, section.password_file);
  const fields: ConnectionParts = defined({
    host: section.host,
    port: section.port,
    user: section.user,
    password: password === undefined ? undefined : new Secret(password),
    database: section.database,
    sslMode: section.sslmode,
    sslRootCert: section.sslrootcert,
    sslCert: section.sslcert,
    sslKey: section.sslkey,
    passFile: section.passfile,
  });
  reportContradictions(context, path, fromUrl ?? {}, fields);
  const said = { ...fields, ...fromUrl };
  for (const key of Object.keys(said)) {
    const setting = key.toLowerCase();
    const fromPath = fromUrl !== undefined && key in fromUrl ? 'url' : setting;
    const filePath = [...path, `${fromPath}_file`];
    const isFile =
      fromPath === 'url' ? section.url === undefined : fromPath === 'password' && section.password === undefined;
    context.origins.copy([...path, 'connection', setting], isFile ? filePath : [...path, fromPath]);
  }
  if (section.databases !== undefined) said.database ??= MAINTENANCE_DATABASE;
  reportMissing(context, path, section, url, fromUrl, said);
  const files = (['sslRootCert', 'sslCert', 'sslKey', 'passFile'] as const).filter((key) => said[key] !== undefined);
  return {
    ...said,
    // libpq knows the word "system" for the operating system's certificates.
    ...Object.fromEntries(
      files.map((key) => [key, said[key] === 'system' ? 'system' : context.resolve(said[key] ?? '')]),
    ),
    host: said.host ?? '',
    port: said.port ?? DEFAULT_PORT,
    user: said.user ?? '',
    database: said.database ?? '',
    sslMode: said.sslMode ?? DEFAULT_SSL_MODE,
  };
}

/** Undefined if there is an URL that cannot be read. */
function parseUrl(context: BuildContext, path: readonly string[], url: string): ConnectionParts | undefined {
  try {
    return parseConnectionString(url);
  } catch (error) {
    if (!(error instanceof ConnectionStringError)) throw error;
    context.problem(path, 'config-invalid', `is no connection URL: ${error.message}`);
    return undefined;
  }
}

function reportContradictions(
  context: BuildContext,
  path: readonly string[],
  fromUrl: ConnectionParts,
  fields: ConnectionParts,
): void {
  for (const key of Object.keys(fields) as (keyof ConnectionParts)[]) {
    // Where the URL names a host and no port, it means the usual one.
    const said = key === 'port' && fromUrl.host !== undefined ? (fromUrl.port ?? DEFAULT_PORT) : fromUrl[key];
    const field = fields[key];
    if (said === undefined || plain(said) === plain(field)) continue;
    const values = said instanceof Secret ? '' : ` (${plain(field)} against ${plain(said)})`;
    const other = context.origins.get([...path, 'url'])?.where ?? 'url';
    context.problem([...path, key], 'config-conflict', `contradicts ${other}${values}`, 'keep one of the two');
  }
}

function plain(value: unknown): string {
  return value instanceof Secret ? value.reveal() : String(value);
}

function reportMissing(
  context: BuildContext,
  path: readonly string[],
  section: DatabaseSection,
  url: string | undefined,
  fromUrl: ConnectionParts | undefined,
  said: ConnectionParts,
): void {
  const urlWanted = section.url !== undefined || section.url_file !== undefined;
  // An URL that could not be read was reported; what it lacks is not known.
  if (fromUrl === undefined || (urlWanted && url === undefined)) return;
  for (const key of requiredParts) {
    if (said[key] !== undefined) continue;
    const known = url === undefined ? `is required (or url, or url_file)` : `names no ${key}`;
    context.problem([...path, url === undefined ? key : 'url'], 'config-missing', known);
  }
}
