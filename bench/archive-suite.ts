import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { defaultLevel } from '../src/pipeline/compression.ts';
import { type Contender, JOBS, own, pipeline, shell, UPLOAD } from './contender.ts';
import type { Place } from './place.ts';
import type { Suite } from './suite.ts';
import { clientCpu, quotient, speed, type Target } from './targets.ts';

const OWN = 'pgark';
const OWN_GZIP = 'pgark-gzip';
const DISTANT = 'pgark-distant';
const DISK = 'disk';
const DISK_GZIP = 'disk-gzip';
const COPY = 'copy';
const COMPRESS = 'compress';

/** Archives by several sessions, against pipelines of pg_dump, against its own parallel format, and against what is possible. */
export const archiveSuite: Suite = {
  name: 'archive',
  measured: 'sql',
  serverSettings: { wal_level: 'minimal', max_wal_senders: '0' },
  contenders(place, run) {
    const backup = (name: string, label: string, compression: string, sink = place.sinks.near) =>
      own(place, {
        name,
        label,
        args: ['backup', '--format', 'directory'],
        into: { sink, bucket: `${name}-${run}` },
        settings: { BACKUP_COMPRESSION: compression },
      });
    return [
      pipeline(place, `gzip-${run}`, 'gzip', 'gzip'),
      pipeline(place, `zstd-${run}`, 'zstd', 'zstd -3'),
      viaDisk(place, DISK_GZIP, run, String(defaultLevel('gzip'))),
      ...(place.major < ZSTD_SINCE ? [] : [viaDisk(place, DISK, run, `zstd:${LEVEL}`)]),
      backup(OWN_GZIP, 'pgark backup --format directory (gzip)', 'gzip'),
      backup(OWN, 'pgark backup --format directory', 'zstd'),
      backup(DISTANT, 'the same into a distant store', 'zstd', place.sinks.distant),
      parallelCopy(place),
      shell(place, COMPRESS, `zstd -${LEVEL} of the SQL`, `zstd -${LEVEL} --single-thread < "$DUMP" > /dev/null`, {
        DUMP: place.dumpFile,
      }),
    ];
  },
  targets: [
    speed(OWN, 'gzip', 5),
    speed(OWN, 'zstd', 1.15),
    speed(OWN_GZIP, DISK_GZIP, 1.1),
    speed(OWN, DISK, 1.1),
    clientCpu(OWN, 'zstd', 0.8),
    limit(0.85),
    speed(DISTANT, OWN, 0.95),
  ],
};

const LEVEL = defaultLevel('zstd');
/** First version of pg_dump that compresses by zstd itself. */
const ZSTD_SINCE = 16;

/** pg_dump's parallel dump wants a disk; its files are uploaded from there. */
function viaDisk(place: Place, name: string, run: string, compression: string): Contender {
  const bucket = `${name}-${run}`;
  const folder = path.join(place.folder, bucket);
  const into = { sink: place.sinks.near, bucket };
  const dump = `pg_dump -Fd -j${JOBS} --compress=${compression}`;
  const script = `${dump} --file="$FOLDER"; cd "$FOLDER"; ${UPLOAD} --upload-file "{$(printf '%s,' * | sed 's/,$//')}" "$TARGET/"`;
  const env = { FOLDER: folder, TARGET: `${into.sink.endpoint}/${bucket}` };
  return {
    ...shell(place, name, `${dump}, then upload`, script, env),
    into,
    tidy: () => rm(folder, { recursive: true, force: true }),
  };
}

/** The server's share of any dump: what it takes to make text of all rows and send it to somebody who throws it away. */
function parallelCopy(place: Place): Contender {
  const script = `printf '%s\\n' $TABLES | xargs -P${JOBS} -I{} psql -Xqc 'COPY {} TO STDOUT' > /dev/null`;
  return shell(place, COPY, `${JOBS} sessions of COPY TO STDOUT`, script, { TABLES: place.tables.join(' ') });
}

/**
 * Nobody can be faster than the server makes the rows and zstd compresses them while no processor ever waits: the time for
 * which that would keep all processors busy, as a part of the time that pgark takes.
 */
function limit(atLeast: number): Target {
  return {
    label: `(server CPU of COPY + CPU of zstd) / processors, against ${OWN}`,
    ratio(round) {
      const [server, zstd] = [round.get(COPY)?.serverCpuS, round.get(COMPRESS)?.clientCpuS];
      if (server === undefined || zstd === undefined) return undefined;
      return quotient((server + zstd) / availableParallelism(), round.get(OWN)?.wallS);
    },
    bound: { atLeast },
  };
}
