import { createHash } from 'node:crypto';
import { type ByteStream, once } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import type { Sealer } from '../../src/pipeline/encryption/sealer.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { manifestOf, oneBlock } from './repository-place.ts';

const SQL = '--\n-- PostgreSQL database dump complete\n--\n\n';

/** Commits a backup of a database without anything in it, which a verification finds whole. */
export async function addWholeBackup(
  store: ObjectStore,
  database: string,
  time = new Date(),
  sealer?: Sealer,
): Promise<Manifest> {
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  const id = makeBackupId(time, 'p', systemRandom);
  const key = `${database}_${id}.sql`;
  const plain = manifestOf(id, database, [key]);
  const stored = await bytesOf(sealer === undefined ? oneBlock(SQL) : sealer.seal()(oneBlock(SQL)));
  const size = {
    storedBytes: stored.length,
    storedSha256: sha256Of(stored),
    plainBytes: SQL.length,
    plainSha256: sha256Of(SQL),
  };
  await store.putStream(key, once(stored));
  const objects = plain.objects.map((each) => ({ ...each, ...size }));
  const at = time.toISOString();
  const manifest: Manifest = {
    ...plain,
    source: database,
    startedAt: at,
    endedAt: at,
    storeTime: at,
    objects,
    compression: { algorithm: 'none', level: 0 },
    ...(sealer && { encryption: { ...sealer.record, keyFingerprints: [...sealer.record.keyFingerprints] } }),
  };
  await repository.commit(manifest);
  return manifest;
}

async function bytesOf(stream: ByteStream): Promise<Uint8Array> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks);
}

function sha256Of(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('hex');
}
