import { expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { oneBlock } from '../../test/support/repository-place.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { keys } from '../repository/keys.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import { operationContext } from './context.ts';
import { list } from './list.ts';

test('the data of a backup whose manifest is damaged is not taken for the dump of another tool', async () => {
  for (const keepsMetadata of [true, false]) {
    const store = new MemoryStore({ keepsMetadata, kind: keepsMetadata ? 's3' : 'file' });
    const times = [new Date('2026-11-18T02:00:00Z'), new Date('2026-11-19T02:00:00Z')];
    const [damaged] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
    if (damaged === undefined) throw new Error('there is no backup');
    const manifest = keys.manifest('main', 'shop', damaged.id);
    await store.putSmall(manifest, Buffer.from('{'));
    await store.putStream('other_2026-11-18T02:00:00Z.sql.gz', oneBlock('x'));
    await store.putStream('shop.sql.gz', oneBlock('x'));
    await store.putStream('nightly.sql.gz', oneBlock('x'), { metadata: { [ID_METADATA]: damaged.id } });
    const listing = await list({ store, filter: {} }, operationContext());
    const own = [...(keepsMetadata ? ['nightly.sql.gz'] : []), 'shop_2026-11-18T02:00:00Z.sql.gz'];
    expect(listing.ofDamaged.map(({ key, manifest: of }) => [key, of])).toEqual(own.map((key) => [key, manifest]));
    const foreign = ['nightly.sql.gz', 'other_2026-11-18T02:00:00Z.sql.gz', 'shop.sql.gz'];
    expect(listing.foreign.map(({ key }) => key)).toEqual(foreign.filter((key) => !own.includes(key)));
  }
});
