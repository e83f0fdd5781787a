import { createHash } from 'node:crypto';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { findSpan, spanOf } from '../../src/formats/physical/needed-wal.ts';
import { storedObjects } from '../../src/formats/stored-objects.ts';
import { putTimelineHistory, putWalFile } from '../../src/formats/wal/store-piece.ts';
import { copyBackup } from '../../src/operations/copy/copy.ts';
import type { CopyOutcome, CopyPlace, CopyRequest } from '../../src/operations/copy/copy-request.ts';
import { type ContextOptions, operationContext } from '../../src/operations/context.ts';
import { prune } from '../../src/operations/prune.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import type { Sealer } from '../../src/pipeline/encryption/sealer.ts';
import { historyFileName } from '../../src/postgres/wal/timeline-history.ts';
import { keys } from '../../src/repository/keys.ts';
import { type Manifest, parseManifest, serialiseManifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import { ID_METADATA } from '../../src/repository/owned-objects.ts';
import { expect } from 'vitest';
import { storeChain } from './base-chain.ts';
import type { FaultyStore } from './faulty-store.ts';
import { MemoryStore } from './memory-store.ts';
import { manifestOf, oneBlock } from './repository-place.ts';
import { WAL_IDENTITY } from './wal-bytes.ts';
import { pieceOf } from './wal-pieces.ts';

const { segmentBytes } = WAL_IDENTITY;
const signal = new AbortController().signal;

/** A plain backup of a text, with what later versions may write into its manifest. */
export async function storePlain(
  store: MemoryStore,
  { text = 'SELECT 1;', time = new Date('2026-11-20T02:00:00Z'), further = {} } = {},
): Promise<Manifest> {
  await initialise(store);
  const id = makeBackupId(time, 'p', systemRandom);
  const key = `shop_${time.toISOString().slice(0, 19)}Z.sql`;
  const { etag } = await store.putStream(key, oneBlock(text), { metadata: { [ID_METADATA]: id } });
  const bare = manifestOf(id, 'shop', [key], etag);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const digests = { storedBytes: text.length, storedSha256: sha256, plainBytes: text.length, plainSha256: sha256 };
  const at = time.toISOString();
  const manifest: Manifest = {
    ...bare,
    startedAt: at,
    endedAt: at,
    storeTime: at,
    compression: { algorithm: 'none', level: 0 },
    objects: bare.objects.map((object) => ({ ...object, ...digests })),
  };
  const json = { ...(JSON.parse(Buffer.from(serialiseManifest(manifest)).toString()) as object), ...further };
  await store.putSmall(keys.manifest('main', 'shop', id), Buffer.from(JSON.stringify(json)));
  return manifest;
}

/** A prune looks at nothing where nobody has written yet. */
async function initialise(store: MemoryStore): Promise<void> {
  await new Repository(store, { clock: systemClock, random: systemRandom }).initialise({ pgarkVersion: '0.1.0' });
}

interface PhysicalOptions {
  /** Backups of the chain. */
  readonly links?: number;
  /** The first one's day of November, from the 20th on. */
  readonly firstDay?: number;
  /** What the WAL is of. */
  readonly fill?: string;
  /** Encrypts the WAL. */
  readonly sealer?: Sealer;
  /** Beyond the first there are the histories of those before it, too. */
  readonly timeline?: number;
}

/** A full backup and others that are relative to it, each with the segment of WAL that it needs; oldest first. */
export async function storePhysical(
  store: MemoryStore,
  { links = 3, firstDay = 0, fill = 'w', sealer, timeline = 1 }: PhysicalOptions = {},
): Promise<readonly Manifest[]> {
  await initialise(store);
  const link = (_: unknown, index: number) => ({
    files: [{ path: 'base/1/1', content: Buffer.from(`link ${index}`) }],
  });
  const chain = await storeChain(store, Array.from({ length: links }, link), { firstDay });
  const manifests: Manifest[] = [];
  for (const { manifest: bare } of chain.toReversed()) {
    const number = BigInt(Number.parseInt(bare.startLsn?.slice(2) ?? '', 16)) / BigInt(segmentBytes);
    const { systemIdentifier = '' } = bare.server;
    const made = pieceOf({ timeline, number }, Buffer.alloc(segmentBytes, `${fill} ${number} `));
    const piece = { ...made, facts: { ...made.facts, systemIdentifier } };
    const folder = { source: 'main', systemIdentifier };
    const place = { store, folder, sealer, keys: { identities: [], passphrases: [] } };
    await putWalFile(place, piece);
    for (let newer = 2; newer <= timeline; newer += 1) {
      const lines = Array.from({ length: newer - 1 }, (_, index) => `${index + 1}\t0/1${index}00000\tleft\n`);
      await putTimelineHistory({ store, folder }, historyFileName(newer), Buffer.from(lines.join('')), {});
    }
    const { name } = piece.wal;
    const manifest = { ...bare, timeline, walNeeded: { from: name, to: name, segmentBytes } };
    await store.putSmall(keys.manifest('main', 'postgres', bare.id), serialiseManifest(manifest));
    manifests.push(manifest);
  }
  return manifests;
}

export interface Copying extends Partial<Omit<CopyRequest, 'from' | 'to'>>, ContextOptions {
  readonly from: readonly CopyPlace['store'][];
  readonly to: CopyPlace['store'];
  readonly manifest: Manifest;
}

/** Storages are called `near`, `near2` … and `far`. */
export async function copy({
  from,
  to,
  logger = silentLogger,
  signal: stop,
  ...request
}: Copying): Promise<CopyOutcome> {
  const places = from.map((store, index) => ({ name: index === 0 ? 'near' : `near${index + 1}`, store }));
  const whole = { from: places, to: { name: 'far', store: to }, leaseTermMs: 60_000, dryRun: false, ...request };
  return copyBackup(whole, operationContext({ logger, ...(stop && { signal: stop }) }));
}

/** Every backup that the store says to have; each has all that it needs. */
export async function wholeBackups(store: MemoryStore): Promise<readonly Manifest[]> {
  const manifests: Manifest[] = [];
  for (const [key, { bytes }] of store.objects) {
    if (key.startsWith(keys.manifestsPrefix)) manifests.push(parseManifest(bytes, key));
  }
  const ids = new Set<string>(manifests.map(({ id }) => id));
  for (const manifest of manifests) {
    for (const { key, storedSha256 } of await storedObjects(manifest, { store, signal })) {
      const sha256 = createHash('sha256')
        .update(store.objects.get(key)?.bytes ?? '')
        .digest('hex');
      if (sha256 !== storedSha256) throw new Error(`${key} is not what was recorded`);
    }
    if (manifest.format === 'physical') await findSpan(store, spanOf(manifest));
    const missing = manifest.parents.find((parent) => !ids.has(parent));
    if (missing !== undefined) throw new Error(`${manifest.id} is there without ${missing}`);
  }
  return manifests;
}

const PASSING = /^\.pgark\/(runs|logs|leases|repository)/;

/** What lies there but for what runs leave of themselves. */
export function lasting(store: MemoryStore): readonly string[] {
  return [...store.objects.keys()].filter((key) => !PASSING.test(key)).sort();
}

/** As it was, under another etag. */
export function cloneOf(store: MemoryStore): Promise<MemoryStore> {
  const clone = new MemoryStore();
  return [...store.objects].reduce(async (done, [key, { bytes, info }]) => {
    await done;
    const { metadata } = info;
    await clone.putStream(key, oneBlockOf(bytes), metadata ? { metadata } : {});
    return clone;
  }, Promise.resolve(clone));
}

async function* oneBlockOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes.slice();
}

export const manifestKey = ({ source, database, id }: Manifest): string => keys.manifest(source, database.name, id);

/** All but the last go. */
export const policyOf = () => ({ keep: { last: 1 }, minBackups: 1 });

export function pruneAll(store: FaultyStore | MemoryStore): Promise<unknown> {
  const rest = { timezone: 'UTC', leaseTermMs: 60_000, dryRun: false, force: true };
  const walPolicyOf = () => ({ keepMs: 0 });
  return prune({ store, filter: {}, policyOf, walPolicyOf, ...rest }, operationContext());
}

/** An error of this code, whose message has this in it. */
export const refused = (code: string, message: RegExp | string): object =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string });
