import { readServerParameters, type ServerParameters } from '../../postgres/wal/record.ts';

/**
 * pg_control holds 1234567.0, by which a server of another machine's kind of numbers shows (src/include/catalog/pg_control.h:
 * floatFormat). The parameters lie before it in every version since 12, with what is of different length farther ahead:
 * five numbers, track_commit_timestamp, maxAlign.
 */
const FLOAT_FORMAT = 1_234_567;
const PARAMETERS_BEFORE = 28;
const ALIGNMENT = 8;

/** What the server had when the backup was made. Undefined for what is no pg_control of this kind. */
export function parametersIn(control: Uint8Array): ServerParameters | undefined {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  for (let at = ALIGNMENT * 8; at + ALIGNMENT <= view.byteLength; at += ALIGNMENT) {
    if (view.getFloat64(at, true) === FLOAT_FORMAT) return readServerParameters(view, at - PARAMETERS_BEFORE);
  }
  return undefined;
}

/** The higher one of each. */
export function highest(all: readonly ServerParameters[]): ServerParameters | undefined {
  const [first, ...others] = all;
  return others.reduce<ServerParameters | undefined>((a, b) => {
    if (a === undefined) return b;
    const higher = (name: keyof ServerParameters): number => Math.max(a[name], b[name]);
    return {
      max_connections: higher('max_connections'),
      max_worker_processes: higher('max_worker_processes'),
      max_wal_senders: higher('max_wal_senders'),
      max_prepared_transactions: higher('max_prepared_transactions'),
      max_locks_per_transaction: higher('max_locks_per_transaction'),
    };
  }, first);
}
