import { createHash } from 'node:crypto';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { manifestOf, oneBlock } from './repository-place.ts';

const SQL = '--\n-- PostgreSQL database dump complete\n--\n\n';

/** Commits a backup of a database without anything in it, which a verification finds whole. */
export async function addWholeBackup(store: ObjectStore, database: string, time = new Date()): Promise<Manifest> {
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  const id = makeBackupId(time, 'p', systemRandom);
  const key = `${database}_${id}.sql`;
  const plain = manifestOf(id, database, [key]);
  const sha256 = createHash('sha256').update(SQL).digest('hex');
  const size = { storedBytes: SQL.length, storedSha256: sha256, plainBytes: SQL.length, plainSha256: sha256 };
  await store.putStream(key, oneBlock(SQL));
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
  };
  await repository.commit(manifest);
  return manifest;
}
