import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import type { DatabaseProperties } from '../postgres/client/target-database.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import type { Manifest, ManifestProperties } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { LeftOut } from './plain/left-out.ts';
import type { ServerRequirements } from './server-requirements.ts';

/** What a backup is read with. */
export interface SourceAccess {
  readonly store: ObjectStore;
  readonly keys: DecryptionKeys;
  readonly signal: AbortSignal;
}

/** The sections of pg_dump and pg_restore. */
export type SectionName = 'pre-data' | 'data' | 'post-data';

/** What of a backup is loaded; an empty list chooses all. Tables are named `orders`, of any schema, or `crm.orders`. */
export interface Selection {
  readonly tables: readonly string[];
  readonly schemas: readonly string[];
  readonly sections: readonly SectionName[];
  /** Left out of what was chosen. Default: nothing. */
  readonly excluding?: Exclusion;
  /** Other names for tables and schemas, given when all is restored. Default: none. */
  readonly renames?: readonly NewName[];
}

/** `orders`, `crm.orders` or a schema, and its name from then on; a table stays in its schema. */
export interface NewName {
  readonly from: string;
  readonly to: string;
}

export interface Exclusion {
  readonly tables: readonly string[];
  readonly schemas: readonly string[];
  /** Tables that are made, and get no rows. */
  readonly tableData: readonly string[];
}

/**
 * A backup of whatever format as something to load: it is in the store, as far as that shows without reading it all, and a
 * key opens it.
 */
export interface LoadSource {
  readonly name: string;
  /** `plain`, `directory`; of other tools `sql`, `archive`. For traces. */
  readonly format: string;
  readonly storedBytes: number;
  /** How the database was made that it holds; unknown for what other tools wrote. */
  readonly like: (DatabaseProperties & { readonly properties?: ManifestProperties | undefined }) | undefined;
  /** Major version of the server it came from; of dumps of other tools, what they say. */
  readonly sourceMajor: number | undefined;
  /** The server it came from; unknown for what other tools wrote. */
  readonly server: Manifest['server'] | undefined;
  /** What one transaction can hold: SQL of ours and the load after it, the load by itself, or not even that. */
  readonly oneTransaction: 'sql-and-load' | 'load' | 'none';
  /** What was recorded of its rows, for a restore to be compared with: how many there were, or also their hash. */
  readonly evidence: 'rows' | 'hashes' | undefined;
  /** Of how many rows and tables that is. */
  readonly recorded: { readonly tables: number; readonly rows: number } | undefined;
  /** What nobody left out, and what cannot be without what was: for people, `VIEW public.totals`. */
  readonly alsoLeftOut: readonly string[];
  /** Of a part: tables that it needs, which are made and have no rows; for people, `public.customer`. */
  readonly withoutRows: readonly string[];
  /** Of a part: what says something of it and of what does not come along, `FK CONSTRAINT public.invoice invoice_customer_fkey`. */
  readonly leftBehind: readonly string[];
  /** A part of it. Error: `restore-failed` for a format that is loaded whole, and for what is not there. */
  only(selection: Selection): LoadSource;
  /**
   * Reads all that is stored of it, and compares it with the digests that were recorded when it was made: then it holds what
   * it held. `unpacks`: its content as well, which is what is read of dumps of other tools in any case, since nothing was
   * recorded of them. Errors: `corrupt`, `store-…`, those of keys.
   */
  readThrough(how: ReadThrough): Promise<void>;
  /**
   * Reads what is stored of it and no load of it reads, and compares it as a verification does: with a load that has passed, all of it
   * was read. Errors: `corrupt`, `repository-damaged`, `store-…`, those of keys.
   */
  checkUnloaded(): Promise<void>;
  /** What it needs of a server; of SQL text it is known only when all of it was read. */
  requirements(): Promise<ServerRequirements>;
  /** Finds what loads it into a server of this major version, also in the given folder. Error: `client-missing`. */
  prepare(serverMajor: number, clientDir?: string): Promise<PreparedLoad>;
}

export interface ReadThrough {
  readonly unpacks: boolean;
  readonly onStoredBytes: (bytesTotal: number) => void;
}

export interface PreparedLoad {
  /** Version of the program that talks to the server, for the log. */
  readonly programVersion: string;
  /**
   * Fills a database. It ends normally only if everything was loaded, and was what the backup is recorded to hold. Errors:
   * `restore-failed`, `corrupt`, `store-…`, `postgres-…`.
   */
  load(how: LoadHow): Promise<void>;
}

export interface LoadHow {
  readonly connection: ConnectionParameters;
  readonly leaveOut: LeftOut | undefined;
  /**
   * All or nothing, for a database that was there before; only where the source can. One that is thrown away on failure
   * does not need it.
   */
  readonly singleTransaction: boolean;
  /** Our own SQL, run first, in the same transaction. */
  readonly preamble?: string | undefined;
  /** Connections at once, for formats that are loaded by several. */
  readonly jobs: number;
  readonly applicationName: string;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly onStoredBytes: (bytesTotal: number) => void;
  /** Reads the rows that were loaded once more, and compares them with what is recorded; for a source that has evidence. */
  readonly verify?: { readonly onBytes: (bytesTotal: number) => void } | undefined;
  /** All is loaded; so many milliseconds of it were the comparison. Default: nobody is told. */
  readonly onLoaded?: ((comparedMs: number) => void) | undefined;
}
