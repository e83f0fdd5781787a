import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type Contender, own, shell, UPLOAD } from './contender.ts';
import { measure } from './measure.ts';
import type { Place } from './place.ts';
import type { Suite } from './suite.ts';
import { speed } from './targets.ts';

const OWN = 'pgark';
const RESTORE = 'pgark-restore';
/** Of both, so that both begin at once. */
const BASE = 'pg_basebackup -Ft -D - -X none -c fast';
const ZSTD = 'zstd -T2 -1';

/**
 * Base backups of a whole server, and their way back. pg_basebackup has CRC-32C made of each file by the server, and compares
 * nothing; pgark SHA-256, and compares all. Nobody brings WAL but pgark.
 */
export const physicalSuite: Suite = {
  name: 'physical',
  serverSettings: { max_wal_size: '8GB' },
  measured: 'database',
  async prepare(place) {
    await measure(place, keptTar(place));
    await measure(place, pgark(place, '', 'keeping', 'kept'));
  },
  contenders(place, run) {
    const into = { sink: place.sinks.near, bucket: `pipeline-${run}` };
    const target = `${into.sink.endpoint}/${into.bucket}/base`;
    return [
      {
        ...shell(
          place,
          'pipeline',
          `pg_basebackup | ${ZSTD} | upload`,
          `${BASE} | ${ZSTD} | ${UPLOAD} --upload-file - "$TARGET"`,
          {
            TARGET: target,
          },
        ),
        into,
      },
      shell(place, 'bare', 'pg_basebackup > /dev/null', `${BASE} > /dev/null`),
      pgark(place, OWN, 'near', `${OWN}-${run}`),
      untar(place, run),
      restore(place, run),
    ];
  },
  targets: [speed(OWN, 'pipeline', 0.9), speed(OWN, 'bare', 0.85), speed(RESTORE, 'untar', 1.3)],
};

function pgark(place: Place, name: string, sink: 'near' | 'keeping', bucket: string): Contender {
  const args = ['backup', '--format', 'physical', '--no-prune'];
  const settings = { BACKUP_COMPRESSION: 'zstd' };
  return own(place, {
    name,
    label: 'pgark backup --format physical',
    args,
    into: { sink: place.sinks[sink], bucket },
    settings,
  });
}

function tarUrl(place: Place): string {
  return `${place.sinks.keeping.endpoint}/kept-tar/base`;
}

function keptTar(place: Place): Contender {
  return shell(place, '', '', `${BASE} | ${ZSTD} | ${UPLOAD} --upload-file - "$TARGET"`, { TARGET: tarUrl(place) });
}

function untar(place: Place, run: string): Contender {
  const folder = path.join(place.folder, `untar-${run}`);
  const script = `mkdir -m 700 "$FOLDER"; ${UPLOAD} "$SOURCE" | zstd -dq > "$FOLDER.tar"; tar -xf "$FOLDER.tar" -C "$FOLDER"; rm "$FOLDER.tar"`;
  return {
    ...shell(place, 'untar', 'download | zstd -d > file; tar -x', script, { FOLDER: folder, SOURCE: tarUrl(place) }),
    tidy: () => rm(folder, { recursive: true, force: true }),
  };
}

function restore(place: Place, run: string): Contender {
  const folder = path.join(place.folder, `restored-${run}`);
  const into = { sink: place.sinks.keeping, bucket: 'kept' };
  const args = ['restore', 'latest', '--to-dir', folder, '--immediate'];
  return {
    ...own(place, { name: RESTORE, label: 'pgark restore --to-dir', args, into }),
    tidy: () => rm(folder, { recursive: true, force: true }),
  };
}
