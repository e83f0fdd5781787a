import { expect, test } from 'vitest';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { manifestOf } from '../../../test/support/repository-place.ts';
import { systemRandom } from '../../common/random.ts';
import { makeBackupId } from '../../repository/ids.ts';
import { Repository } from '../../repository/repository.ts';
import { operationContext } from '../context.ts';
import { physicalBackups } from './physical-backups.ts';

test('the newest base backup is the last that the store was given, whatever a clock that was ahead has named', async () => {
  const store = new MemoryStore();
  const repository = new Repository(store, operationContext());
  const ids: string[] = [];
  for (const [made, stored] of [
    ['2027-02-18T02:00:00.000Z', '2026-11-18T02:00:00.000Z'],
    ['2026-11-19T02:00:00.000Z', '2026-11-19T02:00:00.000Z'],
    ['2026-11-20T02:00:00.000Z', '2026-11-20T02:00:00.000Z'],
  ] as const) {
    const id = makeBackupId(new Date(made), 'f', systemRandom);
    ids.push(id);
    const base = manifestOf(id, 'shop', [`main/base/${id}/base.tar`]);
    await repository.commit({ ...base, format: 'physical', startedAt: made, endedAt: made, storeTime: stored });
  }
  const found = await physicalBackups({ store, source: 'main' }, operationContext());
  expect(found.map(({ id }) => id)).toEqual(ids);
});
