/** Timeouts that end a session, or what it does, although all is well; each is known to some versions of PostgreSQL only. */
const TIMEOUTS = [
  'statement_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'transaction_timeout',
];

/**
 * Switches off, for the session, what ALTER ROLE, ALTER DATABASE or the server's configuration sets for applications: a
 * session that guards a backup is idle for long, and statements on large databases take hours. What the connection itself
 * asks for (`options`) stays.
 */
export const TIMEOUTS_OFF_SQL = `select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings
 where name in (${TIMEOUTS.map((name) => `'${name}'`).join(', ')}) and setting <> '0' and source <> 'client'`;

/** For tidying up, which need not wait for a standby: one that is gone may be what held up the work. */
export const NO_STANDBY_SQL = `SET synchronous_commit = 'local'`;
