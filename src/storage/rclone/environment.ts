import { accessSync, constants } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { MIB } from '../../common/bytes.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * What rclone and the clients in it read besides `RCLONE_…`: where home, temporary files, proxies and certificates are, and
 * the clouds' own variables, by which remotes with `env_auth` sign in. The passwords of databases and the keys of backups
 * are none of rclone's business.
 */
const PASSED =
  /^(?:PATH|HOME|USER|LOGNAME|TMPDIR|XDG_[A-Z]+_HOME|(?:HTTPS?|NO|ALL)_PROXY|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR)|SSH_AUTH_SOCK|KRB5\w+|GODEBUG|(?:AWS|AZURE|ARM|GOOGLE|GCE|OS|ST|OCI|ECS|IDENTITY|MSI)_\w+)$/;

/** With it, the S3 client of older versions does not start at all; rclone's own name for it is RCLONE_CA_CERT. */
const BREAKS_RCLONE = new Set(['AWS_CA_BUNDLE']);

/**
 * Every option of rclone can be set by a variable. These would change what is listed (an object not listed is a backup
 * lost), written or moved, make rclone ask questions, or make it write headers with credentials into its log.
 */
const CHANGES_MEANING =
  /^RCLONE_(?:AUTO_CONFIRM|BACKUP_DIR|CHECKSUM|CHECK_FIRST|COMPARE_DEST|COPY_DEST|COUNT|CPUPROFILE|CUTOFF_MODE|DELETE|DIRS_ONLY|DISCARD|DRY_RUN|DUMP|ENCRYPTED|ERROR_ON_NO_TRANSFER|EXCLUDE|FILES_FROM|FILES_ONLY|FILTER|HASH$|HASH_|HEAD$|HUMAN_READABLE|IGNORE|IMMUTABLE|INCLUDE|INPLACE|INTERACTIVE|LOCALTIME|LOG_|MAX_AGE|MAX_BACKLOG|MAX_DELETE|MAX_DEPTH|MAX_DURATION|MAX_SIZE|MAX_TRANSFER|MEMPROFILE|METADATA|MIN_AGE|MIN_SIZE|NAME_TRANSFORM|NO_CHECK_DEST|NO_CREATE|NO_MIMETYPE|NO_MODTIME|NO_TRAVERSE|NO_UPDATE_MODTIME|OFFSET|ORIGINAL|PARTIAL_SUFFIX|PROGRESS|QUIET|RC$|RC_|RECURSIVE|REFRESH_TIMES|RETRIES|SEPARATOR|SIZE|STAT$|STATS|STREAMING_UPLOAD_CUTOFF|SUFFIX|SYSLOG|TAIL|TIMESTAMP|TRACK_RENAMES|UPDATE|USE_JSON_LOG|USE_SERVER_MODTIME|VERBOSE)/;

/** Of pgark's own; they win over the caller's. */
const FIXED = {
  LC_ALL: 'C.UTF-8',
  TZ: 'UTC',
  RCLONE_ASK_PASSWORD: 'false',
  RCLONE_LOG_LEVEL: 'NOTICE',
  RCLONE_STATS: '0',
  // The store's own policy repeats what can be repeated.
  RCLONE_RETRIES: '1',
} as const;

/** Where the caller says nothing. pgark never makes buckets, and asks for no right that it can do without. */
const DEFAULTS = {
  RCLONE_CONTIMEOUT: '20s',
  RCLONE_S3_NO_CHECK_BUCKET: 'true',
  RCLONE_GCS_NO_CHECK_BUCKET: 'true',
  RCLONE_OOS_NO_CHECK_BUCKET: 'true',
  RCLONE_AZUREBLOB_NO_CHECK_CONTAINER: 'true',
} as const;

export function rcloneEnvironment(env: Environment): Record<string, string> {
  const passed = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined &&
      !BREAKS_RCLONE.has(entry[0]) &&
      (entry[0].startsWith('RCLONE_') ? !CHANGES_MEANING.test(entry[0]) : PASSED.test(entry[0])),
  );
  return { ...DEFAULTS, ...Object.fromEntries(passed), ...FIXED };
}

/** Parts that one upload may have, where rclone cuts a stream of unknown length into equal ones held in memory. */
const PARTS_MAX: Readonly<Record<string, number>> = { S3: 10_000, OOS: 10_000, QINGSTOR: 10_000, AZUREBLOB: 50_000 };
const CHUNK_BYTES_MIN = 16 * MIB;
/** Without an estimate: 312 GiB on S3, for 128 MiB of memory. rclone's own default ends at 48 GiB, after hours. */
const CHUNK_BYTES_UNKNOWN = 32 * MIB;

/** Part sizes with which a stream up to the estimate fits into one upload; the caller's own sizes win. */
export function chunkSizes(bytesEstimateMax: number | undefined, env: Environment): Record<string, string> {
  const sizes = Object.entries(PARTS_MAX).flatMap(([backend, partsMax]) => {
    const name = `RCLONE_${backend}_CHUNK_SIZE`;
    if (env[name] !== undefined) return [];
    // A tenth to spare: an estimate of a compressed size is one.
    const needed = bytesEstimateMax === undefined ? CHUNK_BYTES_UNKNOWN : (bytesEstimateMax * 1.1) / partsMax;
    return [[name, `${Math.ceil(Math.max(CHUNK_BYTES_MIN, needed) / MIB)}M`] as const];
  });
  return Object.fromEntries(sizes);
}

/** Values that must not be seen in a message, whatever a server answers: those of variables that hold secrets. */
export function secretsOf(env: Environment): string[] {
  return Object.entries(env).flatMap(([name, value]) =>
    value !== undefined && value.length >= 6 && /PASS|SECRET|KEY|TOKEN|SAS|CREDENTIAL|AUTH|BEARER/.test(name)
      ? [value]
      : [],
  );
}

/** The program's path, looked for in the absolute folders of PATH; undefined if it is in none of them. */
export function findRclone(env: Environment): string | undefined {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(isAbsolute);
  return folders.map((folder) => join(folder, 'rclone')).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
