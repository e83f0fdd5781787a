import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';

/**
 * Libraries that measure, log, check or warm up, and output plugins, which wait to be asked. Of another one nothing is known: it
 * may have workers of its own, which carry out jobs, replicate, or send.
 */
const HARMLESS: ReadonlySet<string> = new Set([
  'auth_delay',
  'auto_explain',
  'decoderbufs',
  'passwordcheck',
  'pg_hint_plan',
  'pg_prewarm',
  'pg_qualstats',
  'pg_stat_kcache',
  'pg_stat_monitor',
  'pg_stat_statements',
  'pg_wait_sampling',
  'pgaudit',
  'pgoutput',
  'plpgsql',
  'plugin_debugger',
  'sepgsql',
  'set_user',
  'wal2json',
]);

const PRELOADED = /^\s*shared_preload_libraries(?:\s*=\s*|\s+)('(?:[^'\\]|''|\\.)*'|[^\s#']+)/gim;

/**
 * Libraries that a server loads by its configuration and that may begin to work as soon as it starts. `files`: what it reads, in
 * this order; the last one counts.
 */
export function workingLibraries(files: readonly ByteString[]): readonly string[] {
  const [, value = ''] = files.flatMap((file) => [...readable(file).matchAll(PRELOADED)]).at(-1) ?? [];
  const names = value
    .replaceAll(/^'|'$/g, '')
    .split(',')
    .map((name) => nameOf(name))
    .filter((name) => name !== '' && !HARMLESS.has(name));
  return [...new Set(names)];
}

/** Of `"$libdir/timescaledb.so"`. */
function nameOf(library: string): string {
  const file = library.replaceAll(/["'\\]/g, '').trim();
  return file.slice(file.lastIndexOf('/') + 1).replace(/\.so$/, '');
}
