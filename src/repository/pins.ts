import { z } from 'zod';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { type BackupId, isBackupId } from './ids.ts';
import { keys } from './keys.ts';
import { LAYOUT } from './manifest.ts';
import { readState, writeState } from './state-object.ts';

const pinSchema = z.object({
  layout: z.literal(LAYOUT),
  id: z.string().refine(isBackupId, 'is no backup id') as unknown as z.ZodType<BackupId>,
  /** By the store's clock. */
  pinnedAt: z.iso.datetime(),
  /** The user is missing where the system knows no name for it. */
  by: z.object({ user: z.string().optional(), host: z.string() }),
  reason: z.string().optional(),
  runId: z.string(),
  pgarkVersion: z.string(),
});

/** `.pgark/pins/ID.json`: who holds a backup, since when and why. What holds it is that the object is there, whatever is in it. */
export type Pin = z.infer<typeof pinSchema>;

/** Undefined if the backup is not pinned. Errors: `repository-damaged`, `repository-unknown-layout`. */
export async function readPin(store: ObjectStore, id: BackupId, options: CallOptions): Promise<Pin | undefined> {
  return (await readState(store, keys.pin(id), pinSchema, options))?.value;
}

/** In place of an earlier one. */
export async function writePin(store: ObjectStore, pin: Pin, options: CallOptions): Promise<void> {
  await writeState(store, keys.pin(pin.id), pinSchema.parse(pin), options);
}
