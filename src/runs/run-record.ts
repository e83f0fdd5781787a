import { z } from 'zod';
import { errorTable } from '../common/error-table.ts';
import type { PgarkError } from '../common/errors.ts';
import { isRunId, type RunId } from '../repository/ids.ts';

export type RunKind = 'backup' | 'globals' | 'restore' | 'verify' | 'drill' | 'copy' | 'prune' | 'pin' | 'unpin';

const shape = {
  layout: z.literal(1),
  id: z.string().refine(isRunId, 'is no run id') as unknown as z.ZodType<RunId>,
  kind: z.enum(['backup', 'globals', 'restore', 'verify', 'drill', 'copy', 'prune', 'pin', 'unpin']),
  state: z.enum(['running', 'succeeded', 'failed', 'interrupted']),
  source: z.string().optional(),
  database: z.string().optional(),
  /** Of a backup; records of earlier versions lack it, and those of later ones may name one that this one does not know. */
  format: z.string().optional(),
  /** The storages that the run works on, if they are several; each holds a record of this id, with its own end. */
  destinations: z.array(z.string()).optional(),
  host: z.string(),
  pid: z.number().int(),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime().optional(),
  /** Facts of the result: ids, sizes, durations. */
  result: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  error: z.looseObject({ code: z.string(), message: z.string(), hint: z.string(), exit: z.number().int() }).optional(),
  pgarkVersion: z.string(),
};

const knownFields = z.object(shape);

/** `.pgark/runs/YYYY-MM/RUNID.json`: what ran, where, and how it ended. */
export type RunRecord = z.infer<typeof knownFields>;

/** Fields that a later version added pass through unseen: whoever compacts records loses nothing of them. */
export const runRecordSchema: z.ZodType<RunRecord> = z.looseObject(shape);

export function serialiseRunRecord(record: RunRecord): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(runRecordSchema.parse(record), undefined, 2)}\n`);
}

export function describeFailure(error: PgarkError): NonNullable<RunRecord['error']> {
  return { code: error.code, message: error.message, hint: error.hint, exit: errorTable[error.code].exit };
}

/**
 * Of two records of one run the one that says more of its end: one that ended, before one that was only found dead,
 * before one that says it is running. The same whichever comes first.
 */
export function laterRecord(a: RunRecord, b: RunRecord): RunRecord {
  const difference = finality(a) - finality(b);
  if (difference !== 0) return difference > 0 ? a : b;
  const [endA, endB] = [a.endedAt ?? '', b.endedAt ?? ''];
  if (endA !== endB) return endA > endB ? a : b;
  return JSON.stringify(a) >= JSON.stringify(b) ? a : b;
}

function finality({ state, endedAt }: RunRecord): number {
  if (state === 'running') return 0;
  return endedAt === undefined ? 1 : 2;
}
