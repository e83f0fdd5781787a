import type { Seal } from '../formats/sealed-object.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import type { OwnProperties } from '../postgres/client/database-properties.ts';
import type { RunId } from '../repository/ids.ts';
import {
  type Manifest,
  type ManifestObject,
  type ManifestProperties,
  sizesOf,
  type Suspicion,
} from '../repository/manifest.ts';
import { unreadFields } from '../repository/unread-tables.ts';
import { lockEnd } from '../storage/object-lock.ts';
import type { ObjectLock } from '../storage/object-store.ts';
import type { Preparation } from './backup-checks.ts';
import type { BackupName, Dumped } from './backup-format.ts';

/** Everything of a manifest that is the same in every destination. */
export interface ManifestFacts {
  readonly format: Manifest['format'];
  readonly name: BackupName;
  readonly source: string;
  readonly connection: ConnectionParameters;
  readonly preparation: Preparation;
  readonly recorded: Dumped['recorded'];
  readonly seal: Seal;
  readonly excludeTableData: readonly string[];
  readonly runId: RunId;
  readonly pgarkVersion: string;
  /** Why a backup of so many bytes is suspicious where the manifest is to lie. */
  readonly judgeSize: (plainBytes: number) => readonly Suspicion[];
}

/** What each destination has of its own. */
export interface DestinationFacts {
  /** Those that the manifest names. */
  readonly objects: readonly ManifestObject[];
  /** Of all objects, if the manifest does not name all. */
  readonly totals?: Manifest['totals'];
  readonly endedAt: Date;
  readonly storeTime: Date;
  /** How the store locks what is put there. */
  readonly lock: ObjectLock | undefined;
}

export function makeManifest(facts: ManifestFacts, own: DestinationFacts): Manifest {
  const { server, database, properties, client } = facts.preparation;
  const { compression, sealer } = facts.seal;
  const manifest: Manifest = {
    layout: 1,
    id: facts.name.id,
    format: facts.format,
    source: facts.source,
    database: {
      name: database.name,
      oid: database.oid,
      owner: database.owner,
      encoding: database.encoding,
      collation: database.collation,
      ctype: database.ctype,
      localeProvider: database.localeProvider,
      ...(database.locale === undefined ? {} : { locale: database.locale }),
      ...(database.icuRules === undefined ? {} : { icuRules: database.icuRules }),
      ...(database.collationVersion === undefined ? {} : { collationVersion: database.collationVersion }),
      bytes: database.bytes,
      ...(properties === undefined ? {} : { properties: shownProperties(properties, sealer !== undefined) }),
    },
    server: {
      host: facts.connection.host,
      port: facts.connection.port,
      version: server.version,
      versionNum: server.versionNum,
      inRecovery: server.inRecovery,
      ...server.libraries,
      ...(server.systemIdentifier === undefined ? {} : { systemIdentifier: server.systemIdentifier }),
    },
    client: { ...client },
    startedAt: facts.name.startedAt.toISOString(),
    endedAt: own.endedAt.toISOString(),
    storeTime: own.storeTime.toISOString(),
    runId: facts.runId,
    objects: [...own.objects],
    ...(own.lock === undefined ? {} : { lockedUntil: lockEnd(own.storeTime, own.lock).toISOString() }),
    ...(own.totals === undefined ? {} : { totals: own.totals }),
    compression: { algorithm: compression.algorithm, level: compression.level },
    ...(sealer === undefined
      ? {}
      : { encryption: { ...sealer.record, keyFingerprints: [...sealer.record.keyFingerprints] } }),
    parents: [],
    ...facts.recorded,
    // What names tables is not for the open part of an encrypted backup.
    excluded: sealer === undefined ? [...facts.excludeTableData] : [],
    ...unreadFields(facts.preparation.unread ?? [], sealer !== undefined),
    pgarkVersion: facts.pgarkVersion,
  };
  const suspicions = facts.judgeSize(sizesOf(manifest).plainBytes);
  return suspicions.length === 0 ? manifest : { ...manifest, suspicions: [...suspicions] };
}

/** Settings and comment are free text of the user's: not for the open part of an encrypted backup. */
function shownProperties(
  { settings, grants, comment, ...rest }: OwnProperties,
  encrypted: boolean,
): ManifestProperties {
  const rights = grants === undefined ? {} : { grants: grants.map((grant) => ({ ...grant })) };
  if (encrypted) {
    const leftOut = [...(settings.length > 0 ? ['settings'] : []), ...(comment === undefined ? [] : ['comment'])];
    return { ...rest, ...rights, settings: [], leftOut };
  }
  const words = comment === undefined ? {} : { comment };
  return { ...rest, ...rights, ...words, settings: settings.map((setting) => ({ ...setting })), leftOut: [] };
}
