import { z } from 'zod';
import { isPgarkError } from '../common/errors.ts';
import type { CallOptions, ObjectInfo, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { BackupId } from './ids.ts';
import { keys } from './keys.ts';
import { STORE_CLOCK_STEP_MS } from './lease-record.ts';
import { LAYOUT } from './manifest.ts';
import { readState } from './state-object.ts';

/**
 * For so long a hold that cannot be read, or that a later version wrote, counts as one that lives; and one whose term is over is left
 * for so long, since its reader may be about to renew it.
 */
const LEFT_MS = 3_600_000;

/** `.pgark/reading/ID/TOKEN.json`: who reads a backup, which no prune removes until then. Times are the store's. */
const readingSchema = z.object({
  layout: z.literal(LAYOUT),
  id: z.string().min(1),
  holder: z.object({ host: z.string(), pid: z.number().int(), command: z.string(), runId: z.string().optional() }),
  since: z.iso.datetime(),
  until: z.iso.datetime(),
});

export type Reading = z.infer<typeof readingSchema>;

/** One who reads a backup, in words: `db1 (pid 71) for \`pgark restore\` since …`. */
export interface Reader {
  readonly reader: string;
}

export interface Readers {
  /** By the ids of backups. */
  readonly reading: ReadonlyMap<string, Reader>;
  /** Holds that nobody will need any more. */
  readonly ended: readonly ObjectKey[];
}

/** Who reads now: all backups, or one. One request, where nobody does. */
export async function findReaders(store: ObjectStore, call: CallOptions, id?: BackupId): Promise<Readers> {
  const found: { readonly info: ObjectInfo; readonly value: Reading | undefined }[] = [];
  for await (const info of store.list(id === undefined ? keys.readingPrefix : keys.readingOf(id), call)) {
    const value = await readHold(store, info.key, call);
    if (value !== 'gone') found.push({ info, value });
  }
  const reading = new Map<string, Reader>();
  const ended: ObjectKey[] = [];
  if (found.length === 0) return { reading, ended };
  const now = (await store.now(call)).getTime();
  for (const { info, value } of found) {
    const untilMs = value === undefined ? info.modified.getTime() + LEFT_MS : Date.parse(value.until);
    if (now <= untilMs + STORE_CLOCK_STEP_MS) reading.set(backupOf(info.key), { reader: describe(value) });
    else if (now > untilMs + LEFT_MS) ended.push(info.key);
  }
  return { reading, ended };
}

/** Undefined for one that says nothing to this version. */
async function readHold(store: ObjectStore, key: ObjectKey, call: CallOptions): Promise<Reading | undefined | 'gone'> {
  try {
    return (await readState(store, key, readingSchema, call))?.value ?? 'gone';
  } catch (error) {
    const saysNothing = (['repository-damaged', 'repository-unknown-layout', 'store-access-denied'] as const).some(
      (code) => isPgarkError(error, code),
    );
    if (!saysNothing) throw error;
    return undefined;
  }
}

function backupOf(key: ObjectKey): string {
  return key.slice(keys.readingPrefix.length).split('/')[0] ?? '';
}

function describe(value: Reading | undefined): string {
  if (value === undefined) return 'somebody, whose hold cannot be read,';
  const { holder, since } = value;
  return `${holder.host} (pid ${holder.pid}) for \`${holder.command}\` since ${since}`;
}
