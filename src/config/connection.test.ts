import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Secret } from '../common/secret.ts';
import { ConnectionStringError, parseConnectionString } from './connection.ts';

/** The parts with the password in the open. */
function read(text: string): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(parseConnectionString(text)).map(([key, value]) => [
      key,
      value instanceof Secret ? value.reveal() : value,
    ]),
  );
}

describe('connection URLs', () => {
  test.each<[string, Record<string, unknown>]>([
    ['postgresql://', {}],
    ['postgresql://localhost', { host: 'localhost' }],
    ['postgresql://localhost:5433', { host: 'localhost', port: 5433 }],
    ['postgres://localhost/mydb', { host: 'localhost', database: 'mydb' }],
    ['postgresql://user@localhost', { user: 'user', host: 'localhost' }],
    ['postgresql://user:secret@localhost', { user: 'user', password: 'secret', host: 'localhost' }],
    ['postgresql://user:@localhost', { user: 'user', host: 'localhost' }],
    ['postgresql:///mydb?host=localhost&port=5433', { database: 'mydb', host: 'localhost', port: 5433 }],
    ['postgresql://[2001:db8::1234]:5433/database', { host: '2001:db8::1234', port: 5433, database: 'database' }],
    ['postgresql:///dbname?host=/var/lib/postgresql', { database: 'dbname', host: '/var/lib/postgresql' }],
    ['postgresql://%2Fvar%2Flib%2Fpostgresql/dbname', { host: '/var/lib/postgresql', database: 'dbname' }],
    ['postgres://u:p%40ss%2Fw%25@h/d%20b', { user: 'u', password: 'p@ss/w%', host: 'h', database: 'd b' }],
    ['postgres://u:p?x#y@h/d', { user: 'u', password: 'p?x#y', host: 'h', database: 'd' }],
    ['postgres://u@h/d?user=other', { user: 'other', host: 'h', database: 'd' }],
    [
      'postgres://h/d?sslmode=verify-full&sslrootcert=%2Fca.pem',
      { host: 'h', database: 'd', sslMode: 'verify-full', sslRootCert: '/ca.pem' },
    ],
    ['postgres://h/d?ssl=true', { host: 'h', database: 'd', sslMode: 'require' }],
    [
      'postgres://h/d?options=-c%20geqo%3Doff&connect_timeout=10',
      { host: 'h', database: 'd', options: '-c geqo=off', connectTimeoutSeconds: 10 },
    ],
    [
      'postgres://h/d?channel_binding=require&application_name=x',
      { host: 'h', database: 'd', parameters: { channel_binding: 'require', application_name: 'x' } },
    ],
  ])('%s is read as libpq reads it', (text, parts) => {
    expect(read(text)).toEqual(parts);
  });

  test.each([
    ['mysql://h/d', /does not begin with postgres:\/\//],
    ['host=h dbname=d', /does not begin with postgres:\/\//],
    ['postgres://h:0/d', /port is no number/],
    ['postgres://h:99999/d', /port is no number/],
    ['postgres://a,b/d', /several hosts/],
    ['postgres:///d?host=a,b', /several hosts/],
    ['postgres://h/d?sslmod=require', /"sslmod" is unknown; did you mean "sslmode"\?/],
    ['postgres://h/d?sslmode=on', /sslmode is none of disable/],
    ['postgres://h/d?port=1&port=2', /"port" is given twice/],
    ['postgres://h/d?connect_timeout=soon', /connect_timeout is no whole number/],
    ['postgres://h/d%zz', /database has a %/],
    ['postgres://h/d%00', /zero byte/],
    ['postgres://u:p w@h/d', /white space/],
    ['postgres://[::1/d', /IPv6 address in brackets/],
  ])('%s is refused with a reason', (text, reason) => {
    expect(() => parseConnectionString(text)).toThrow(reason);
  });

  test('a password that was not percent-encoded is never in the message', () => {
    for (const text of [
      'postgres://u:my@hunter@h/d',
      'postgres://u:my/hunter@h/d',
      'postgres://u:12/hunter?hunter=1@h/d',
      'postgres://u:hunter%@h/d',
    ]) {
      expect(() => parseConnectionString(text)).toThrow(ConnectionStringError);
      expect(() => parseConnectionString(text)).not.toThrow(/hunter/);
    }
  });

  test('every user, password, host and database survives its percent-encoding', () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(
        name,
        name,
        name.filter((host) => !host.includes(',')),
        name,
        fc.integer({ min: 1, max: 65_535 }),
        (user, password, host, database, port) => {
          const [u, p, h, d] = [user, password, host, database].map(encodeURIComponent);
          expect(read(`postgres://${u}:${p}@${h}:${port}/${d}`)).toEqual({ user, password, host, port, database });
        },
      ),
    );
  });
});
