import path from 'node:path';

/**
 * Who takes part. The scripts know: the server by PG* and $DATA (its data directory), the store by the variables of
 * each program and $CA_FILE, $BUCKET (a bucket of their own, empty at first), $SCRATCH (a folder of their own, empty at first), $JOBS,
 * $TARGET (a database that is not there yet) and $RESTORED (a directory that is not there yet). All run under `set -euo pipefail`.
 */
export interface Entrant {
  /** As `--only` knows it. */
  readonly name: string;
  /** What a person would type, or nearly so. */
  readonly label: string;
  /** `logical` is restored into a database of the same server, `physical` into a directory. */
  readonly kind: Kind;
  /** Programs that it needs beyond PostgreSQL's own and rclone. */
  readonly programs: readonly string[];
  /** Can it be told how many sessions or processes to use? */
  readonly hasJobs: boolean;
  /** Makes what a user has set up once; not measured. */
  readonly prepare?: string;
  readonly backup: string;
  /** What the disk is to lose before the restore, as a host that is lost loses it; not measured. */
  readonly between?: string;
  readonly restore: string;
  readonly env?: Readonly<Record<string, string>>;
}

export type Kind = 'logical' | 'physical';

/** Names of pgark's own begin so. */
const OWN = 'pgark';

export function isOwn(name: string): boolean {
  return name.startsWith(OWN);
}

const PGARK = `"${path.resolve(import.meta.dirname, '../../bin/pgark')}"`;

function pgark(name: string, label: string, options: string, env: Readonly<Record<string, string>> = {}): Entrant {
  const hasJobs = options.includes('--jobs');
  return {
    name,
    label,
    kind: 'logical',
    programs: [],
    hasJobs,
    backup: `S3_BUCKET=$BUCKET ${PGARK} backup --no-prune ${options}`,
    restore: `S3_BUCKET=$BUCKET ${PGARK} restore latest --to-db "$TARGET" --no-analyze ${hasJobs ? '--jobs $JOBS' : ''}`,
    env,
  };
}

const PSQL = 'psql -Xq -v ON_ERROR_STOP=1';
const PG_RESTORE = 'pg_restore --exit-on-error --dbname="$TARGET"';

const logical: readonly Entrant[] = [
  {
    name: 'gzip',
    label: 'pg_dump | gzip | rclone rcat',
    kind: 'logical',
    programs: ['gzip'],
    hasJobs: false,
    backup: 'pg_dump | gzip | rclone rcat store:$BUCKET/dump.sql.gz',
    restore: `createdb "$TARGET"; rclone cat store:$BUCKET/dump.sql.gz | gunzip | ${PSQL} "$TARGET" > /dev/null`,
  },
  {
    name: 'custom',
    label: 'pg_dump -Fc | rclone rcat',
    kind: 'logical',
    programs: [],
    hasJobs: false,
    backup: 'pg_dump -Fc | rclone rcat store:$BUCKET/dump',
    restore: `createdb "$TARGET"; rclone cat store:$BUCKET/dump | ${PG_RESTORE}`,
  },
  {
    name: 'directory',
    label: 'pg_dump -Fd -j, rclone copy',
    kind: 'logical',
    programs: [],
    hasJobs: true,
    backup: 'pg_dump -Fd -j$JOBS -f "$SCRATCH/dump"; rclone copy "$SCRATCH/dump" store:$BUCKET/dump',
    between: 'rm -r "$SCRATCH/dump"',
    restore: `createdb "$TARGET"; rclone copy store:$BUCKET/dump "$SCRATCH/dump"; ${PG_RESTORE} -j$JOBS "$SCRATCH/dump"`,
  },
  pgark('pgark-plain', 'pgark backup', ''),
  pgark('pgark-zstd', 'pgark backup (zstd)', '', { BACKUP_COMPRESSION: 'zstd' }),
  pgark('pgark-archive', 'pgark backup --format directory', '--format directory --jobs $JOBS'),
];

const BARMAN = 'barman -c "$SCRATCH/barman.conf" -q';
const BARMAN_CLOUD = 's3://$BUCKET/ bench';

function barmanCloud(name: string, option: string): Entrant {
  return {
    name,
    label: `barman-cloud-backup ${option}`.trim(),
    kind: 'physical',
    programs: ['barman-cloud-backup', 'barman-cloud-restore'],
    hasJobs: true,
    backup: `export AWS_CA_BUNDLE=$CA_FILE; barman-cloud-backup ${option} --endpoint-url "$S3_ENDPOINT" --immediate-checkpoint -J $JOBS ${BARMAN_CLOUD}`,
    restore: `export AWS_CA_BUNDLE=$CA_FILE; mkdir -m 700 "$RESTORED"; barman-cloud-restore --endpoint-url "$S3_ENDPOINT" ${BARMAN_CLOUD} "$(barman-cloud-backup-list --endpoint-url "$S3_ENDPOINT" ${BARMAN_CLOUD} | awk 'END { print $1 }')" "$RESTORED"`,
  };
}

const physical: readonly Entrant[] = [
  {
    name: 'basebackup',
    label: 'pg_basebackup | zstd | rclone rcat',
    kind: 'physical',
    programs: ['zstd'],
    hasJobs: false,
    backup: 'pg_basebackup -Ft -D - -X fetch -c fast | zstd -T0 -q | rclone rcat store:$BUCKET/base.tar.zst',
    restore: 'mkdir -m 700 "$RESTORED"; rclone cat store:$BUCKET/base.tar.zst | zstd -dcq | tar -xC "$RESTORED"',
  },
  {
    name: 'pgbackrest',
    label: 'pgbackrest backup (zst)',
    kind: 'physical',
    programs: ['pgbackrest'],
    hasJobs: true,
    prepare: 'PGBACKREST_REPO1_S3_BUCKET=$BUCKET pgbackrest --no-online stanza-create',
    backup: 'PGBACKREST_REPO1_S3_BUCKET=$BUCKET pgbackrest --type=full --process-max=$JOBS backup',
    restore: `mkdir -m 700 "$RESTORED"; PGBACKREST_REPO1_S3_BUCKET=$BUCKET pgbackrest --pg1-path="$RESTORED" --process-max=$JOBS restore`,
    env: {
      PGBACKREST_STANZA: 'bench',
      PGBACKREST_PG1_USER: 'postgres',
      PGBACKREST_COMPRESS_TYPE: 'zst',
      // Nobody here brings an archive of WAL.
      PGBACKREST_ARCHIVE_CHECK: 'n',
      PGBACKREST_START_FAST: 'y',
      PGBACKREST_REPO1_PATH: '/',
      PGBACKREST_LOG_LEVEL_CONSOLE: 'warn',
      PGBACKREST_LOG_LEVEL_FILE: 'off',
    },
  },
  barmanCloud('barman-cloud', ''),
  barmanCloud('barman-cloud-gzip', '--gzip'),
  {
    name: 'barman',
    label: 'barman backup, rclone copy',
    kind: 'physical',
    programs: ['barman', 'rsync'],
    hasJobs: false,
    prepare: `mkdir "$SCRATCH/home" "$ARCHIVE"; chmod 777 "$ARCHIVE"; cat > "$SCRATCH/barman.conf" <<END
[barman]
barman_user = $(id -un)
barman_home = $SCRATCH/home
log_file = $SCRATCH/barman.log
[bench]
description = bench
conninfo = host=$PGHOST port=$PGPORT user=$PGUSER password=$PGPASSWORD dbname=postgres
streaming_conninfo = host=$PGHOST port=$PGPORT user=$PGUSER password=$PGPASSWORD dbname=postgres
backup_method = postgres
immediate_checkpoint = true
archiver = on
incoming_wals_directory = $ARCHIVE
END
${BARMAN} switch-wal --force --archive bench`,
    backup: `${BARMAN} backup bench; rclone copy "$SCRATCH/home/bench/base" store:$BUCKET/base`,
    between: 'rm -r "$SCRATCH"/home/bench/base/* "$ARCHIVE"',
    restore: `rclone copy store:$BUCKET/base "$SCRATCH/home/bench/base"; ${BARMAN} recover bench latest "$RESTORED"`,
  },
  {
    ...pgark('pgark-physical', 'pgark backup --format physical', '--format physical', { BACKUP_COMPRESSION: 'zstd' }),
    kind: 'physical',
    restore: `S3_BUCKET=$BUCKET ${PGARK} restore latest --to-dir "$RESTORED" --immediate`,
  },
];

/** In the order in which they run in each round. */
export const entrants: readonly Entrant[] = [...logical, ...physical];
