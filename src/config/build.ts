import { Secret } from '../common/secret.ts';
import { MIN_BACKUPS_DEFAULT } from '../retention/policy.ts';
import { buildSource, type Named } from './build-databases.ts';
import { buildNotification, buildServer } from './build-notifications.ts';
import { buildRetry, buildStorage } from './build-storage.ts';
import { checkRetention } from './check-retention.ts';
import type { BuildContext } from './context.ts';
import { defined } from './defined.ts';
import { OPENSSL_PASSPHRASE_CHARACTERS_MIN, readKeyMaterial } from './key-material.ts';
import type { Config, EncryptionConfig, RetentionConfig } from './model.ts';
import type { EncryptionSection, Sections } from './schema.ts';
import { buildTraces } from './traces.ts';

interface CollectedKeys {
  readonly identities: Secret[];
  readonly passphrases: Secret[];
  /** Of encryptions that have a secret key or passphrase of their own. */
  readonly names: Set<string>;
  /** Public keys of the identities. */
  readonly recipients: Set<string>;
}

/** Turns checked sections into the configuration. Reads the files that they name; reports what is wrong to `context`. */
export async function buildConfig(
  context: BuildContext,
  sections: Sections,
  facts: Pick<Config, 'source' | 'warnings'>,
): Promise<Config> {
  const { defaults } = sections;
  const decryptionKeys = {
    identities: new Array<Secret>(),
    passphrases: new Array<Secret>(),
    names: new Set<string>(),
    recipients: new Set<string>(),
  };
  const encryption = await mapValues(sections.encryption, (name, section) =>
    buildEncryption(context, name, section, decryptionKeys),
  );
  const storages = await mapValues(sections.storages, (name, section) =>
    buildStorage(context, name, section, defaults?.retry),
  );
  const retention = await mapValues(sections.retention, (name, section) =>
    Promise.resolve(buildRetention(name, section)),
  );
  const named: Named = { storages: [...storages.keys()], encryption, retention, defaults };
  const databases = await mapValues(sections.databases, (name, section) => buildSource(context, name, section, named));
  checkRetention(context, databases, storages);
  return {
    ...facts,
    timezone: sections.timezone ?? 'UTC',
    storages,
    databases,
    encryption,
    retention,
    notifications: await mapValues(sections.notifications, (name, section) =>
      buildNotification(context, name, section),
    ),
    decryptionKeys: {
      identities: decryptionKeys.identities,
      passphrases: decryptionKeys.passphrases,
      encryptions: openedBy(decryptionKeys, encryption),
    },
    server: await buildServer(context, sections.server),
    log: { level: sections.log?.level ?? 'info', format: sections.log?.format ?? 'auto' },
    ...defined({
      traces: await buildTraces(context, sections.traces),
      bandwidthBytesPerSecond: defaults?.bandwidth,
    }),
    concurrency: defaults?.concurrency ?? 2,
    retry: buildRetry(defaults?.retry),
    leaseTermMs: defaults?.lease_term ?? 60_000,
    origins: context.origins,
  };
}

async function mapValues<Section, Value>(
  sections: Readonly<Record<string, Section>> | undefined,
  build: (name: string, section: Section) => Promise<Value>,
): Promise<ReadonlyMap<string, Value>> {
  const values = new Map<string, Value>();
  for (const [name, section] of Object.entries(sections ?? {})) values.set(name, await build(name, section));
  return values;
}

function buildRetention(name: string, section: NonNullable<Sections['retention']>[string]): RetentionConfig {
  const { within, ...counts } = section.keep;
  return defined({
    name,
    keep: defined({ ...counts, withinMs: within }),
    minBackups: section.min_backups ?? MIN_BACKUPS_DEFAULT,
    keepProven: section.keep_proven,
    maxTotalBytes: section.max_total_size,
  });
}

function openedBy(
  { names, recipients }: CollectedKeys,
  encryption: ReadonlyMap<string, EncryptionConfig>,
): ReadonlySet<string> {
  const known = [...encryption.values()].filter((each) =>
    'recipients' in each ? each.recipients.some((recipient) => recipients.has(recipient)) : false,
  );
  return new Set([...names, ...known.map(({ name }) => name)]);
}

async function buildEncryption(
  context: BuildContext,
  name: string,
  section: EncryptionSection,
  keys: CollectedKeys,
): Promise<EncryptionConfig> {
  const path = ['encryption', name] as const;
  context.origins.copyIfAbsent([...path, 'scheme'], [...path, 'type']);
  if (section.type === 'age') return buildAge(context, path, section, keys);
  const passphrase = await context.requiredSecret([...path, 'passphrase'], section.passphrase, section.passphrase_file);
  checkOpensslPassphrase(context, path, passphrase, await readKeyMaterial(passphrase.reveal()));
  keys.passphrases.push(passphrase);
  keys.names.add(name);
  return { name, scheme: 'openssl', passphrase };
}

function checkOpensslPassphrase(
  context: BuildContext,
  path: readonly string[],
  passphrase: Secret,
  material: Awaited<ReturnType<typeof readKeyMaterial>>,
): void {
  // An absent one was reported already.
  if (passphrase.reveal() === '') return;
  const invalid = (message: string): void =>
    context.problem([...path, 'passphrase'], 'key-invalid', message, 'make a passphrase with: openssl rand -base64 33');
  if (typeof material === 'string' || material.kind !== 'passphrase') {
    invalid('is a key of age (or of SSH); openssl needs a passphrase');
  } else if (passphrase.reveal().length < OPENSSL_PASSPHRASE_CHARACTERS_MIN) {
    invalid(
      `has fewer than ${OPENSSL_PASSPHRASE_CHARACTERS_MIN} characters, which openssl’s key derivation does not protect`,
    );
  } else if (/[\n\0]/.test(passphrase.reveal())) {
    invalid('has several lines; openssl reads only the first of a passphrase file');
  }
}

async function buildAge(
  context: BuildContext,
  path: readonly [string, string],
  section: Extract<EncryptionSection, { type: 'age' }>,
  keys: CollectedKeys,
): Promise<EncryptionConfig> {
  const name = path[1];
  const listed = await context.text([...path, 'recipients'], section.recipients?.join('\n'), section.recipients_file);
  const identity = await context.text([...path, 'identity'], section.identity, section.identity_file);
  const passphrase = await context.secret([...path, 'passphrase'], section.passphrase, section.passphrase_file);
  const recipients: string[] = [];
  for (const [key, text, kind] of [
    ['recipients', listed, 'recipients'],
    ['identity', identity, 'identities'],
  ] as const) {
    if (text === undefined) continue;
    const material = await readKeyMaterial(text);
    if (typeof material === 'string' || material.kind !== kind) {
      const wanted = key === 'identity' ? 'no age identity (AGE-SECRET-KEY-1…)' : 'no age public keys (age1…)';
      const message = typeof material === 'string' ? material : `holds ${wanted}`;
      context.problem([...path, key], 'key-invalid', message, 'pgark key generate makes a pair');
      continue;
    }
    if (key === 'recipients' || listed === undefined) recipients.push(...material.recipients);
    if (material.kind !== 'identities') continue;
    keys.identities.push(...material.identities.map((word) => new Secret(word)));
    for (const recipient of material.recipients) keys.recipients.add(recipient);
  }
  if (passphrase !== undefined) keys.passphrases.push(passphrase);
  if (passphrase !== undefined || identity !== undefined) keys.names.add(name);
  const given = ['recipients', 'recipients_file', 'identity', 'identity_file'] as const;
  const hasKeys = given.some((key) => section[key] !== undefined);
  if (passphrase !== undefined && !hasKeys) return { name, scheme: 'age', passphrase };
  if (passphrase !== undefined) {
    context.problem([...path, 'passphrase'], 'config-conflict', 'is set beside keys; age takes one or the other');
  } else if (!hasKeys && section.passphrase_file === undefined) {
    context.problem(path, 'config-missing', 'needs recipients, recipients_file, identity, identity_file or passphrase');
  }
  return { name, scheme: 'age', recipients: [...new Set(recipients)] };
}
