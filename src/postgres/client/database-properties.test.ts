import { describe, expect, test } from 'vitest';
import { isForLoad } from './database-properties.ts';

describe('a database is loaded', () => {
  test.each([
    'TimeZone',
    'DateStyle',
    'lc_monetary',
    'default_text_search_config',
    'app.tenant',
    'app.request_timeout',
    'work_mem',
  ])('under its own %s, by which its content may be computed', (name) => {
    expect(isForLoad({ name })).toBe(true);
    expect(isForLoad({ role: 'reader', name })).toBe(false);
  });

  test.each([
    'default_transaction_read_only',
    'default_transaction_isolation',
    'transaction_timeout',
    'statement_timeout',
    'lock_timeout',
    'idle_in_transaction_session_timeout',
    'idle_session_timeout',
    'temp_file_limit',
    'session_preload_libraries',
    'local_preload_libraries',
    'role',
    'session_replication_role',
    'search_path',
    'default_tablespace',
    'array_nulls',
    'client_encoding',
    'lc_messages',
  ])('without its %s, which would stop or spoil it', (name) => {
    expect(isForLoad({ name })).toBe(false);
  });
});
