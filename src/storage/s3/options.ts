import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import type { RetryPolicy } from '../../common/retry.ts';
import type { Secret } from '../../common/secret.ts';
import type { ObjectLock } from '../object-store.ts';

export type S3Credentials =
  | {
      readonly kind: 'keys';
      readonly accessKeyId: string | Secret;
      readonly secretAccessKey: Secret;
      readonly sessionToken?: Secret;
    }
  /** The AWS chain: `AWS_*` variables, shared files, web identity, container and instance roles. Asked again as they expire. */
  | { readonly kind: 'default-chain' };

export interface S3StoreOptions {
  readonly bucket: string;
  /** Everything lies below it; a slash at either end is the same as none. Default: the bucket's root. */
  readonly prefix?: string;
  /** URL with scheme. Default: AWS, by the region. */
  readonly endpoint?: string;
  /** Default: `us-east-1`, which most stores that are not AWS accept. */
  readonly region?: string;
  readonly credentials: S3Credentials;
  /** `https://host/bucket/key` instead of `https://bucket.host/key`. Default: true with an endpoint of one's own. */
  readonly forcePathStyle?: boolean;
  /** PEM file of certificates to trust beside the system's own. */
  readonly caFile?: string;
  /** The same as PEM text. */
  readonly ca?: string;
  /** Name of the provider (`AWS`, `Cloudflare`, `Scaleway` …) where the endpoint's host does not tell. */
  readonly provider?: string;
  /** Locks whatever is streamed, and what is lasting, in a bucket that was made for it. Default: nothing. */
  readonly objectLock?: ObjectLock;
  readonly retry?: Partial<RetryPolicy>;
  /** Smallest part of an upload. Default and minimum: 8 MiB; more where an object would need too many parts. */
  readonly partBytes?: number;
  /** Parts sent at the same time, 1 to 8. Default: 4. */
  readonly partsInFlight?: number;
  /** Memory for part buffers of one upload, as far as the parts' size allows it. Default: 128 MiB. */
  readonly bufferBytesMax?: number;
  /** Time for a connection to come up. Default: 10 s. */
  readonly connectTimeoutMs?: number;
  /** Time without a single byte moved in either direction, after which a request is given up. Default: 60 s. */
  readonly inactivityTimeoutMs?: number;
  /** Age from which on what a probe left counts as left by a killed process. Default: an hour. */
  readonly probeStaleMs?: number;
  /** Waited for before a body, or a part of one, is sent once more. Default: nothing. */
  readonly beforeResending?: (bytes: number, signal?: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}
