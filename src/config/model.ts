import type { z } from 'zod';
import type { PgarkError } from '../common/errors.ts';
import type { Secret } from '../common/secret.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import type { ConnectionConfig } from './connection.ts';
import type { Origins } from './origins.ts';
import type { Schedule } from './schedule.ts';
import type { s3Providers } from './schema.ts';
import type {
  drillSection,
  eventNames,
  expectSection,
  hooksSection,
  verifySection,
  walSection,
} from './schema-daemon.ts';

/** Everything that pgark is told, checked and with its defaults. Made once, by `loadConfig`; plain values only. */
export interface Config {
  readonly source: 'environment' | { readonly file: string };
  /** IANA name; schedules are meant in it. */
  readonly timezone: string;
  readonly storages: ReadonlyMap<string, StorageConfig>;
  readonly databases: ReadonlyMap<string, SourceConfig>;
  readonly encryption: ReadonlyMap<string, EncryptionConfig>;
  readonly retention: ReadonlyMap<string, RetentionConfig>;
  readonly notifications: ReadonlyMap<string, NotificationConfig>;
  /** Every identity and passphrase that was given: a restore tries them. */
  readonly decryptionKeys: DecryptionKeys;
  readonly server: ServerConfig;
  readonly log: LogConfig;
  /** Absent: none are sent. */
  readonly traces?: TracesConfig;
  readonly bandwidthBytesPerSecond?: number;
  /** Jobs that may run at once. */
  readonly concurrency: number;
  /** How a scheduled run that failed is tried again. */
  readonly retry: RetryConfig;
  readonly leaseTermMs: number;
  /** Sentences for the log, at most one of each kind: names that were ignored. */
  readonly warnings: readonly string[];
  /** What is wrong with, or missing of, parts that were not asked for and are absent therefore. */
  readonly leftOut?: PgarkError;
  readonly origins: Origins;
}

/** Retries after the first try; the wait doubles from `delayMs` up to `delayMsMax`. */
export interface RetryConfig {
  readonly retriesMax: number;
  readonly delayMs: number;
  readonly delayMsMax: number;
}

interface StorageCommon {
  readonly name: string;
  readonly retry: RetryConfig;
  /** What pgark should hold there at most: watched, not enforced. */
  readonly maxSizeBytes?: number;
}

interface FileStorageConfig extends StorageCommon {
  readonly type: 'file';
  /** Absolute. */
  readonly path: string;
}

export type S3Provider = (typeof s3Providers)[number];

export type S3Credentials =
  | {
      readonly kind: 'keys';
      readonly accessKeyId: Secret;
      readonly secretAccessKey: Secret;
      readonly sessionToken?: Secret;
    }
  /** The AWS tools' own search: variables, profile, web identity, instance role; asked again for each request. */
  | { readonly kind: 'default-chain' };

export interface S3StorageConfig extends StorageCommon {
  readonly type: 's3';
  readonly bucket: string;
  /** Without slashes at its ends; empty for the bucket's root. */
  readonly prefix: string;
  /** `https://host:port`, without a path. Absent: AWS's own for the region. */
  readonly endpoint?: string;
  readonly region: string;
  /** Absent: the adapter tells it by the endpoint. */
  readonly provider?: S3Provider;
  readonly credentials: S3Credentials;
  readonly forcePathStyle: boolean;
  readonly caFile?: string;
  readonly partBytes?: number;
  readonly objectLock?: { readonly mode: 'governance' | 'compliance'; readonly days: number };
}

interface RcloneStorageConfig extends StorageCommon {
  readonly type: 'rclone';
  /** `remote:path`. */
  readonly remote: string;
  readonly configFile?: string;
}

export type StorageConfig = FileStorageConfig | S3StorageConfig | RcloneStorageConfig;

export type EncryptionConfig =
  /** `recipients` are public keys, `age1…`; there is at least one. */
  | { readonly name: string; readonly scheme: 'age'; readonly recipients: readonly string[] }
  | { readonly name: string; readonly scheme: 'age'; readonly passphrase: Secret }
  | { readonly name: string; readonly scheme: 'openssl'; readonly passphrase: Secret };

interface DecryptionKeys {
  /** `AGE-SECRET-KEY-…` each. */
  readonly identities: readonly Secret[];
  readonly passphrases: readonly Secret[];
  /** Names of the encryptions that they are meant to open: their own ones, and those to one of their public keys. */
  readonly encryptions: ReadonlySet<string>;
}

export interface RetentionConfig extends RetentionPolicy {
  readonly name: string;
  readonly minBackups: number;
}

export interface CompressionConfig {
  readonly algorithm: 'gzip' | 'zstd' | 'none';
  /** gzip 1–9, zstd 1–22, none 0. */
  readonly level: number;
}

export interface JobConfig {
  readonly name: string;
  readonly format: 'plain' | 'directory' | 'physical';
  /** Where it can be: else the backup is a full one. */
  readonly incremental: boolean;
  /** Backups of a chain of incremental ones, its full one included. */
  readonly fullEvery?: number;
  /** Absent: only by hand. */
  readonly schedule?: Schedule;
  readonly jitterMs: number;
  /** Names of storages; at least one. */
  readonly to: readonly string[];
  /** Absent: nothing is ever deleted. */
  readonly retention?: RetentionConfig;
  readonly encryption?: EncryptionConfig;
  readonly compression: CompressionConfig;
  /** Template of a plain backup's name; its fields are checked where names are made. */
  readonly filename?: string;
  /** Connections of a directory backup; absent: by the number of cores. */
  readonly parallel?: number;
  readonly excludeTableData: readonly string[];
  /** How the server makes its checkpoint before a physical backup. */
  readonly checkpoint?: 'fast' | 'spread';
  /** Of a physical backup. */
  readonly rateBytesPerSecondMax?: number;
}

/** A server or database that is backed up. */
export interface SourceConfig {
  readonly name: string;
  readonly connection: ConnectionConfig;
  /** Patterns over the server's databases, `!` excludes. Absent: the connection's own database. */
  readonly databases?: readonly string[];
  readonly globals: 'auto' | 'no-passwords' | 'none';
  readonly protection: 'normal' | 'production';
  readonly jobs: ReadonlyMap<string, JobConfig>;
  /** Names of notifications. */
  readonly notify: readonly string[];
  readonly wal?: WalConfig;
  readonly verify?: VerifyConfig;
  readonly drill?: DrillConfig;
  readonly hooks?: HooksConfig;
  readonly expect?: ExpectConfig;
}

type WalConfig = z.output<typeof walSection> & { readonly encryption?: EncryptionConfig };
type VerifyConfig = z.output<typeof verifySection>;
type DrillConfig = z.output<typeof drillSection>;
type HooksConfig = z.output<typeof hooksSection>;
type ExpectConfig = z.output<typeof expectSection>;

type NotificationEvent = (typeof eventNames)[number];

interface NotificationCommon {
  readonly name: string;
  readonly on: readonly NotificationEvent[];
  readonly remindEveryMs?: number;
  /** When it is sent a summary. Absent: never. */
  readonly digest?: Schedule;
}

/** Addresses of hooks are secrets: whoever knows them may post. */
export type NotificationConfig = NotificationCommon &
  (
    | { readonly type: 'slack' | 'discord'; readonly url: Secret }
    | { readonly type: 'webhook'; readonly url: Secret; readonly secret?: Secret }
    | { readonly type: 'ntfy'; readonly url: Secret; readonly token?: Secret }
    | { readonly type: 'healthchecks'; readonly url: Secret; readonly sendLogBytes?: number }
    | { readonly type: 'telegram'; readonly token: Secret; readonly chat: string }
    | {
        readonly type: 'email';
        readonly smtp: SmtpConfig;
        readonly from: string;
        readonly to: readonly string[];
      }
  );

export interface SmtpConfig {
  readonly host: string;
  readonly port: number;
  /** TLS from the first byte; else STARTTLS where offered. */
  readonly tls: boolean;
  readonly user?: string;
  readonly password?: Secret;
}

export interface Roles {
  readonly admin: readonly string[];
  readonly operator: readonly string[];
  readonly viewer: readonly string[];
}

export type AuthConfig =
  | { readonly mode: 'password' }
  | {
      readonly mode: 'oidc';
      readonly issuer: string;
      readonly clientId: string;
      readonly clientSecret: Secret;
      readonly roles: Roles;
    }
  | {
      readonly mode: 'proxy';
      readonly userHeader: string;
      readonly groupsHeader?: string;
      /** CIDR networks of the proxies that are believed. */
      readonly trusted: readonly string[];
      readonly roles: Roles;
    };

export interface ServerConfig {
  readonly listen: { readonly host: string; readonly port: number };
  readonly publicUrl?: string;
  /** How long running jobs may go on after a signal to end. */
  readonly stopGraceMs: number;
  readonly auth: AuthConfig;
}

/** Where OpenTelemetry spans go. */
export interface TracesConfig {
  /** OTLP over HTTP; http or https, without credentials. */
  readonly url: string;
  /** `name=value,name=value`, percent-encoded. */
  readonly headers?: Secret;
  readonly serviceName: string;
}

export interface LogConfig {
  readonly level: 'debug' | 'info' | 'warning' | 'error' | 'success';
  readonly format: 'auto' | 'json' | 'text';
}
