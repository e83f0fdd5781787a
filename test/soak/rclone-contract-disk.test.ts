import { describeObjectStoreContract } from '../../src/storage/object-store.contract.ts';
import { makeRclonePlace, openRcloneStore, rcloneContract } from '../support/rclone.ts';

describeObjectStoreContract(
  'RcloneStore on a remote that renames',
  async () => {
    const { configFile, remove } = await makeRclonePlace();
    const remote = 'disk:some where/prod-Ü';
    const store = openRcloneStore({ remote, configFile });
    await store.probe({ write: true });
    return { store, reopen: () => Promise.resolve(openRcloneStore({ remote, configFile })), dispose: remove };
  },
  rcloneContract,
);
