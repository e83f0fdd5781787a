import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import { MIB } from '../common/bytes.ts';
import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import { LAYOUT, refuseHigherLayout } from '../repository/manifest.ts';
import { readStateBytes } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { type RunRecord, runRecordSchema } from './run-record.ts';

/** Far more than what pgark writes unfolds to; a small object must not fill the memory. */
const UNFOLDED_BYTES_MAX = 256 * MIB;

const compactedSchema = z.object({
  layout: z.literal(LAYOUT),
  month: z.string(),
  sources: z.array(z.string()),
  runs: z.array(z.unknown()),
});

/** The records of many runs of one month, as they lie in one object. */
export interface CompactedRuns {
  /** Keys of the objects, single records and earlier ones of this kind, whose records went into this one. */
  readonly sources: readonly ObjectKey[];
  readonly runs: readonly RunRecord[];
  /** Records that this version does not understand: a newer one wrote them. */
  readonly unreadable: number;
}

/** JSON with a record in each line, so that `zcat` shows it well, in gzip. */
export async function encodeCompactedRuns(
  month: string,
  { sources, runs }: Pick<CompactedRuns, 'sources' | 'runs'>,
): Promise<Uint8Array> {
  const head = JSON.stringify({ layout: LAYOUT, month, sources }).slice(0, -1);
  return promisify(gzip)(`${head},"runs":[\n${runs.map((run) => JSON.stringify(run)).join(',\n')}\n]}\n`);
}

/** Undefined if there is none. Errors: `repository-unknown-layout`, `repository-damaged`; both name the key. */
export async function readCompactedRuns(
  store: ObjectStore,
  key: ObjectKey,
  options: CallOptions,
): Promise<CompactedRuns | undefined> {
  const found = await readStateBytes(store, key, options);
  if (found === undefined) return undefined;
  let value: unknown;
  try {
    const text = await promisify(gunzip)(found.bytes, { maxOutputLength: UNFOLDED_BYTES_MAX });
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch (error) {
    throw damaged(store, key, messageOf(error), error);
  }
  refuseHigherLayout(value, key);
  const parsed = compactedSchema.safeParse(value);
  if (!parsed.success) throw damaged(store, key, 'it is not what pgark writes', parsed.error);
  const runs = parsed.data.runs.flatMap((run) => runRecordSchema.safeParse(run).data ?? []);
  return { sources: parsed.data.sources, runs, unreadable: parsed.data.runs.length - runs.length };
}

/** A record of a newer version's layout is as unreadable as a damaged one; neither hides the others. */
export async function orDamaged<T>(
  key: ObjectKey,
  onDamaged: ((key: ObjectKey, error: PgarkError) => void) | undefined,
  read: () => Promise<T>,
): Promise<T | 'damaged'> {
  try {
    return await read();
  } catch (error) {
    if (!isPgarkError(error, 'repository-damaged') && !isPgarkError(error, 'repository-unknown-layout')) throw error;
    onDamaged?.(key, error);
    return 'damaged';
  }
}

function damaged(store: ObjectStore, key: ObjectKey, why: string, cause: unknown): PgarkError {
  return new PgarkError('repository-damaged', `${key} in ${store.location} cannot be read: ${why}`, {
    hint: 'restore it from a copy of the bucket, or remove it; it holds the history of runs only, no backup needs it',
    cause,
  });
}
