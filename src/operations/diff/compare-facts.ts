import { type Manifest, sizesOf } from '../../repository/manifest.ts';

/** What two manifests say of one thing. */
export interface Fact {
  readonly name: string;
  readonly before: string | number | undefined;
  readonly after: string | number | undefined;
}

const PROPERTIES = ['settings', 'comment', 'connection_limit', 'is_template', 'tablespace', 'grants'] as const;

/** What the `properties` of a database tell. */
type Property = (typeof PROPERTIES)[number];

/** A setting of the database, or of a role in it. Their values may be secrets, and are not told. */
interface SettingDifference {
  readonly role: string | undefined;
  readonly name: string;
  readonly change: 'added' | 'removed' | 'changed';
}

export interface FactsDifference {
  /** Only those that differ; what is of each backup alone, such as its id, is none. */
  readonly facts: readonly Fact[];
  readonly settings: readonly SettingDifference[];
  /** What the manifests do not tell: those of encrypted backups neither settings nor comments, those of earlier versions nothing of it. */
  readonly untold: readonly Property[];
}

/** Facts of the database itself; all others say how a backup was made, and how large it is. */
const OF_CONTENT: ReadonlySet<string> = new Set([
  'owner',
  'encoding',
  'collation',
  'ctype',
  'locale_provider',
  'locale',
  'icu_rules',
  'comment',
  'connection_limit',
  'is_template',
  'tablespace',
  'grants',
  'tablespaces',
]);

/** Whether it tells that the database itself is another than it was. */
export function isOfContent({ name }: Fact): boolean {
  return OF_CONTENT.has(name);
}

/** What the manifests alone tell, which takes no key. Pure. */
export function compareFacts(before: Manifest, after: Manifest): FactsDifference {
  const others = new Map(factsOf(after));
  const untold = PROPERTIES.filter((what) => !tells(before, what) || !tells(after, what));
  return {
    facts: factsOf(before)
      .map(([name, value]) => ({ name, before: value, after: others.get(name) }))
      .filter((fact) => fact.before !== fact.after && !untold.some((what) => what === fact.name)),
    settings: untold.includes('settings') ? [] : compareSettings(before, after),
    untold,
  };
}

/** A physical backup is of a whole server: it holds those of all databases, and no manifest names them. */
function tells({ format, database: { properties } }: Manifest, what: Property): boolean {
  if (format === 'physical') return true;
  return properties !== undefined && !properties.leftOut.includes(what);
}

function factsOf(manifest: Manifest): readonly (readonly [string, string | number | undefined])[] {
  const { database, server, client, compression, encryption } = manifest;
  const { properties } = database;
  const { storedBytes, plainBytes } = sizesOf(manifest);
  return [
    ['format', manifest.format],
    ['source', manifest.source],
    ['database', database.name],
    ['host', `${server.host}:${server.port}`],
    ['system_identifier', server.systemIdentifier],
    ['server_version', server.version],
    ['client', `${client.program} ${client.version}`],
    ['owner', database.owner],
    ['encoding', database.encoding],
    ['collation', database.collation],
    ['ctype', database.ctype],
    ['locale_provider', database.localeProvider],
    ['locale', database.locale],
    ['icu_rules', database.icuRules],
    ['comment', properties?.comment],
    ['connection_limit', properties?.connectionLimit],
    ['is_template', properties && String(properties.isTemplate)],
    ['tablespace', properties?.tablespace],
    ['grants', properties?.grants && JSON.stringify(properties.grants)],
    ['database_bytes', database.bytes],
    ['plain_bytes', plainBytes],
    ['stored_bytes', storedBytes],
    ['compression', compression.algorithm === 'none' ? 'none' : `${compression.algorithm}, level ${compression.level}`],
    [
      'encryption',
      encryption === undefined ? 'none' : `${encryption.scheme}, ${encryption.keyFingerprints.join(', ')}`,
    ],
    ['left_out', manifest.excluded.join(', ') || undefined],
    ['tables_not_read', manifest.unreadableCount],
    ['timeline', manifest.timeline],
    ['start_lsn', manifest.startLsn],
    ['tablespaces', manifest.tablespaces?.map(({ oid, location }) => `${oid} at ${location}`).join(', ') || undefined],
  ];
}

function compareSettings(before: Manifest, after: Manifest): readonly SettingDifference[] {
  const settingsOf = (manifest: Manifest) => manifest.database.properties?.settings ?? [];
  const key = ({ role, name }: { readonly role?: string | undefined; readonly name: string }): string =>
    JSON.stringify([role ?? null, name]);
  const olds = new Map(settingsOf(before).map((setting) => [key(setting), setting]));
  const news = new Map(settingsOf(after).map((setting) => [key(setting), setting]));
  return [...new Set([...olds.keys(), ...news.keys()])].sort().flatMap((each): readonly SettingDifference[] => {
    const [old, now] = [olds.get(each), news.get(each)];
    const named = old ?? now;
    if (named === undefined || old?.value === now?.value) return [];
    const change = old === undefined ? 'added' : now === undefined ? 'removed' : 'changed';
    return [{ role: named.role, name: named.name, change }];
  });
}
