import type { Secret } from '../../common/secret.ts';

/** libpq's sslmode (https://www.postgresql.org/docs/current/libpq-ssl.html). */
export type SslMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';

/** Where and as whom to connect; the parts of a libpq connection string that pgark uses. */
export interface ConnectionParameters {
  /** A name, an address, or the absolute path of the directory that holds the Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password?: Secret | undefined;
  readonly database: string;
  readonly sslMode: SslMode;
  /** Paths, as libpq's parameters of the same names. */
  readonly sslRootCert?: string | undefined;
  readonly sslCert?: string | undefined;
  readonly sslKey?: string | undefined;
  readonly passFile?: string | undefined;
  /** The role that sessions work as once they have logged in (`SET ROLE`). Default: the user. */
  readonly role?: string | undefined;
  /** Command-line options for the server (`-c statement_timeout=0`). */
  readonly options?: string | undefined;
  readonly connectTimeoutSeconds?: number | undefined;
  /** Further libpq parameters by libpq's names, for the client programs; those without a variable there have no effect. */
  readonly parameters?: Readonly<Record<string, string>> | undefined;
}

/** libpq's parameters and variables (https://www.postgresql.org/docs/current/libpq-envars.html). */
const PARAMETER_VARIABLES: Readonly<Record<string, string>> = {
  channel_binding: 'PGCHANNELBINDING',
  gssencmode: 'PGGSSENCMODE',
  gsslib: 'PGGSSLIB',
  krbsrvname: 'PGKRBSRVNAME',
  requirepeer: 'PGREQUIREPEER',
  require_auth: 'PGREQUIREAUTH',
  sslcompression: 'PGSSLCOMPRESSION',
  sslcrl: 'PGSSLCRL',
  sslcrldir: 'PGSSLCRLDIR',
  sslnegotiation: 'PGSSLNEGOTIATION',
  sslsni: 'PGSSLSNI',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  ssl_max_protocol_version: 'PGSSLMAXPROTOCOLVERSION',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
};

const CONNECT_TIMEOUT_SECONDS = 15;

export function connectTimeoutOf(parameters: ConnectionParameters): number {
  return parameters.connectTimeoutSeconds ?? CONNECT_TIMEOUT_SECONDS;
}

/** Whose rights a session has. */
export function actingRole({ user, role }: Pick<ConnectionParameters, 'user' | 'role'>): string {
  return role ?? user;
}

/** `user@host:5432/database`, without the password: for messages. */
export function describeConnection(parameters: ConnectionParameters): string {
  return `${parameters.user}@${parameters.host}:${parameters.port}/${parameters.database}`;
}

/**
 * The environment of a libpq program, so that neither the password nor a database name that looks like a connection
 * string ever stands in its arguments. Starts from next to nothing of our own environment.
 */
export function libpqEnvironment(parameters: ConnectionParameters, applicationName: string): Record<string, string> {
  const further = Object.entries(parameters.parameters ?? {}).flatMap(([name, value]) => {
    const variable = PARAMETER_VARIABLES[name];
    return variable === undefined ? [] : [[variable, value] as const];
  });
  const environment: Record<string, string | undefined> = {
    ...Object.fromEntries(further),
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    TMPDIR: process.env.TMPDIR,
    TZ: process.env.TZ,
    // Messages in English, so that they can be classified and looked up.
    LC_ALL: 'C.UTF-8',
    PGHOST: parameters.host,
    PGPORT: String(parameters.port),
    PGUSER: parameters.user,
    PGPASSWORD: parameters.password?.reveal(),
    PGDATABASE: parameters.database,
    PGSSLMODE: parameters.sslMode,
    PGSSLROOTCERT: parameters.sslRootCert,
    PGSSLCERT: parameters.sslCert,
    PGSSLKEY: parameters.sslKey,
    PGPASSFILE: parameters.passFile,
    PGOPTIONS: parameters.options,
    PGCONNECT_TIMEOUT: String(connectTimeoutOf(parameters)),
    PGAPPNAME: applicationName,
  };
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
