const DURATION_UNITS_MS = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
} as const;

const SIZE_UNITS_BYTES = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  PiB: 2 ** 50,
} as const;

/** A hundred years: what is longer is a slip of the finger. */
const DURATION_MS_MAX = 100 * 366 * DURATION_UNITS_MS.d;

/** Milliseconds of `500ms`, `30s`, `10m`, `6h`, `30d`, `2w` or several of them (`1h30m`); undefined for anything else. */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(\d{1,15}(ms|s|m|h|d|w)){1,6}$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|s|m|h|d|w)/g)) {
    totalMs += Number(count) * DURATION_UNITS_MS[unit as keyof typeof DURATION_UNITS_MS];
  }
  return totalMs <= DURATION_MS_MAX ? totalMs : undefined;
}

/** Bytes of `512B`, `50KiB`, `1.5GiB`, `20GB` (KB, MB … are powers of 1,000); undefined for anything else. */
export function parseSizeBytes(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?(B|[KMGT]B|[KMGTP]iB)$/.exec(text);
  if (!match) return undefined;
  const bytes = Math.round(Number(match[1]) * SIZE_UNITS_BYTES[match[2] as keyof typeof SIZE_UNITS_BYTES]);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes per second of `80MiB/s`; undefined for anything else, and for nothing per second. */
export function parseRateBytesPerSecond(text: string): number | undefined {
  if (!text.endsWith('/s')) return undefined;
  const bytes = parseSizeBytes(text.slice(0, -2));
  return bytes === 0 ? undefined : bytes;
}

/** 0.1 for `10%`; undefined for anything that is no percentage. */
export function parsePercentRatio(text: string): number | undefined {
  return /^\d{1,4}(\.\d{1,4})?%$/.test(text) ? Number(text.slice(0, -1)) / 100 : undefined;
}

/** The spelling that `parseDurationMs` reads back: `90s`, `6h`, `30d`. */
export function formatDurationSetting(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (ms % DURATION_UNITS_MS[unit] === 0 && (ms > 0 || unit === 's')) return `${ms / DURATION_UNITS_MS[unit]}${unit}`;
  }
  return `${ms}ms`;
}

/** The spelling that `parseSizeBytes` reads back: `50GiB`, `1000B`. */
export function formatSizeSetting(bytes: number): string {
  for (const unit of ['PiB', 'TiB', 'GiB', 'MiB', 'KiB'] as const) {
    if (bytes > 0 && bytes % SIZE_UNITS_BYTES[unit] === 0) return `${bytes / SIZE_UNITS_BYTES[unit]}${unit}`;
  }
  return `${bytes}B`;
}
