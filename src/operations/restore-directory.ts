import path from 'node:path';
import { PgarkError } from '../common/errors.ts';
import { readParents } from '../formats/physical/backup-chain.ts';
import { fetchSpan } from '../formats/physical/fetch-wal.ts';
import { findSpan, spanOf } from '../formats/physical/needed-wal.ts';
import { PhysicalObjects } from '../formats/physical/physical-objects.ts';
import { type BaseTarget, inspectTarget, RestoredBase } from '../formats/physical/restore-base.ts';
import { placeTablespaces, type TablespaceMapping } from '../formats/physical/tablespace-map.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import type { Manifest } from '../repository/manifest.ts';
import { sizesOf } from '../repository/manifest.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import { runEnveloped } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';

export { parseTablespaceMapping, type TablespaceMapping } from '../formats/physical/tablespace-map.ts';

export interface DirectoryRestoreRequest {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  readonly selector: BackupSelector;
  readonly keys: DecryptionKeys;
  /** The data directory to make: empty, or not there yet. */
  readonly directory: string;
  /** Where tablespaces go; those of no mapping go into the data directory. */
  readonly mappings: readonly TablespaceMapping[];
  /** Find, check, say what would be done, and stop. */
  readonly planOnly: boolean;
}

export interface DirectoryRestoreOutcome {
  readonly manifest: Manifest;
  readonly directory: string;
  readonly plan: readonly string[];
  readonly done: boolean;
  /** Whether all belongs to root, as whom PostgreSQL does not run. */
  readonly isOfRoot: boolean;
  readonly durationMs: number;
}

/**
 * Restores a physical backup into a directory: found → whole in the store, its write-ahead log too → target fit → unpacked,
 * each file compared with the server's own list → WAL and settings for the recovery → on the disk. A server that is started on
 * it recovers up to the end of the backup. A failure leaves the target as it was.
 */
export async function restoreDirectory(
  request: DirectoryRestoreRequest,
  context: OperationContext,
): Promise<DirectoryRestoreOutcome> {
  const { store, keys, planOnly } = request;
  const { signal, onProgress } = context;
  return runEnveloped<DirectoryRestoreOutcome>({ ...context, store }, { kind: 'restore' }, async (run) => {
    const startedMs = context.clock.monotonicMs();
    const access = { store, keys, signal };
    const checked = await run.span.span('checks', {}, () => check(request, access, context));
    const { manifest, objects, parents, target, span } = checked;
    const { directory } = target;
    const outcome = (done: Pick<DirectoryRestoreOutcome, 'done' | 'isOfRoot'>): DirectoryRestoreOutcome => ({
      manifest,
      directory,
      plan: planOf(manifest, target),
      durationMs: Math.round(context.clock.monotonicMs() - startedMs),
      ...done,
    });
    if (planOnly) return { value: outcome({ done: false, isOfRoot: false }), result: {} };
    await run.open();
    const chain = [objects, ...parents];
    const bytesTotal = chain.reduce((sum, each) => sum + sizesOf(each.manifest).storedBytes, 0);
    const onStoredBytes = (bytes: number): void =>
      onProgress({ phase: 'unpacking', subject: directory, bytes, bytesTotal });
    const base = await run.span.span('unpack', {}, () =>
      RestoredBase.unpack(objects, target, { signal, onStoredBytes }, parents),
    );
    try {
      run.logger.info('restore.verified', `${manifest.id} is unpacked, and every file is what the server had listed`, {
        backup: manifest.id,
        directory,
      });
      await run.span.span('prepare recovery', {}, async () => {
        await fetchSpan(span, access, base.data);
        const note = `Written by pgark, which restored backup ${manifest.id}`;
        await base.prepareRecovery({ timeline: span.timeline }, note);
      });
      for (const words of await base.configurationElsewhere()) run.logger.warning('restore.configuration', words);
      await run.span.span('sync', {}, () => base.sync(signal));
    } catch (error) {
      await base.discard();
      throw error;
    }
    const done = outcome({ done: true, isOfRoot: base.isOfRoot });
    run.logger.success('restore.done', `restored ${manifest.id} into ${directory}`, {
      backup: manifest.id,
      directory,
      durationMs: done.durationMs,
    });
    return { value: done, result: { backup: manifest.id, durationMs: done.durationMs } };
  });
}

/** Everything that can be found out before the first byte is written. */
async function check(
  { store, selector, filter, mappings, directory }: DirectoryRestoreRequest,
  access: ConstructorParameters<typeof PhysicalObjects>[1],
  context: OperationContext,
) {
  const { signal } = context;
  const repository = new Repository(store, context);
  // One that is named is found whatever it is, so that the name can be told from what it stands for.
  const of = selector.kind === 'name' ? filter : { ...filter, kind: 'physical' as const };
  const found = await findBackup(repository, selector, of, { signal });
  if (found.kind === 'foreign' || found.manifest.format !== 'physical') {
    const name = found.kind === 'foreign' ? found.key : found.manifest.id;
    throw new PgarkError('usage', `${name} is no physical backup, and only those are restored into a directory`, {
      hint: 'restore it into a database with --to-db NAME; pgark list shows the format of each backup',
    });
  }
  const { manifest } = found;
  context.onProgress({ phase: 'checking', subject: manifest.id, bytes: 0 });
  const objects = new PhysicalObjects(manifest, access);
  const span = spanOf(manifest);
  const parents = await readParents(manifest, access);
  for (const each of [objects, ...parents]) await each.checkPresence();
  await findSpan(store, span, { signal });
  const absolute = path.resolve(directory);
  const target = { directory: absolute, tablespaces: placeTablespaces(manifest.tablespaces ?? [], mappings, absolute) };
  await inspectTarget(objects, target);
  return { manifest, objects, parents, span, target };
}

function planOf(manifest: Manifest, { directory, tablespaces }: BaseTarget): readonly string[] {
  const locations = new Map(manifest.tablespaces?.map(({ oid, location }) => [oid, location]));
  const { parents } = manifest;
  const merging = parents.length === 0 ? '' : `, merged with ${parents.join(', ')},`;
  return [
    `unpack ${manifest.id}${merging} into ${directory}, and compare every file with the server's own list`,
    ...tablespaces.map(({ oid, path: place }) => `put the tablespace of ${locations.get(oid) ?? oid} into ${place}`),
    `put the write-ahead log up to ${manifest.stopLsn ?? 'the end of the backup'} beside it, so that a server that is started there recovers up to that point`,
  ];
}
