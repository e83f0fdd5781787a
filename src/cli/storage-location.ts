import type { StorageConfig } from '../config/model.ts';

/** Where a storage is that cannot even be opened, as the configuration has it. */
export function locationOf(storage: StorageConfig): string {
  switch (storage.type) {
    case 's3':
      return `s3://${storage.bucket}${storage.prefix === '' ? '' : `/${storage.prefix}`}`;
    case 'file':
      return `file://${storage.path}`;
    case 'rclone':
      return `rclone:${storage.remote}`;
    default:
      return storage satisfies never;
  }
}
