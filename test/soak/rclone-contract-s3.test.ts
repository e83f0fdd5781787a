import { describeObjectStoreContract } from '../../src/storage/object-store.contract.ts';
import { makeRclonePlace, openRcloneStore, rcloneContract } from '../support/rclone.ts';
import { createBucket } from '../support/s3.ts';

describeObjectStoreContract(
  'RcloneStore on an object storage',
  async () => {
    const { configFile, remove } = await makeRclonePlace();
    const bucket = await createBucket();
    const remote = `ceph:${bucket.name}/some where/prod-Ü`;
    return {
      store: openRcloneStore({ remote, configFile }),
      reopen: () => Promise.resolve(openRcloneStore({ remote, configFile })),
      dispose: async () => {
        await bucket.remove();
        await remove();
      },
    };
  },
  rcloneContract,
);
