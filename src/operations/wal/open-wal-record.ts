import { formatBytes } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import { Repository } from '../../repository/repository.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import { readWalRecord, type WalRecord, writeWalRecord } from '../../repository/wal-record.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';

interface RecordOptions extends CallOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly pgarkVersion: string;
}

/**
 * Finds the record of an archive, or makes it, and the repository, where there is none yet. Error: `wal-conflict` if it was made
 * for segments of another size.
 */
export async function openWalRecord(
  store: ObjectStore,
  folder: WalFolder & { readonly segmentBytes: number },
  { clock, random, pgarkVersion, signal }: RecordOptions,
): Promise<WalRecord> {
  const call = signal === undefined ? {} : { signal };
  const { source, systemIdentifier, segmentBytes } = folder;
  const present = await readWalRecord(store, folder, call);
  if (present !== undefined) {
    if (present.segmentBytes === segmentBytes) return present;
    throw new PgarkError(
      'wal-conflict',
      `the archive of ${source} in ${store.location} has segments of ${formatBytes(present.segmentBytes)}, the server now makes them of ${formatBytes(segmentBytes)}`,
      {
        hint: 'pg_resetwal has changed their size: archive under another source name or prefix from now on',
      },
    );
  }
  // Makes the directory of a file storage, too.
  await store.probe({ ...call, write: true });
  await new Repository(store, { clock, random }).initialise({ ...call, pgarkVersion });
  const record: WalRecord = {
    layout: 1,
    source,
    systemIdentifier,
    segmentBytes,
    createdAt: clock.now().toISOString(),
    pgarkVersion,
  };
  await writeWalRecord(store, record, call);
  return record;
}
