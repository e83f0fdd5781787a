import type { Proof, Proofs } from '../operations/proofs.ts';
import type { GlobalsRecord } from '../repository/globals.ts';
import { type Manifest, type ManifestObject, sizesOf } from '../repository/manifest.ts';
import type { Pin } from '../repository/pins.ts';

/** One object of output, with the version of its schema. */
export function formatJson(json: Readonly<Record<string, unknown>>, output: 'json' | 'ndjson'): string {
  const value = { schema_version: 1, ...json };
  return `${output === 'json' ? JSON.stringify(value, undefined, 2) : JSON.stringify(value)}\n`;
}

type JsonObject = Readonly<Record<string, unknown>>;

/** A line of `--output ndjson`: a record, or what belongs to none. */
export type JsonLine = JsonObject & { readonly kind: string };

/** Records of a list as lines; where a record has a kind of its own, that is the line's. */
export function jsonLines(kind: string, records: readonly JsonObject[], of: JsonObject = {}): readonly JsonLine[] {
  return records.map((record) => ({ kind, ...of, ...record }));
}

/** A backup as `--output json` shows it: a stable selection of the manifest, in snake case, bytes as integers. */
export function manifestJson(manifest: Manifest): Record<string, unknown> {
  const { storedBytes, plainBytes } = sizesOf(manifest);
  return {
    id: manifest.id,
    format: manifest.format,
    source: manifest.source,
    database: manifest.database.name,
    host: manifest.server.host,
    server_version: manifest.server.version,
    system_identifier: manifest.server.systemIdentifier,
    client: manifest.client,
    started_at: manifest.startedAt,
    ended_at: manifest.endedAt,
    duration_ms: Date.parse(manifest.endedAt) - Date.parse(manifest.startedAt),
    stored_bytes: storedBytes,
    plain_bytes: plainBytes,
    compression: manifest.compression,
    encryption: encryptionJson(manifest),
    parents: manifest.parents,
    objects: manifest.objects.map(objectJson),
    excluded: manifest.excluded,
    unreadable: manifest.unreadable,
    suspicions: manifest.suspicions ?? [],
    unreadable_count: manifest.unreadableCount ?? manifest.unreadable.length,
    run_id: manifest.runId,
    pgark_version: manifest.pgarkVersion,
  };
}

/** Who holds a backup, as `--output json` shows it. */
export function pinJson({ pinnedAt, by, reason, runId }: Pin): Record<string, unknown> {
  return { pinned_at: pinnedAt, user: by.user, host: by.host, reason, run_id: runId };
}

/** What was found out of a backup as `--output json` shows it. */
export function proofsJson({ verify, drill }: Proofs): Record<string, unknown> {
  const json = (proof: Proof | undefined): Record<string, unknown> | undefined =>
    proof && { passed: typeof proof.passed === 'boolean' ? proof.passed : null, at: proof.at.toISOString() };
  return { verify: json(verify), drill: json(drill) };
}

/** Globals as `--output json` shows them. */
export function globalsJson(record: GlobalsRecord): Record<string, unknown> {
  return {
    id: record.id,
    source: record.source,
    host: record.server.host,
    server_version: record.server.version,
    client: record.client,
    started_at: record.startedAt,
    ended_at: record.endedAt,
    compression: record.compression,
    encryption: encryptionJson(record),
    object: objectJson(record.object),
    roles: record.counts.roles,
    tablespaces: record.counts.tablespaces,
    without_passwords: record.leftOut.passwords,
    hidden_roles: record.leftOut.hiddenRoles,
    run_id: record.runId,
  };
}

function encryptionJson({ encryption }: Pick<Manifest, 'encryption'>): Record<string, unknown> | undefined {
  return (
    encryption && {
      scheme: encryption.scheme,
      key_fingerprints: encryption.keyFingerprints,
      iterations: encryption.iterations,
    }
  );
}

function objectJson(object: ManifestObject): Record<string, unknown> {
  return {
    key: object.key,
    role: object.role,
    stored_bytes: object.storedBytes,
    stored_sha256: object.storedSha256,
    plain_bytes: object.plainBytes,
    plain_sha256: object.plainSha256,
    confirmed_by: object.confirmedBy,
  };
}
