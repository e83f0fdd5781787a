import { createHash } from 'node:crypto';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { historyFileName, parseTimelineHistory, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { type WalFolder, walHistoryDigestKey, walKey } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';

/**
 * The history of a timeline as it was archived; undefined where none is. What was archived by a version that noted no digest is
 * taken as it is. Error: `corrupt`, naming it, where it is not what was archived.
 */
export async function readHistoryBytes(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  call: CallOptions,
): Promise<Uint8Array | undefined> {
  const name = historyFileName(timeline);
  const key = walKey(folder, { kind: 'history', name }, '');
  const found = await readStateBytes(store, key, call);
  if (found === undefined) return undefined;
  const noted = await readHistoryDigest(store, folder, name, call);
  if (noted === undefined || noted === sha256Of(found.bytes)) return found.bytes;
  throw new PgarkError(
    'corrupt',
    `${key} in ${store.location} has not the SHA-256 that was noted when it was archived`,
    {
      hint: `compare it with the server’s own pg_wal/${name}: if it is the same, remove ${key}.sha256`,
    },
  );
}

/** Whether a history of the timeline is archived, whatever it says. */
export async function isHistoryArchived(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  call: CallOptions,
): Promise<boolean> {
  return (
    (await store.head(walKey(folder, { kind: 'history', name: historyFileName(timeline) }, ''), call)) !== undefined
  );
}

/** What the archived history of a timeline says. Error: `corrupt`, naming the object, also for what is no history. */
export async function readArchivedHistory(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  call: CallOptions,
): Promise<TimelineHistory | undefined> {
  const bytes = await readHistoryBytes(store, folder, timeline, call);
  return bytes && parseTimelineHistory(timeline, Buffer.from(bytes).toString());
}

/** Notes the digest of a history that is archived, once, as `sha256sum -c` reads it. */
export async function noteHistoryDigest(
  store: ObjectStore,
  folder: WalFolder,
  name: string,
  content: Uint8Array,
  call: CallOptions,
): Promise<void> {
  if ((await readHistoryDigest(store, folder, name, call)) !== undefined) return;
  const line = Buffer.from(`${sha256Of(content)}  ${name}\n`);
  const options = { ...call, contentType: 'text/plain', condition: { ifAbsent: true as const }, isLasting: true };
  try {
    await store.putSmall(walHistoryDigestKey(folder, name), line, options);
  } catch (error) {
    // Somebody was quicker.
    if (!isPgarkError(error, 'store-condition-failed')) throw error;
  }
}

/** What was noted, as it stands there; undefined where nothing was. */
async function readHistoryDigest(
  store: ObjectStore,
  folder: WalFolder,
  name: string,
  call: CallOptions,
): Promise<string | undefined> {
  const found = await readStateBytes(store, walHistoryDigestKey(folder, name), call);
  return found && (Buffer.from(found.bytes).toString('latin1').split(' ')[0] ?? '');
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
