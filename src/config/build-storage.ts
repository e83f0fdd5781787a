import { defined } from './defined.ts';
import type { BuildContext } from './context.ts';
import type { RetryConfig, S3Credentials, S3StorageConfig, StorageConfig } from './model.ts';
import type { RetrySection, StorageSection } from './schema.ts';

const DEFAULT_REGION = 'us-east-1';
const PREFIX_BYTES_MAX = 512;

/** The first section that says something decides. */
export function buildRetry(...sections: readonly (RetrySection | undefined)[]): RetryConfig {
  const first = <Key extends keyof RetrySection>(key: Key): RetrySection[Key] =>
    sections.find((section) => section?.[key] !== undefined)?.[key];
  const delayMs = first('delay') ?? 5_000;
  return {
    retriesMax: first('attempts') ?? 3,
    delayMs,
    delayMsMax: Math.max(delayMs, first('max_delay') ?? 600_000),
  };
}

export async function buildStorage(
  context: BuildContext,
  name: string,
  section: StorageSection,
  defaults: RetrySection | undefined,
): Promise<StorageConfig> {
  const retry = buildRetry(section.retry, defaults);
  for (const key of ['attempts', 'delay', 'max_delay']) {
    context.origins.copyIfAbsent(['storages', name, 'retry', key], ['defaults', 'retry', key]);
  }
  switch (section.type) {
    case 'file':
      return defined({
        name,
        type: section.type,
        retry,
        maxSizeBytes: section.max_size,
        path: context.resolve(section.path),
      });
    case 'rclone':
      if (!/^[^:/][^:]*:/.test(section.remote)) {
        context.problem(['storages', name, 'remote'], 'storage-config-invalid', 'must be remote:path');
      }
      return defined({
        name,
        type: section.type,
        retry,
        maxSizeBytes: section.max_size,
        remote: section.remote,
        configFile: section.config_file === undefined ? undefined : context.resolve(section.config_file),
      });
    case 's3':
      return buildS3(context, name, section, retry);
    default:
      return section satisfies never;
  }
}

async function buildS3(
  context: BuildContext,
  name: string,
  section: Extract<StorageSection, { type: 's3' }>,
  retry: RetryConfig,
): Promise<S3StorageConfig> {
  const path = ['storages', name];
  const invalid = (key: string, message: string): void =>
    context.problem([...path, key], 'storage-config-invalid', message);
  const endpoint = section.endpoint === undefined ? undefined : parseEndpoint(section.endpoint);
  if (endpoint !== undefined && 'problem' in endpoint) invalid('endpoint', endpoint.problem);
  const url = endpoint !== undefined && 'url' in endpoint ? endpoint.url : undefined;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(section.bucket)) {
    invalid('bucket', `"${section.bucket}" is no bucket name (letters, digits, dots and hyphens)`);
  }
  const prefix = parsePrefix(section.prefix ?? '');
  if (prefix === undefined) invalid('prefix', 'has an empty part, a part . or .., or a control character');
  const region = section.region ?? DEFAULT_REGION;
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(region)) invalid('region', `"${region}" is no region`);
  const isAws = url === undefined || new URL(url).hostname.endsWith('.amazonaws.com');
  return defined({
    name,
    type: section.type,
    retry,
    maxSizeBytes: section.max_size,
    bucket: section.bucket,
    prefix: prefix ?? '',
    endpoint: url,
    region,
    provider: section.provider,
    credentials: await buildCredentials(context, path, section),
    forcePathStyle: section.force_path_style ?? !isAws,
    caFile: section.ca_file === undefined ? undefined : context.resolve(section.ca_file),
    partBytes: section.part_size,
    objectLock: section.object_lock,
  });
}

async function buildCredentials(
  context: BuildContext,
  path: readonly string[],
  section: Extract<StorageSection, { type: 's3' }>,
): Promise<S3Credentials> {
  const hasKeys = [
    section.access_key_id,
    section.access_key_id_file,
    section.secret_access_key,
    section.secret_access_key_file,
  ].some((key) => key !== undefined);
  if (section.credentials !== undefined && hasKeys) {
    context.problem([...path, 'credentials'], 'config-conflict', 'is set beside keys', 'keep one of the two');
  }
  if (section.credentials !== undefined) return { kind: 'default-chain' };
  if (!hasKeys && section.endpoint === undefined) return { kind: 'default-chain' };
  for (const key of ['access_key_id', 'secret_access_key', 'session_token'] as const) {
    context.origins.copy([...path, 'credentials', key], [...path, section[key] === undefined ? `${key}_file` : key]);
  }
  const accessKeyId = await context.requiredSecret(
    [...path, 'access_key_id'],
    section.access_key_id,
    section.access_key_id_file,
  );
  const secretAccessKey = await context.requiredSecret(
    [...path, 'secret_access_key'],
    section.secret_access_key,
    section.secret_access_key_file,
  );
  const sessionToken = await context.secret(
    [...path, 'session_token'],
    section.session_token,
    section.session_token_file,
  );
  return defined({ kind: 'keys' as const, accessKeyId, secretAccessKey, sessionToken });
}

/** `https://host:port` of an endpoint, https where no scheme is said, and the path that followed, if any. */
export function splitEndpoint(text: string): { readonly url: string; readonly path: string } | undefined {
  const withScheme = text.includes('://') ? text : `https://${text}`;
  if (!URL.canParse(withScheme) || /\s/.test(text)) return undefined;
  const { protocol, username, password, host, pathname, search, hash } = new URL(withScheme);
  if (protocol !== 'http:' && protocol !== 'https:') return undefined;
  if (username !== '' || password !== '' || host === '' || search !== '' || hash !== '') return undefined;
  return { url: `${protocol}//${host}`, path: pathname.replace(/^\/+|\/+$/g, '') };
}

function parseEndpoint(text: string): { readonly url: string } | { readonly problem: string } {
  const split = splitEndpoint(text);
  if (split === undefined) return { problem: 'is no http or https address without user, password and query' };
  return split.path === ''
    ? { url: split.url }
    : { problem: 'must not have a path; the bucket is a setting of its own' };
}

/** The prefix without slashes at its ends; undefined if no object's key could begin with it. */
export function parsePrefix(text: string): string | undefined {
  const prefix = text.replace(/^\/+|\/+$/g, '');
  if (prefix === '') return '';
  const bad = prefix.split('/').some((segment) => segment === '' || segment === '.' || segment === '..');
  // Control characters would break listings that come as XML.
  if (bad || /\p{Cc}/u.test(prefix) || Buffer.byteLength(prefix) > PREFIX_BYTES_MAX) return undefined;
  return prefix;
}
