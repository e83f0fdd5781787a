import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../common/log.ts';
import { passOnMessages } from './program-messages.ts';

function recorder(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    debug: (event, message) => void lines.push(`debug ${event} ${message}`),
    warning: (event, message) => void lines.push(`warning ${event} ${message}`),
  };
  return { logger, lines };
}

describe('what a program says on stderr', () => {
  test.each([
    [
      'dump',
      'pg_dump: warning: subscriptions not dumped because current user is not a superuser',
      'warning dump.warning subscriptions not dumped because current user is not a superuser',
    ],
    [
      'load',
      'psql:<stdin>:12: WARNING:  no privileges were granted for "t"',
      'warning load.warning no privileges were granted for "t"',
    ],
    ['load', 'WARNING:  "wal_level" is insufficient', 'warning load.warning "wal_level" is insufficient'],
    [
      'load',
      'psql:<stdin>:12: NOTICE:  a WARNING: of sorts',
      'debug load.message psql:<stdin>:12: NOTICE:  a WARNING: of sorts',
    ],
    ['load', 'psql:<stdin>:12: WARNUNG:  in anderer Sprache', 'warning load.warning in anderer Sprache'],
    ['load', 'ПРЕДУПРЕЖДЕНИЕ:  иначе', 'warning load.warning иначе'],
    ['load', 'DETAIL:  more of it', 'debug load.message DETAIL:  more of it'],
    [
      'load',
      'psql:<stdin>:12: ERROR:  syntax error at end of input',
      'debug load.message psql:<stdin>:12: ERROR:  syntax error at end of input',
    ],
    ['dump', 'pg_dump: last built-in OID is 16383', 'debug dump.message pg_dump: last built-in OID is 16383'],
  ] as const)('is passed on for what it is (%s: %s)', (subject, line, expected) => {
    const { logger, lines } = recorder();
    passOnMessages(logger, subject)(line);
    expect(lines).toEqual([expected]);
  });

  test('does not fill the log with warnings', () => {
    const { logger, lines } = recorder();
    const passOn = passOnMessages(logger, 'load');
    for (let count = 0; count < 1_000; count++) passOn('WARNING:  again');
    const warnings = lines.filter((line) => line.startsWith('warning '));
    expect(warnings).toHaveLength(21);
    expect(warnings.at(-1)).toContain('there are further warnings');
    expect(lines).toHaveLength(1_000);
  });
});
