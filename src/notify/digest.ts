/**
 * What is sent at fixed times instead of when something happens: how well everything is protected, what was done since the
 * last one, and what is to be done. Plain data, free of secrets.
 */
export interface Digest {
  readonly event: 'digest';
  readonly at: Date;
  readonly channel: string;
  /** What was done is told from here on: of the last digest, where there was one. */
  readonly since: Date;
  readonly databases: readonly DigestDatabase[];
  /** What is wrong now, the gravest first. Without any, everything is protected. */
  readonly standing: readonly DigestProblem[];
  /** Worth knowing; nothing has to be done. */
  readonly notes: readonly string[];
  readonly runs: readonly DigestRuns[];
  /** The newest first. */
  readonly failures: readonly DigestFailure[];
  readonly wal: readonly DigestWal[];
  readonly storages: readonly DigestStorage[];
}

export interface DigestDatabase {
  readonly source: string;
  readonly database: string;
  /** `unscheduled`: there are backups of it, and nothing says when the next one is to be made. */
  readonly state: 'protected' | 'attention' | 'unscheduled';
  readonly backups: readonly DigestBackups[];
}

/** Backups of one format in one storage. */
export interface DigestBackups {
  readonly format: string;
  readonly storage: string;
  /** Of the newest that is there. */
  readonly lastGoodAt: Date | 'never';
  readonly lastBytes?: number | undefined;
  readonly count: number;
  readonly isOverdue: boolean;
  readonly nextRunAt?: Date | undefined;
  /** When one of them was restored to be tried, and it passed. */
  readonly lastDrillAt?: Date | undefined;
}

export interface DigestProblem {
  readonly sentence: string;
  /** What to do about it. */
  readonly fix?: string | undefined;
}

/** Runs of one kind that ended. */
export interface DigestRuns {
  readonly kind: string;
  readonly succeeded: number;
  readonly failed: number;
}

/** What failed in the same way, once or several times. */
export interface DigestFailure {
  readonly kind: string;
  readonly source?: string | undefined;
  readonly database?: string | undefined;
  readonly storages: readonly string[];
  readonly times: number;
  readonly lastAt: Date;
  /** The same has worked since. */
  readonly isOver: boolean;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string };
}

export interface DigestWal {
  readonly source: string;
  readonly isInTime: boolean;
  /** Any moment between them can be recovered to. */
  readonly earliest?: Date | undefined;
  readonly latest?: Date | undefined;
  /** What would be lost with the server now. */
  readonly lossMs?: number | undefined;
  readonly gaps?: number | undefined;
  readonly storedBytes?: number | undefined;
}

export interface DigestStorage {
  readonly storage: string;
  /** Of the databases' backups; undefined: it could not be read. */
  readonly storedBytes?: number | undefined;
  /** Since the last digest; undefined where that did not say. */
  readonly grownBytes?: number | undefined;
}
