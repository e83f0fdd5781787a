import type { ProviderProfile } from '../object-store.ts';
import type { IfMatchStyle } from './small-objects.ts';

/** What the adapter itself needs to know of a store, beside what everybody sees. */
export interface S3Profile extends ProviderProfile {
  readonly partBytesMax: number;
  /** `If-None-Match: *` on PutObject works. */
  readonly createsIfAbsent: boolean;
  /** `If-Match` on PutObject works, spelled so; undefined where it does not. */
  readonly ifMatchStyle: IfMatchStyle | undefined;
  /** `If-None-Match: *` on CompleteMultipartUpload works. */
  readonly completesIfAbsent: boolean;
  /** A part's etag is the MD5 of its bytes. */
  readonly etagIsMd5: boolean;
  /** A multipart object's etag is the MD5 of its parts' MD5s. */
  readonly etagIsComposite: boolean;
}
