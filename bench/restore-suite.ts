import path from 'node:path';
import { defaultLevel } from '../src/pipeline/compression.ts';
import { type Contender, JOBS, own, shell } from './contender.ts';
import { measure } from './measure.ts';
import type { Place } from './place.ts';
import type { Suite } from './suite.ts';
import { speed } from './targets.ts';

/** Each into a database that it makes for itself. The store gives back what it was given, the others read from the disk. */
export const restoreSuite: Suite = {
  name: 'restore',
  measured: 'sql',
  // As servers are that are to be backed up: with the WAL that a replica needs.
  serverSettings: { max_wal_size: '8GB' },
  async prepare(place) {
    await measure(
      place,
      shell(place, '', '', 'gzip < "$DUMP" > "$FILE"', { DUMP: place.dumpFile, FILE: gzipOf(place) }),
    );
    const archive = `pg_dump -Fd -j${JOBS} --compress=${compressionOf(place)} --file="$FOLDER"`;
    await measure(place, shell(place, '', '', archive, { FOLDER: archiveOf(place) }));
    await measure(place, pgark(place, 'backup', ['backup', '--format', 'directory']));
  },
  contenders(place, run) {
    const target = (name: string) => `${name}_${run}`;
    const program = (name: string, label: string, script: string): Contender => ({
      ...shell(place, name, label, `createdb "$TARGET"; ${script}`, {
        TARGET: target(name),
        FILE: gzipOf(place),
        FOLDER: archiveOf(place),
      }),
      tidy: () => place.dropDatabase(target(name)),
    });
    const into = ['--to-db', target('pgark'), '--no-verify-first', '--no-analyze'];
    return [
      program('psql', 'gunzip | psql', 'gunzip < "$FILE" | psql -Xq -v ON_ERROR_STOP=1 "$TARGET" > /dev/null'),
      program(
        'pg_restore',
        `pg_restore -j${JOBS}`,
        `pg_restore -j${JOBS} --exit-on-error --dbname="$TARGET" "$FOLDER"`,
      ),
      {
        ...pgark(place, 'pgark restore latest', ['restore', 'latest', ...into]),
        tidy: () => place.dropDatabase(target('pgark')),
      },
    ];
  },
  targets: [speed('pgark', 'pg_restore', 0.95), speed('pgark', 'psql', 1.4)],
};

function pgark(place: Place, label: string, args: readonly string[]): Contender {
  return own(place, { name: 'pgark', label, args, into: { sink: place.sinks.keeping, bucket: 'kept' } });
}

function gzipOf(place: Place): string {
  return path.join(place.folder, 'dump.sql.gz');
}

function archiveOf(place: Place): string {
  return path.join(place.folder, 'archive');
}

/** pgark's own, where pg_dump knows it. */
function compressionOf({ major }: Place): string {
  return major >= 16 ? `zstd:${defaultLevel('zstd')}` : '6';
}
