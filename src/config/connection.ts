import { Secret } from '../common/secret.ts';
import { didYouMean } from './suggest.ts';

export const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
type SslMode = (typeof sslModes)[number];

/** How to reach one database. Plain data; the connection layer reads passfiles and certificates. */
export interface ConnectionConfig {
  /** Name, address (IPv6 without brackets), or the directory of a Unix socket, which begins with `/` or `@`. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password?: Secret;
  readonly database: string;
  readonly sslMode: SslMode;
  /** Paths, as libpq's parameters of the same names; `system` stands for the operating system's certificates. */
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly passFile?: string;
  /** Command-line options for the server: `-c search_path=x`. */
  readonly options?: string;
  /** 0 waits without end. */
  readonly connectTimeoutSeconds?: number;
  /** Further libpq parameters, by libpq's names, for the client programs. */
  readonly parameters?: Readonly<Record<string, string>>;
}

/** What one source of settings says of a connection. */
export type ConnectionParts = Partial<ConnectionConfig>;

export const DEFAULT_PORT = 5432;
export const DEFAULT_SSL_MODE: SslMode = 'prefer';
/** What no connection can do without. */
export const requiredParts = ['host', 'user', 'database'] as const;

/** Parameters that only libpq's own programs understand; handed on as they are. */
const PASSED_ON = new Set([
  'application_name',
  'channel_binding',
  'gssencmode',
  'gsslib',
  'keepalives',
  'keepalives_count',
  'keepalives_idle',
  'keepalives_interval',
  'krbsrvname',
  'requirepeer',
  'require_auth',
  'sslcompression',
  'sslcrl',
  'sslcrldir',
  'sslnegotiation',
  'sslsni',
  'ssl_max_protocol_version',
  'ssl_min_protocol_version',
  'target_session_attrs',
  'tcp_user_timeout',
]);

const OWN = [
  'host',
  'port',
  'dbname',
  'user',
  'password',
  'passfile',
  'sslmode',
  'ssl',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'options',
  'connect_timeout',
];

/** Says what is wrong with a connection string. The message never quotes the part that may hold a password. */
export class ConnectionStringError extends Error {
  override readonly name = 'ConnectionStringError';
}

/**
 * Reads a connection URI as libpq does: `postgres://user:password@host:port/database?parameter=value`, percent-encoded,
 * IPv6 in brackets, a Unix socket as `?host=/dir` or `%2Fdir`. Several hosts are refused: a backup reads from one known
 * server. Source: PostgreSQL documentation, "Connection Strings" (34.1.1) and "Parameter Key Words" (34.1.2).
 * Throws ConnectionStringError.
 */
export function parseConnectionString(text: string): ConnectionParts {
  const scheme = /^postgres(ql)?:\/\//.exec(text)?.[0];
  if (scheme === undefined) {
    throw new ConnectionStringError('it does not begin with postgres:// or postgresql://');
  }
  const rest = text.slice(scheme.length);
  if (/\s/.test(rest)) throw new ConnectionStringError('it contains white space; write a space as %20');
  const userinfo = /^([^@/]*)@/.exec(rest)?.[1];
  const afterUser = userinfo === undefined ? rest : rest.slice(userinfo.length + 1);
  if ((userinfo === undefined ? afterUser : afterUser.replace(/\?.*$/s, '')).includes('@')) {
    throw new ConnectionStringError(
      'it has an @ in an unexpected place; in a password write @ as %40, / as %2F, ? as %3F and # as %23',
    );
  }
  const [, authority = '', path, query] = /^([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(afterUser) ?? [];
  const parts: Record<string, string> = {};
  if (userinfo !== undefined) {
    const colon = userinfo.indexOf(':');
    parts['user'] = decode(colon < 0 ? userinfo : userinfo.slice(0, colon), 'user');
    if (colon >= 0) parts['password'] = decode(userinfo.slice(colon + 1), 'password');
  }
  Object.assign(parts, parseAuthority(authority));
  if (path !== undefined) parts['dbname'] = decode(path, 'database');
  for (const [name, value] of parseQuery(query)) parts[name] = value;
  return toConnectionParts(parts);
}

function parseAuthority(authority: string): Record<string, string> {
  if (authority.includes(',')) {
    throw new ConnectionStringError('it names several hosts; name the one server to read from');
  }
  const match = /^(\[[0-9A-Fa-f:.%]+\]|[^:[\]]*)(?::(.*))?$/s.exec(authority);
  if (!match) throw new ConnectionStringError('its host is not valid; write an IPv6 address in brackets');
  const host = match[1] ?? '';
  return {
    host: host.startsWith('[') ? host.slice(1, -1) : decode(host, 'host'),
    port: decode(match[2] ?? '', 'port'),
  };
}

function parseQuery(query: string | undefined): readonly (readonly [string, string])[] {
  if (query === undefined || query === '') return [];
  const seen = new Set<string>();
  return query.split('&').map((pair) => {
    const equals = pair.indexOf('=');
    if (equals <= 0) throw new ConnectionStringError('a parameter after the ? is not written name=value');
    const name = decode(pair.slice(0, equals), 'parameter');
    if (!OWN.includes(name) && !PASSED_ON.has(name)) {
      throw new ConnectionStringError(`its parameter "${name}" is unknown${didYouMean(name, [...OWN, ...PASSED_ON])}`);
    }
    if (seen.has(name)) throw new ConnectionStringError(`its parameter "${name}" is given twice`);
    seen.add(name);
    return [name, decode(pair.slice(equals + 1), name)];
  });
}

/** libpq's parameters as a connection's parts. An empty value counts as unsaid, as it does in libpq. */
function toConnectionParts(raw: Readonly<Record<string, string>>): ConnectionParts {
  const said = Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== ''));
  const host = said['host'];
  if (host?.includes(',')) {
    throw new ConnectionStringError('it names several hosts; name the one server to read from');
  }
  const timeout = said['connect_timeout'];
  if (timeout !== undefined && !/^\d{1,6}$/.test(timeout)) {
    throw new ConnectionStringError('its connect_timeout is no whole number of seconds');
  }
  const sslMode = toSslMode(said);
  const parameters = Object.entries(said).filter(([name]) => PASSED_ON.has(name));
  return {
    ...(host !== undefined && { host }),
    ...(said['port'] !== undefined && { port: parsePort(said['port']) }),
    ...(said['user'] !== undefined && { user: said['user'] }),
    ...(said['password'] !== undefined && { password: new Secret(said['password']) }),
    ...(said['dbname'] !== undefined && { database: said['dbname'] }),
    ...(sslMode !== undefined && { sslMode }),
    ...(said['sslrootcert'] !== undefined && { sslRootCert: said['sslrootcert'] }),
    ...(said['sslcert'] !== undefined && { sslCert: said['sslcert'] }),
    ...(said['sslkey'] !== undefined && { sslKey: said['sslkey'] }),
    ...(said['passfile'] !== undefined && { passFile: said['passfile'] }),
    ...(said['options'] !== undefined && { options: said['options'] }),
    ...(timeout !== undefined && { connectTimeoutSeconds: Number(timeout) }),
    ...(parameters.length > 0 && { parameters: Object.fromEntries(parameters) }),
  };
}

function toSslMode(said: Readonly<Record<string, string>>): SslMode | undefined {
  // JDBC's spelling, which libpq translates too.
  if (said['ssl'] === 'true') return 'require';
  if (said['ssl'] !== undefined) throw new ConnectionStringError('its parameter ssl can only be true; use sslmode');
  const mode = said['sslmode'];
  if (mode === undefined) return undefined;
  const known = sslModes.find((candidate) => candidate === mode);
  if (known === undefined) throw new ConnectionStringError(`its sslmode is none of ${sslModes.join(', ')}`);
  return known;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535) {
    throw new ConnectionStringError(
      'its port is no number from 1 to 65535 (or the password holds a character that must be percent-encoded)',
    );
  }
  return port;
}

function decode(text: string, what: string): string {
  try {
    const value = decodeURIComponent(text);
    if (value.includes('\0')) throw new ConnectionStringError(`its ${what} contains a zero byte`);
    return value;
  } catch (error) {
    if (error instanceof ConnectionStringError) throw error;
    throw new ConnectionStringError(`its ${what} has a % that begins no percent-encoded character; write % as %25`);
  }
}
