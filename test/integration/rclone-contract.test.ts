import { describeObjectStoreContract } from '../../src/storage/object-store.contract.ts';
import { makeRclonePlace, openRcloneStore } from '../support/rclone.ts';
import { createBucket } from '../support/s3.ts';

/** A process for each step takes its time: fewer objects than a page has, which is rclone's business. */
const options = { pageObjects: 40, keepsMetadata: false, conditionalWrites: false, namesOneByOne: false };

describeObjectStoreContract(
  'RcloneStore on a remote that renames',
  async () => {
    const { configFile, remove } = await makeRclonePlace();
    const remote = 'disk:some where/prod-Ü';
    const store = openRcloneStore({ remote, configFile });
    await store.probe({ write: true });
    return { store, reopen: () => Promise.resolve(openRcloneStore({ remote, configFile })), dispose: remove };
  },
  options,
);

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
  options,
);
