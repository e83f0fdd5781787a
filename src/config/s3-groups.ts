import { splitEndpoint } from './build-storage.ts';
import type { Said, SetVariables } from './environment-reader.ts';
import type { S3Provider } from './model.ts';
import { splitBucketUrl } from './storage-target.ts';

export type Field = 'bucket' | 'prefix' | 'endpoint' | 'region' | 'provider' | 'accessKeyId' | 'secretAccessKey';

/** One way of naming a bucket. `where` is the variable that leads it, `names` what would say each field. */
export interface Group {
  readonly title: string;
  readonly said: Map<Field, Said>;
  readonly names: Partial<Record<Field, string>>;
  /** The prefix where neither BACKUP_PREFIX nor the group says one. */
  readonly prefixStandard: string;
}

const DEFAULT_PREFIX = 'postgres-backups';

/** rclone's names of providers, in lower case. One that is not here is told by its endpoint. */
const RCLONE_PROVIDERS: Readonly<Record<string, S3Provider>> = {
  aws: 'aws',
  minio: 'minio',
  cloudflare: 'cloudflare',
  digitalocean: 'digitalocean',
  wasabi: 'wasabi',
  ceph: 'ceph',
  scaleway: 'scaleway',
  gcs: 'google',
};

function groupOf(
  title: string,
  variables: SetVariables,
  names: Partial<Record<Field, string>>,
  prefixStandard: string,
): Group {
  const said = new Map<Field, Said>();
  for (const [field, name] of Object.entries(names) as [Field, string][]) {
    const value = variables.get(name);
    if (value !== undefined) said.set(field, value);
  }
  return { title, said, names, prefixStandard };
}

export function standardGroup(variables: SetVariables): Group {
  const names = {
    bucket: 'S3_BUCKET',
    endpoint: 'S3_ENDPOINT',
    region: 'S3_REGION',
    accessKeyId: 'S3_ACCESS_KEY_ID',
    secretAccessKey: 'S3_SECRET_ACCESS_KEY',
  };
  return groupOf('S3_BUCKET', variables, names, DEFAULT_PREFIX);
}

export function rcloneGroup(variables: SetVariables): Group {
  const names = {
    bucket: 'RCLONE_S3_BUCKET',
    endpoint: 'RCLONE_S3_ENDPOINT',
    region: 'RCLONE_S3_REGION',
    provider: 'RCLONE_S3_PROVIDER',
    accessKeyId: 'RCLONE_S3_ACCESS_KEY_ID',
    secretAccessKey: 'RCLONE_S3_SECRET_ACCESS_KEY',
  };
  const group = groupOf('RCLONE_S3_BUCKET', variables, names, '');
  const bucket = group.said.get('bucket');
  if (bucket !== undefined) sayPath(group, bucket.value, bucket.variable);
  const provider = group.said.get('provider');
  if (provider !== undefined) {
    const known = RCLONE_PROVIDERS[provider.value.toLowerCase()];
    group.said.delete('provider');
    if (known !== undefined) group.said.set('provider', { ...provider, value: known });
  }
  return group;
}

/** BUCKET_NAME, to which the AWS chain's names belong; those alone name no storage. */
export function bucketGroup(variables: SetVariables): Group {
  return groupOf('BUCKET_NAME', variables, { bucket: 'BUCKET_NAME' }, DEFAULT_PREFIX);
}

export function urlGroup(variables: SetVariables, invalid: (where: string, message: string) => void): Group {
  const names = {
    bucket: 'S3_PATH',
    endpoint: 'S3_URL',
    accessKeyId: 'S3_ACCESS_KEY',
    secretAccessKey: 'S3_SECRET_KEY',
  };
  const group = groupOf('S3_URL', variables, names, '');
  const url = group.said.get('endpoint');
  const path = group.said.get('bucket');
  group.said.delete('bucket');
  group.said.delete('endpoint');
  let root = '';
  if (url !== undefined) {
    const bucket = splitBucketUrl(url.value);
    const endpoint = url.value.startsWith('s3:') ? undefined : splitEndpoint(url.value);
    if (bucket === undefined && endpoint === undefined) {
      invalid(
        url.variable,
        'is neither s3://bucket/prefix nor an http or https address without user, password and query',
      );
    }
    root = bucket === undefined ? (endpoint?.path ?? '') : `${bucket.bucket}/${bucket.prefix}`;
    if (endpoint !== undefined) group.said.set('endpoint', { value: endpoint.url, variable: url.variable });
  }
  const full = [root, path?.value ?? ''].map((part) => part.replace(/^\/+|\/+$/g, '')).filter((part) => part !== '');
  const speaker = root === '' ? path : url;
  if (full.length > 0 && speaker !== undefined) sayPath(group, full.join('/'), speaker.variable);
  return group;
}

/** Reads `bucket/prefix`. */
function sayPath(group: Group, text: string, variable: string): void {
  const [, bucket = '', prefix = ''] = /^\/*([^/]*)\/?(.*)$/s.exec(text) ?? [];
  group.said.set('bucket', { value: bucket, variable });
  if (prefix.replace(/\/+$/, '') !== '') group.said.set('prefix', { value: prefix, variable });
}
