import { PgarkError } from '../../common/errors.ts';
import { type Manifest, seriesOf } from '../../repository/manifest.ts';
import { type BackupFilter, Repository } from '../../repository/repository.ts';
import type { OperationContext } from '../context.ts';
import { findBackup } from '../find-backup.ts';
import type { DrillRequest } from './drill-request.ts';

/**
 * The backup that is tried; of physical ones that are tried at another moment than their own end, the newest, by which their server
 * is known. A moment is one of a server where there are backups of servers. Error: `backup-not-found`, `usage`.
 */
export async function chooseBackup(
  { store, filter, selector }: Pick<DrillRequest, 'store' | 'filter' | 'selector'>,
  context: OperationContext,
): Promise<Manifest> {
  const repository = new Repository(store, context);
  const options = { signal: context.signal };
  const isMoment = selector.kind === 'at' || selector.kind === 'random';
  if (isMoment && filter.kind !== 'logical' && (await hasPhysical(repository, filter, options))) {
    return found(repository, { kind: 'latest' }, { ...filter, kind: 'physical' }, context);
  }
  if (selector.kind !== 'random') return found(repository, selector, filter, context);
  await repository.checkLayout(options);
  const { manifests } = await repository.backups(filter, options);
  // Of several databases it has to be said which one, as for the newest.
  if (new Set(manifests.map(seriesOf)).size !== 1) return found(repository, { kind: 'latest' }, filter, context);
  const chosen = manifests[Math.floor(context.random.fraction() * manifests.length)];
  return chosen ?? found(repository, { kind: 'latest' }, filter, context);
}

async function hasPhysical(
  repository: Repository,
  filter: BackupFilter,
  options: { readonly signal: AbortSignal },
): Promise<boolean> {
  for await (const _ of repository.manifestKeys({ ...filter, kind: 'physical' }, options)) return true;
  return false;
}

async function found(
  repository: Repository,
  selector: Parameters<typeof findBackup>[1],
  filter: BackupFilter,
  context: OperationContext,
): Promise<Manifest> {
  const backup = await findBackup(repository, selector, filter, context);
  if (backup.kind === 'own') return backup.manifest;
  throw new PgarkError(
    'backup-not-found',
    `${backup.key} was written by another tool and has nothing to be compared with`,
    {
      hint: 'restore it into a scratch database to try it',
    },
  );
}
