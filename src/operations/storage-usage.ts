import { asPgarkError, isPgarkError } from '../common/errors.ts';
import { type Owner, Ownership, type OwningBackups } from '../repository/ownership.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { warnOfUnseen } from './unseen.ts';

interface Amount {
  readonly objects: number;
  readonly bytes: number;
}

/** What is part of the same: backups with their number and the times of the first and the last of them. */
export type UsageRow = Owner & Amount & Partial<BackupSpan>;

interface BackupSpan {
  readonly backups: number;
  readonly oldest: Date;
  readonly newest: Date;
}

export interface StorageUsage {
  /** By source, database and kind; what belongs to no source comes last. Nothing without objects and backups. */
  readonly rows: readonly UsageRow[];
  readonly own: Amount;
  readonly foreign: Amount;
  readonly backups: number;
  /** Uploads that were begun and not finished, whoever's: their bytes are in no list. Undefined: this key may not ask. */
  readonly unfinishedUploads: number | undefined;
  /** Manifests that cannot be read: what only they name counts as foreign. */
  readonly damaged: readonly string[];
}

const ORDER: readonly Owner['kind'][] = [
  'plain',
  'directory',
  'physical',
  'wal',
  'globals',
  'records',
  'unfinished',
  'foreign',
];

/** Adds up what lies in a storage, by one list of all that is there. Changes nothing and reads no data. */
export async function storageUsage(store: ObjectStore, context: OperationContext): Promise<StorageUsage> {
  const { signal } = context;
  const repository = new Repository(store, context);
  await repository.checkLayout({ signal });
  const ownership = await Ownership.read(repository, { signal });
  const rows = new Map<string, Owner & { objects: number; bytes: number } & Partial<BackupSpan>>();
  for (const { count, oldest, newest, ...owner } of ownership.backups)
    rows.set(nameOf(owner), { ...owner, objects: 0, bytes: 0, backups: count, oldest, newest });
  const unseen: string[] = [];
  for await (const { key, bytes } of store.list('', { signal, onUnseen: (path) => void unseen.push(path) })) {
    const owner = ownership.ownerOf(key);
    const name = nameOf(owner);
    const row = rows.get(name) ?? { ...owner, objects: 0, bytes: 0 };
    row.objects += 1;
    row.bytes += bytes;
    rows.set(name, row);
  }
  warnOfUnseen(unseen, store.location, context.logger);
  const sorted = [...rows.values()].toSorted(inOrder);
  return {
    rows: sorted,
    own: sumOf(sorted.filter(({ kind }) => kind !== 'foreign')),
    foreign: sumOf(sorted.filter(({ kind }) => kind === 'foreign')),
    backups: ownership.backups.reduce((sum, { count }) => sum + count, 0),
    unfinishedUploads: await countUploads(store, context),
    damaged: ownership.damaged,
  };
}

async function countUploads(store: ObjectStore, { signal, logger }: OperationContext): Promise<number | undefined> {
  let count = 0;
  try {
    const uploads = store.listUploads('', { signal })[Symbol.asyncIterator]();
    while ((await uploads.next()).done !== true) count += 1;
  } catch (error) {
    signal.throwIfAborted();
    if (!isPgarkError(error, 'store-access-denied') && !isPgarkError(error, 'store-failed')) throw error;
    logger.debug('storage.uploads_unknown', `unfinished uploads were not counted: ${asPgarkError(error).message}`);
    return undefined;
  }
  return count;
}

function nameOf(owner: Owner | OwningBackups): string {
  const { kind } = owner;
  return JSON.stringify([kind, 'source' in owner ? owner.source : '', 'database' in owner ? owner.database : '']);
}

function inOrder(a: Owner, b: Owner): number {
  const rank = (owner: Owner): [number, string, string, number] => [
    'source' in owner ? 0 : 1,
    'source' in owner ? owner.source : '',
    'database' in owner ? owner.database : '\uffff',
    ORDER.indexOf(owner.kind),
  ];
  const [one, other] = [rank(a), rank(b)];
  for (const [index, value] of one.entries()) {
    const against = other[index] ?? value;
    if (value !== against) return value < against ? -1 : 1;
  }
  return 0;
}

function sumOf(amounts: readonly Amount[]): Amount {
  let [objects, bytes] = [0, 0];
  for (const amount of amounts) {
    objects += amount.objects;
    bytes += amount.bytes;
  }
  return { objects, bytes };
}
