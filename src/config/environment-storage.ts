import { parsePrefix, splitEndpoint } from './build-storage.ts';
import type { Said, SetVariables } from './environment-reader.ts';
import type { Problems } from './problems.ts';
import { bucketGroup, type Field, type Group, rcloneGroup, standardGroup, urlGroup } from './s3-groups.ts';
import { parseTarget, type Target } from './storage-target.ts';

/** Keys of the file's `storages.NAME`, and the variables that said them. */
interface EnvironmentStorage {
  readonly section: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, string>>;
}

const DEFAULT_DIRECTORY = './backups';

const KEY_FIELDS = ['accessKeyId', 'secretAccessKey'] as const;
/** Endpoint and region of S3_BUCKET's group serve S3_URL too, since s3://bucket cannot name them. */
const SHARED: readonly Field[] = ['endpoint', 'region'];

/** What makes the AWS chain find credentials; without any of it, keys for a store that is not AWS are missing. */
const CHAIN_SIGNS = [
  'AWS_PROFILE',
  'AWS_ROLE_ARN',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_CONFIG_FILE',
];

/** The storage that the environment names: BACKUP_STORAGE, or one group of S3 names, or a directory. */
export function readStorage(
  variables: SetVariables,
  env: Readonly<Record<string, string | undefined>>,
  problems: Problems,
): EnvironmentStorage | undefined {
  const conflict = (where: string, message: string, hint = 'keep one of the two groups of names'): void =>
    problems.add({ code: 'config-conflict', where, message, hint, need: 'storage' });
  const invalid = (where: string, message: string, hint?: string): void =>
    problems.add({
      code: 'storage-config-invalid',
      where,
      message,
      need: 'storage',
      ...(hint !== undefined && { hint }),
    });
  const groups = [
    standardGroup(variables),
    urlGroup(variables, invalid),
    rcloneGroup(variables),
    bucketGroup(variables),
  ];
  const named = variables.get('BACKUP_STORAGE');
  const target = named === undefined ? undefined : parseTarget(named.value);
  if (named !== undefined && target === undefined) {
    invalid(
      named.variable,
      'names no kind of storage that pgark knows',
      'write file:///dir, file:./dir, s3://bucket/prefix or rclone:remote:path',
    );
    return undefined;
  }
  const speaking = groups.filter((group) => group.said.size > 0);
  if (named !== undefined && target !== undefined && target.type !== 's3') {
    const bucket = speaking.flatMap((group) => group.said.get('bucket') ?? [])[0];
    if (bucket !== undefined) conflict(named.variable, `names another storage than ${bucket.variable}`);
    return plainStorage(target, named, variables, invalid);
  }
  if (speaking.length === 0 && target === undefined) {
    return plainStorage({ type: 'file', path: DEFAULT_DIRECTORY }, undefined, variables, invalid);
  }
  const chosen = speaking.find((group) => group.said.has('bucket')) ?? speaking[0] ?? bucketGroup(variables);
  if (named !== undefined && target?.type === 's3') addTarget(chosen, target, named, conflict);
  for (const group of speaking) if (group !== chosen) reportMixing(chosen, group, conflict);
  return toSection(chosen, variables, env, problems, conflict);
}

function plainStorage(
  target: Exclude<Target, { type: 's3' }>,
  named: Said | undefined,
  variables: SetVariables,
  invalid: (where: string, message: string) => void,
): EnvironmentStorage {
  const said = named === undefined ? {} : { type: named.variable };
  // A folder below the place that was named.
  const prefix = variables.get('BACKUP_PREFIX');
  const below = parsePrefix(prefix?.value ?? '');
  if (prefix !== undefined && below === undefined) {
    invalid(prefix.variable, 'has an empty part, a part . or .., or a control character');
  }
  const place = (root: string): string =>
    (below ?? '') === '' ? root : `${root}${/[/:]$/.test(root) ? '' : '/'}${below}`;
  if (target.type === 'file') {
    return {
      section: { type: 'file', path: place(target.path) },
      variables: named === undefined ? {} : { ...said, path: named.variable },
    };
  }
  const config = variables.get('RCLONE_CONFIG');
  return {
    section: {
      type: 'rclone',
      remote: place(target.remote),
      ...(config !== undefined && { config_file: config.value }),
    },
    variables: {
      ...said,
      ...(named !== undefined && { remote: named.variable }),
      ...(config !== undefined && { config_file: config.variable }),
    },
  };
}

function addTarget(
  group: Group,
  target: Extract<Target, { type: 's3' }>,
  named: Said,
  conflict: (where: string, message: string) => void,
): void {
  for (const field of ['bucket', 'prefix'] as const) {
    const said = group.said.get(field);
    const value = target[field].replace(/\/+$/, '');
    if (said !== undefined && said.value.replace(/\/+$/, '') !== value) {
      conflict(named.variable, `names another ${field} than ${said.variable} ("${value}" against "${said.value}")`);
    }
    group.said.set(field, { value, variable: named.variable });
  }
}

/** Other groups may repeat what the chosen one says. More would be a half of them mixed in. */
function reportMixing(chosen: Group, other: Group, conflict: (where: string, message: string) => void): void {
  const isShared = (field: Field): boolean =>
    SHARED.includes(field) && other.title === 'S3_BUCKET' && chosen.title === 'S3_URL';
  for (const [field, theirs] of other.said) {
    const ours = chosen.said.get(field);
    if (ours === undefined && isShared(field)) {
      chosen.said.set(field, theirs);
    } else if (ours === undefined) {
      const leader = chosen.said.get('bucket')?.variable ?? chosen.title;
      const name = chosen.names[field];
      const hint = name === undefined ? 'keep one of the two groups of names' : `with ${leader}, use ${name}`;
      conflict(theirs.variable, `belongs to another group of names than ${leader}; ${hint}`);
    } else if (normal(field, ours.value) !== normal(field, theirs.value)) {
      const isSecret = field === 'accessKeyId' || field === 'secretAccessKey';
      const values = isSecret || field === 'endpoint' ? '' : ` ("${theirs.value}" against "${ours.value}")`;
      conflict(theirs.variable, `says another ${spoken[field]} than ${ours.variable}${values}`);
    }
  }
}

const spoken: Readonly<Record<Field, string>> = {
  bucket: 'bucket',
  prefix: 'prefix',
  endpoint: 'endpoint',
  region: 'region',
  provider: 'provider',
  accessKeyId: 'access key',
  secretAccessKey: 'secret key',
};

function normal(field: Field, value: string): string {
  return field === 'endpoint' ? (splitEndpoint(value)?.url ?? value) : value;
}

function toSection(
  chosen: Group,
  variables: SetVariables,
  env: Readonly<Record<string, string | undefined>>,
  problems: Problems,
  conflict: (where: string, message: string) => void,
): EnvironmentStorage {
  const section: Record<string, string> = { type: 's3', prefix: chosen.prefixStandard };
  const sources: Record<string, string> = {};
  const put = (key: string, said: Said | undefined): void => {
    if (said === undefined) return;
    section[key] = said.value;
    sources[key] = said.variable;
  };
  const missing = (where: string, message: string): void =>
    problems.add({ code: 'config-missing', where, message, need: 'storage' });
  const bucketName = chosen.names.bucket ?? chosen.title;
  const other = chosen.title === 'S3_URL' ? ' (or write it in S3_URL)' : '';
  if (!chosen.said.has('bucket')) missing(bucketName, `is required: the bucket${other}`);
  put('bucket', chosen.said.get('bucket'));
  put('provider', chosen.said.get('provider'));
  putPrefix(chosen, variables, put, conflict);
  const keys = KEY_FIELDS.map((field) => chosen.said.get(field));
  if (keys.some((key) => key !== undefined)) {
    KEY_FIELDS.forEach((field, index) => {
      const name = chosen.names[field] ?? field;
      if (keys[index] === undefined) missing(name, `is required beside ${keys[1 - index]?.variable ?? ''}`);
      put(field === 'accessKeyId' ? 'access_key_id' : 'secret_access_key', keys[index]);
    });
    put('endpoint', chosen.said.get('endpoint'));
    put('region', chosen.said.get('region'));
    return { section, variables: sources };
  }
  addChain(chosen, variables, env, put, missing, conflict);
  if (section['access_key_id'] === undefined) section['credentials'] = 'default-chain';
  return { section, variables: sources };
}

function putPrefix(
  chosen: Group,
  variables: SetVariables,
  put: (key: string, said: Said | undefined) => void,
  conflict: (where: string, message: string) => void,
): void {
  const own = chosen.said.get('prefix');
  const general = variables.get('BACKUP_PREFIX');
  // BACKUP_STORAGE=s3://bucket says by its form that there is no prefix; BACKUP_PREFIX may still add one.
  const ownText = own?.value.replace(/^\/+|\/+$/g, '');
  const generalText = general?.value.replace(/^\/+|\/+$/g, '');
  if (own !== undefined && general !== undefined && ownText !== '' && ownText !== generalText) {
    conflict(general.variable, `names another prefix than ${own.variable} ("${generalText}" against "${ownText}")`);
  }
  put('prefix', ownText === '' || own === undefined ? (general ?? own) : own);
}

/** Without keys of the group's own, the AWS chain gives them, and its region and endpoint where the group has none. */
function addChain(
  chosen: Group,
  variables: SetVariables,
  env: Readonly<Record<string, string | undefined>>,
  put: (key: string, said: Said | undefined) => void,
  missing: (where: string, message: string) => void,
  conflict: (where: string, message: string) => void,
): void {
  const ownEndpoint = chosen.said.get('endpoint');
  const chainEndpoint = variables.first('AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL');
  const key = variables.get('AWS_ACCESS_KEY_ID');
  const secret = variables.get('AWS_SECRET_ACCESS_KEY');
  if (key !== undefined && secret === undefined) missing('AWS_SECRET_ACCESS_KEY', `is required beside ${key.variable}`);
  if (secret !== undefined && key === undefined) missing('AWS_ACCESS_KEY_ID', `is required beside ${secret.variable}`);
  const isFound = key !== undefined || secret !== undefined || CHAIN_SIGNS.some((name) => (env[name] ?? '') !== '');
  if (ownEndpoint !== undefined && !isFound && !ownEndpoint.value.includes('.amazonaws.com')) {
    const names = KEY_FIELDS.map((field) => chosen.names[field]).filter((name) => name !== undefined);
    for (const name of names) missing(name, `is required for a store that is not AWS (or AWS_PROFILE and its like)`);
  }
  if (ownEndpoint !== undefined && chainEndpoint !== undefined) {
    if (normal('endpoint', ownEndpoint.value) !== normal('endpoint', chainEndpoint.value)) {
      conflict(
        chainEndpoint.variable,
        `says another endpoint than ${ownEndpoint.variable}, and the keys are of the AWS chain`,
      );
    }
  }
  put('endpoint', ownEndpoint ?? chainEndpoint);
  put('region', chosen.said.get('region') ?? variables.first('AWS_REGION', 'AWS_DEFAULT_REGION'));
  // The chain itself knows no AWS_…_FILE for these; with one, the keys are handed over.
  if (key?.variable.endsWith('_FILE') || secret?.variable.endsWith('_FILE')) {
    put('access_key_id', key);
    put('secret_access_key', secret);
    put('session_token', variables.get('AWS_SESSION_TOKEN'));
  }
}
