import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { ID_METADATA } from '../../src/repository/owned-objects.ts';
import { manifestOf, oneBlock } from './repository-place.ts';

const WIDTH = 16;

export interface SeedOptions {
  readonly source: string;
  readonly database: string;
  /** When each was made. */
  readonly times: readonly Date[];
  /** When that was by the store's clock. Default: the same. */
  readonly storeTime?: Date;
  /** Whether each gets an object of one byte too; a manifest alone will do for what only lists. */
  readonly withData?: boolean;
  /** What is said of their sizes. */
  readonly suspicions?: Manifest['suspicions'];
  /** The server that they are of, as far as it matters. */
  readonly server?: Partial<Manifest['server']>;
}

/** Commits backups as if they had been made at other times. They hold no dump. */
export async function seedBackups(store: ObjectStore, options: SeedOptions): Promise<Manifest[]> {
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  const seed = async (time: Date): Promise<Manifest> => {
    const id = makeBackupId(time, 'p', systemRandom);
    const key = `${options.database}_${time.toISOString().slice(0, 19)}Z.sql.gz`;
    const at = time.toISOString();
    const stored =
      options.withData === true
        ? await store.putStream(key, oneBlock('x'), { metadata: { [ID_METADATA]: id } })
        : undefined;
    const plain = manifestOf(id, options.database, [key], stored?.etag);
    const manifest = {
      ...plain,
      server: { ...plain.server, ...options.server },
      source: options.source,
      startedAt: at,
      endedAt: at,
      storeTime: options.storeTime?.toISOString() ?? at,
      ...(options.suspicions && { suspicions: options.suspicions }),
    };
    await repository.commit(manifest);
    return manifest;
  };
  const seeded: Manifest[] = [];
  for (let start = 0; start < options.times.length; start += WIDTH) {
    seeded.push(...(await Promise.all(options.times.slice(start, start + WIDTH).map(seed))));
  }
  return seeded;
}
