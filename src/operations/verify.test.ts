import { expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { oneBlock } from '../../test/support/repository-place.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { operationContext } from './context.ts';
import { verify } from './verify.ts';

test('an object that is missing or has another length failed by that, not after all of it was read', async () => {
  for (const replaced of [false, true]) {
    const store = new MemoryStore();
    const times = [new Date('2026-11-18T02:00:00Z')];
    const [backup] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
    const key = backup?.objects[0]?.key ?? '';
    await store.delete(key);
    if (replaced) await store.putStream(key, oneBlock('much longer than it was'.repeat(100)));
    const { backups } = await verify(
      { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } },
      operationContext(),
    );
    expect(backups).toMatchObject([{ depth: 'present', failure: { code: 'corrupt' } }]);
  }
});
