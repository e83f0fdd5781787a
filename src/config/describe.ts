import { Secret } from '../common/secret.ts';
import type { Config } from './model.ts';
import { type Path, pathText } from './origins.ts';
import { formatDurationSetting, formatSizeSetting } from './units.ts';

/** Names of the model that are not the file's in another spelling, because they are another part's names too. */
const FILE_WORDS: Readonly<Record<string, { readonly word: string; readonly format?: (value: number) => string }>> = {
  sslMode: { word: 'sslmode' },
  sslRootCert: { word: 'sslrootcert' },
  sslCert: { word: 'sslcert' },
  sslKey: { word: 'sslkey' },
  passFile: { word: 'passfile' },
  retriesMax: { word: 'attempts' },
  delayMsMax: { word: 'max_delay', format: formatDurationSetting },
  partBytes: { word: 'part_size', format: formatSizeSetting },
  maxTotalBytes: { word: 'max_total_size', format: formatSizeSetting },
};

/** Where backups lie is to be seen in any case. Any other text is shown with its references to variables, which may be secret. */
const PLACES = /^storages\..*\.(bucket|prefix|endpoint|region|path)$/;

/** One setting as people see it. */
export interface ConfigRow {
  /** In the file's words: `databases.shop.jobs.full.schedule`. */
  readonly path: string;
  /** `[redacted]` for a secret. Of a program only how many arguments it gets, since they may be secret. */
  readonly value: string;
  /** `environment: S3_BUCKET`, `file: pgark.yaml:12`, `flag: --log-level` or `default`. */
  readonly origin: string;
}

/** The model's names end in units, the file's values do. */
const UNITS: readonly (readonly [suffix: string, format: (value: number) => string])[] = [
  ['BytesPerSecond', (value) => `${formatSizeSetting(value)}/s`],
  ['Bytes', formatSizeSetting],
  ['Seconds', (value) => `${value}s`],
  ['Ms', formatDurationSetting],
  ['Ratio', (value) => `${Math.round(value * 1e6) / 1e4}%`],
];

/** Every setting of a configuration, with its value redacted where it is secret, and where it comes from. */
export function describeConfig(config: Config): readonly ConfigRow[] {
  const { source, warnings: _warnings, leftOut: _leftOut, decryptionKeys: _keys, origins, ...settings } = config;
  const rows: ConfigRow[] = [];
  const add = (path: Path, value: string): void => {
    rows.push({ path: pathText(path), value, origin: origins.originOf(path) });
  };
  const textOf = (path: Path, value: unknown): string => {
    const reference = PLACES.test(pathText(path)) ? undefined : origins.referenceAt(path);
    return withoutQuery(reference ?? String(value));
  };
  const visit = (path: Path, key: string, value: unknown): void => {
    if (typeof value === 'number') {
      const [suffix, format] = UNITS.find(([unit]) => key.endsWith(unit)) ?? ['', String];
      const word = FILE_WORDS[key];
      const text = (word?.format ?? format)(value);
      add([...path, word?.word ?? snake(key.slice(0, key.length - suffix.length))], text);
    } else if (typeof value === 'boolean' || value instanceof Secret) {
      add([...path, snake(key)], String(value));
    } else if (typeof value === 'string') {
      add([...path, snake(key)], textOf([...path, snake(key)], value));
    } else if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) {
      const texts = value.map((item, index) => textOf([...path, snake(key), index], item));
      add([...path, snake(key)], key === 'run' ? programText(texts) : texts.join(', '));
    } else if (typeof value === 'object' && value !== null) {
      visitObject([...path, snake(key)], key, value);
    }
  };
  const visitObject = (path: Path, key: string, value: object): void => {
    const schedule = scheduleText(value);
    if (schedule !== undefined) {
      add(path, schedule);
    } else if ((key === 'retention' || key === 'encryption') && 'name' in value) {
      // A job's: described once, under its own name.
      add(path, String(value.name));
    } else if (Array.isArray(value)) {
      value.forEach((item: object, index) => {
        for (const [inner, innerValue] of Object.entries(item)) visit([...path, index], inner, innerValue);
      });
    } else if (value instanceof Map) {
      for (const [name, entry] of value as Map<string, object>) {
        // A name of the user's stays as it is; below it stand names of the model again.
        for (const [inner, innerValue] of Object.entries(entry)) {
          if (inner !== 'name') visit([...path, name], inner, innerValue);
        }
      }
    } else {
      for (const [inner, innerValue] of Object.entries(value)) visit(path, inner, innerValue);
    }
  };
  add(['source'], typeof source === 'string' ? source : source.file);
  const { bandwidthBytesPerSecond, concurrency, leaseTermMs, retry, ...rest } = settings;
  visit([], 'defaults', { bandwidthBytesPerSecond, concurrency, leaseTermMs, retry });
  for (const [key, value] of Object.entries(rest)) visit([], key, value);
  return rows;
}

function snake(name: string): string {
  return FILE_WORDS[name]?.word ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function programText([program = '', ...args]: readonly string[]): string {
  return args.length === 0 ? program : `${program} with ${args.length} argument${args.length === 1 ? '' : 's'}`;
}

/** The query of an address may hold a key. */
function withoutQuery(text: string): string {
  return text.replace(/^(https?:\/\/[^?#]*\?).+$/, '$1[redacted]');
}

function scheduleText(value: object): string | undefined {
  if ('expression' in value && typeof value.expression === 'string') return value.expression;
  return 'everyMs' in value && typeof value.everyMs === 'number' ? formatDurationSetting(value.everyMs) : undefined;
}
