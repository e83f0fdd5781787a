import { describeObjectStoreContract } from '../../src/storage/object-store.contract.ts';
import { MemoryStore } from './memory-store.ts';

describeObjectStoreContract(
  'the store in memory',
  async () => ({ store: new MemoryStore(), dispose: async () => {} }),
  {
    partBytes: 64 * 1024,
  },
);
