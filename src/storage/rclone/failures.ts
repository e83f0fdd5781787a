import { ProgramFailure } from '../../common/child-process.ts';
import type { ErrorCode } from '../../common/error-table.ts';
import { PgarkError } from '../../common/errors.ts';

/** A run of rclone, for messages. */
export interface RunDescription {
  /** Completes the sentence `cannot …`. */
  readonly doing: string;
  /** Last part of the name of the object that it is about; may be empty. */
  readonly subject: string;
}

interface Meaning {
  readonly words: RegExp;
  readonly code: ErrorCode;
  readonly hint?: string;
  /** Another attempt may end otherwise. */
  readonly transient?: true;
}

const CONFIG_HINT =
  'check with "rclone listremotes" and "rclone lsf REMOTE:", as the same user and with the same RCLONE_ variables';

/**
 * The words of rclone and of the stores behind it, in the order in which they are looked for: what is certain before what
 * is general. rclone's exit statuses say little more than "failed": https://rclone.org/docs/#exit-code .
 */
const meanings: readonly Meaning[] = [
  {
    words: /didn't find section in config file/,
    code: 'storage-config-invalid',
    hint: `the remote is not defined in rclone's configuration: write it there (rclone config), name its file (config_file, RCLONE_CONFIG), or set RCLONE_CONFIG_NAME_TYPE and the like; ${CONFIG_HINT}`,
  },
  {
    words:
      /decrypt configuration|[Ff]ailed to load config|config file.*(?:permission denied|is a directory)|didn't find backend called|[Cc]ouldn't find type/,
    code: 'storage-config-invalid',
    hint: `${CONFIG_HINT}; an encrypted configuration needs RCLONE_CONFIG_PASS`,
  },
  {
    words: /unknown (?:shorthand )?flag|unknown command/,
    code: 'store-unsupported',
    hint: 'this rclone is too old: install 1.60 or later',
  },
  {
    words:
      /NoSuchBucket|ContainerNotFound|[Bb]ucket(?: \S+)? (?:does not exist|doesn't exist|not found)|InvalidBucketName/,
    code: 'store-bucket-missing',
  },
  {
    words:
      /SignatureDoesNotMatch|InvalidAccessKeyId|InvalidToken|ExpiredToken|AuthorizationHeaderMalformed|AuthenticationFailed|NoCredentialProviders|invalid_grant|empty token found|oauth2: cannot fetch token|unable to authenticate|[Uu]nauthorized|invalid credentials|[Ll]ogin (?:incorrect|failed)|status code: 401|HTTP error 401|\b401 [A-Z]/,
    code: 'store-credentials-rejected',
    hint: `correct the remote's credentials in rclone's configuration (rclone config reconnect NAME: renews a token); ${CONFIG_HINT}`,
  },
  {
    words: /no space left|quota|QuotaExceeded|[Ii]nsufficient [Ss]torage|disk full|\b507 [A-Z]/i,
    code: 'store-full',
  },
  {
    words:
      /AccessDenied|[Aa]ccess denied|[Pp]ermission denied|[Ff]orbidden|read-only file system|[Ii]nsufficient.*permission|not permitted|status code: 403|HTTP error 403|\b403 [A-Z]/,
    code: 'store-access-denied',
    hint: 'let the remote’s user list, read, write, rename and delete below the path',
  },
  {
    words:
      /connection refused|no such host|i\/o timeout|[Tt]imed? ?out|network is unreachable|no route to host|connection reset|broken pipe|unexpected EOF|TLS handshake|x509|SlowDown|ServiceUnavailable|InternalError|RequestTimeout|[Tt]oo many requests|status code: (?:429|5\d\d)|HTTP error (?:429|5\d\d)|\b(?:429|50[0234]) [A-Z]/,
    code: 'store-unreachable',
    hint: 'check the network and the address in rclone’s configuration, then run the command again',
    transient: true,
  },
  {
    words: /directory not found|object not found|no such file or directory|file not found/,
    code: 'object-not-found',
  },
];

/** rclone's exit statuses that say more than that it failed. */
const statuses: Readonly<Record<number, Omit<Meaning, 'words'>>> = {
  3: { code: 'object-not-found' },
  4: { code: 'object-not-found' },
  5: { code: 'store-unreachable', transient: true },
};

const failed: Omit<Meaning, 'words'> = {
  code: 'store-failed',
  hint: 'the message carries rclone’s own words; try the same with rclone by hand',
};

/** `subject` is taken out first, where it stands as a word: an object's name may have such words. */
function meaningOf(failure: ProgramFailure, subject: string): Omit<Meaning, 'words'> {
  const all = failure.stderrLines.join('\n');
  const name = subject.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  const said = name === '' ? all : all.replace(new RegExp(`(?<![\\p{L}\\p{N}])${name}(?![\\p{L}\\p{N}])`, 'gu'), '');
  return meanings.find(({ words }) => words.test(said)) ?? statuses[failure.exitCode ?? -1] ?? failed;
}

/** Whether another run could end otherwise. What was killed was killed by somebody, or by a lack of memory. */
export function isTransient(error: unknown, { subject }: Pick<RunDescription, 'subject'>): boolean {
  return (
    error instanceof ProgramFailure && error.signalName === undefined && meaningOf(error, subject).transient === true
  );
}

const TIMESTAMP = /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /;
const DETAIL_CHARACTERS_MAX = 600;

/** rclone's last words, of several lines at times, without their time and without what may be a secret. */
export function lastWords(lines: readonly string[], secrets: readonly string[]): string {
  const start = lines.findLastIndex((line) => /Failed to |Fatal error|CRITICAL|ERROR/.test(line));
  const last = (start < 0 ? lines.slice(-2) : lines.slice(start)).map((line) => line.replace(TIMESTAMP, '').trim());
  const text = last
    .filter((line) => !line.startsWith('NOTICE'))
    .join(' ')
    .replace(/^Failed to \S+(?: with \d+ errors: last error was)?: /, '');
  return redact(text, secrets).slice(0, DETAIL_CHARACTERS_MAX);
}

/** Takes out known secrets, and of addresses the user, the password and the query, where signatures and tokens stand. */
function redact(text: string, secrets: readonly string[]): string {
  const known = secrets.reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text);
  return known
    .replace(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@"]*@/gi, '$1[redacted]@')
    .replace(/\?[^\s"]*=[^\s"]*/g, '?[redacted]');
}

/**
 * The failure of a run as a PgarkError: `cannot read the object "x": AccessDenied: … (rclone exited with 1)`. What is none
 * (an abort's reason, an error of a body, of pgark's own) is given back as it is. The cause is left out: it would
 * carry rclone's words as they were.
 */
export function rcloneError(error: unknown, { doing, subject }: RunDescription, secrets: readonly string[]): unknown {
  if (!(error instanceof ProgramFailure)) return error;
  const { code, hint } = meaningOf(error, subject);
  const words = lastWords(error.stderrLines, secrets);
  if (error.signalName !== undefined) {
    return new PgarkError('store-failed', `cannot ${doing}: rclone was killed by ${error.signalName}`, {
      hint: 'find out who killed it (the system’s log tells of a lack of memory), then run the command again',
    });
  }
  const how = error.exitCode === undefined ? 'rclone could not be run' : `rclone exited with ${error.exitCode}`;
  return new PgarkError(
    code,
    `cannot ${doing}: ${words === '' ? how : `${words} (${how})`}`,
    hint === undefined ? {} : { hint },
  );
}

export function rcloneMissing(): PgarkError {
  return new PgarkError('store-unsupported', 'rclone is not installed on this machine, or not in a folder of PATH', {
    hint: 'install it (Debian: apt-get install rclone; https://rclone.org/install/), or use a storage of type s3 or file',
  });
}
