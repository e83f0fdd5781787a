import { inject } from 'vitest';

/** A PostgreSQL server and a superuser of it. */
export interface PostgresFacts {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

export interface S3Login {
  readonly accessKey: string;
  readonly secretKey: string;
}

/** An S3 server and a user that may create buckets. Requests use path style. */
export interface S3Facts extends S3Login {
  readonly endpoint: string;
  readonly region: string;
  /** The configuration file of the Ceph that the tests started; its radosgw-admin makes further users. */
  readonly cephConf?: string;
  /** On a server of the user's own: one who may read everything, and one who may do nothing. */
  readonly readOnly?: S3Login;
  readonly noRights?: S3Login;
}

declare module 'vitest' {
  interface ProvidedContext {
    postgres: PostgresFacts;
    s3: S3Facts;
  }
}

export function postgresFacts(): PostgresFacts {
  return inject('postgres');
}

export function s3Facts(): S3Facts {
  return inject('s3');
}
