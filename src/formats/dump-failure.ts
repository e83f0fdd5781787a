import type { ProgramFailure } from '../common/child-process.ts';
import type { ErrorCode } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';
import { type ConnectionParameters, describeConnection } from '../postgres/client/connection-parameters.ts';
import { largeObjectHint } from '../postgres/client/large-objects.ts';

/** For a server whose table of locks is full. */
export const LOCK_ROOM_HINT =
  'a dump locks every table of the database: raise max_locks_per_transaction on the server, and restart it';

interface Explanation {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly hint?: string;
}

/** For whoever waits for a lock on a table in vain. */
export const LOCKED_TABLE_HINT =
  'another session holds a lock on a table, such as a running ALTER TABLE or VACUUM FULL (pg_locks and pg_stat_activity show it): back up when it has ended';

const EXPLANATIONS: readonly Explanation[] = [
  {
    pattern: /row-level security/,
    code: 'postgres-privileges',
    hint: 'give the role BYPASSRLS, or back up with the role that owns the table',
  },
  {
    pattern: /permission denied for large object/,
    code: 'postgres-privileges',
    hint: largeObjectHint('OID', 'the role'),
  },
  { pattern: /permission denied/, code: 'postgres-privileges' },
  {
    pattern: /password authentication failed|no password supplied|no pg_hba\.conf entry/,
    code: 'postgres-auth-failed',
  },
  {
    pattern: /server version mismatch/,
    code: 'client-missing',
  },
  {
    pattern:
      /server closed the connection|terminating connection|connection to server .* failed|could not connect|the database system is/,
    code: 'postgres-unreachable',
    hint: 'the server went away during the dump; see its log, and run the backup again when it is back',
  },
  {
    // --lock-wait-timeout is the server's statement_timeout while pg_dump locks its tables.
    pattern: /canceling statement due to (lock|statement) timeout[^]*LOCK TABLE|could not obtain lock/,
    code: 'dump-failed',
    hint: LOCKED_TABLE_HINT,
  },
  { pattern: /out of shared memory/, code: 'dump-failed', hint: LOCK_ROOM_HINT },
  {
    pattern: /conflict with recovery/,
    code: 'dump-failed',
    hint: 'on a standby: raise max_standby_streaming_delay, or set hot_standby_feedback = on',
  },
];

const KILLED: Omit<Explanation, 'pattern'> = {
  code: 'dump-failed',
  hint: 'somebody or something ended pg_dump, often the kernel for want of memory (see dmesg); run the backup again',
};

/** Why pg_dump failed, in one sentence and with a hint. */
export function explainDumpFailure(failure: ProgramFailure, connection: ConnectionParameters): PgarkError {
  const explanation = explanationOf(failure);
  return new PgarkError(
    explanation?.code ?? 'dump-failed',
    `the dump of ${describeConnection(connection)} failed: ${failure.message}`,
    {
      cause: failure,
      ...(explanation?.hint === undefined ? {} : { hint: explanation.hint }),
    },
  );
}

/** Whether the reason is known, in English or by the signal that ended pg_dump. */
export function isUnderstood(failure: ProgramFailure): boolean {
  return explanationOf(failure) !== undefined;
}

function explanationOf({ signalName, stderrLines }: ProgramFailure): Omit<Explanation, 'pattern'> | undefined {
  if (signalName !== undefined) return KILLED;
  const words = stderrLines.join('\n');
  return EXPLANATIONS.find(({ pattern }) => pattern.test(words));
}
