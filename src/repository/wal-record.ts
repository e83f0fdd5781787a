import { z } from 'zod';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { keys } from './keys.ts';
import { LAYOUT } from './manifest.ts';
import { decodeName, encodeName } from './names.ts';
import { readState, writeState } from './state-object.ts';
import type { WalFolder } from './wal-keys.ts';

const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);

const recordSchema = z.object({
  layout: z.literal(LAYOUT),
  source: z.string().min(1),
  systemIdentifier: z.string().regex(/^\d+$/),
  segmentBytes: z.number().int().positive(),
  createdAt: z.iso.datetime(),
  /** What a receiver has last seen; missing where WAL only comes by archive_command. */
  head: z
    .object({
      timeline: z.number().int().positive(),
      /** Everything before it is archived. */
      lsn,
      /** The server's clock when it had no WAL behind `lsn`: up to then all that was committed is archived. */
      serverTime: z.iso.datetime({ precision: 6 }),
      /** By the clock of the machine that receives. */
      writtenAt: z.iso.datetime(),
      slot: z.string(),
      host: z.string(),
      pid: z.number().int(),
    })
    .optional(),
  pgarkVersion: z.string(),
});

/**
 * The record of a server's WAL: that it is archived here, and how far. Made with the first piece; replaced as a whole. It
 * can be lost without loss: the objects themselves are the archive, and each says how large its segment is.
 */
export type WalRecord = z.infer<typeof recordSchema>;
export type WalHead = NonNullable<WalRecord['head']>;

/** Undefined where nothing of the server was ever archived. Errors: `repository-damaged`, `repository-unknown-layout`. */
export async function readWalRecord(
  store: ObjectStore,
  { source, systemIdentifier }: WalFolder,
  options: CallOptions = {},
): Promise<WalRecord | undefined> {
  return (await readState(store, keys.walRecord(source, systemIdentifier), recordSchema, options))?.value;
}

export async function writeWalRecord(
  store: ObjectStore,
  record: WalRecord,
  options: CallOptions & { readonly ifAbsent?: boolean } = {},
): Promise<void> {
  const { ifAbsent, ...call } = options;
  const key = keys.walRecord(record.source, record.systemIdentifier);
  await writeState(store, key, recordSchema.parse(record), {
    ...call,
    ...(ifAbsent === true ? { condition: { ifAbsent } } : {}),
  });
}

/** The servers whose WAL of a source is archived, by their system identifiers. */
export async function listWalRecords(
  store: ObjectStore,
  source: string,
  options: CallOptions = {},
): Promise<readonly WalRecord[]> {
  const found: ObjectKey[] = [];
  for await (const { key } of store.list(keys.walRecordsOf(source), options)) found.push(key);
  const records = await Promise.all(found.map((key) => readState(store, key, recordSchema, options)));
  return records.flatMap((record) =>
    record === undefined || encodeName(record.value.source) !== encodeName(source) ? [] : [record.value],
  );
}

/** The sources of which any WAL is archived by a receiver or an archive_command. */
export async function listWalSources(store: ObjectStore, options: CallOptions = {}): Promise<readonly string[]> {
  const sources = new Set<string>();
  for await (const { key } of store.list(keys.walRecordsPrefix, options)) {
    const [segment = '', file] = key.slice(keys.walRecordsPrefix.length).split('/');
    const source = file === undefined ? undefined : decodeName(segment);
    if (source !== undefined) sources.add(source);
  }
  return [...sources];
}
