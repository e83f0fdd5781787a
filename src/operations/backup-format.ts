import type { ByteStream } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { Seal, SealedDigests, SealedStreamRequest } from '../formats/sealed-object.ts';
import type { BackupId, FormatLetter } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { SpreadRun } from '../runs/run.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { Preparation } from './backup-checks.ts';
import type { OperationContext } from './context.ts';

/** Where a backup lies: the same in every destination. */
interface BackupPlace {
  /** For people: the key of its only object, or its folder. */
  readonly key: string;
  /** Keys of objects to come, which nobody else may have. */
  readonly keys: readonly ObjectKey[];
  /** Folders of its own; the last segment is the backup's id. */
  readonly prefixes: readonly string[];
}

/** What a backup is called, and where it lies. */
export interface BackupName extends BackupPlace {
  readonly id: BackupId;
  readonly startedAt: Date;
}

/** A file on its way into the destinations; it is made once for all of them. */
export interface BackupFile {
  readonly key: ObjectKey;
  readonly role: string;
  /** As a `SealedStream` wants it: its `return()` ends it promptly. */
  readonly source: ByteStream;
  readonly seal: Seal;
  /** Upper estimate of the stored size, which decides the size of parts. */
  readonly bytesEstimateMax: number;
  /** Whether the manifest names it by itself; what it does not name is in a list of the format's own. */
  readonly isListed: boolean;
  /** How many files are put at the same time and share the memory that there is for that. */
  readonly filesAtOnce: number;
  /** See `SealedStreamRequest`. */
  readonly digestsInThread?: boolean;
  readonly isContentDigested?: boolean;
  readonly onSealed?: SealedStreamRequest['onSealed'];
}

/** What is known of a file that lies in all destinations. */
export type StoredFile = SealedDigests;

/** Where a format puts what it makes. */
export interface BackupSink {
  /**
   * Stores a file in all destinations that are left; resolves when each of them has it. Several may be on their way at
   * once. A destination that fails drops out, and it rejects if none is left. An error of the source makes none drop out:
   * it rejects with that error, no destination has the file, and it may be put again.
   */
  put(file: BackupFile): Promise<StoredFile>;
  /**
   * Has a step done in all destinations that are left, at the same time, for what is no file of the backup's own. One in
   * which it fails drops out; rejects if none is left.
   */
  each(step: (store: ObjectStore, signal: AbortSignal) => Promise<void>): Promise<void>;
}

/** What a format dumps, and with what. */
interface DumpWork {
  readonly name: BackupName;
  /** What sessions of the dump call themselves on the server. */
  readonly applicationName: string;
  /** Length of each piece as it comes from the server, for watchdogs. */
  readonly onBytesRead: (bytes: number) => void;
  /** Told how many bytes are to come in all, where the format knows better than by the size of the database. */
  readonly onBytesExpected: (bytes: number) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Aborted when the dump is to end at once; then nobody wants its error. */
  readonly signal: AbortSignal;
}

/** What a format has made, and what the manifest records of it besides its objects. */
export interface Dumped {
  readonly last: BackupFile;
  readonly recorded: Partial<
    Pick<Manifest, 'timeline' | 'startLsn' | 'stopLsn' | 'walNeeded' | 'tablespaces' | 'parents' | 'incremental'>
  >;
}

/** A backup that can be made, as far as that shows before. */
export interface PreparedBackup {
  readonly preparation: Preparation;
  /**
   * Makes the backup and puts all of its files but the last one, which it gives back: a destination that has that one too
   * has everything, and commits without waiting for others.
   */
  dump(work: DumpWork, sink: BackupSink): Promise<Dumped>;
}

/** A form that backups have. One object is made for each backup. */
export interface BackupFormat {
  readonly name: Manifest['format'];
  /** What it is once the backup is prepared. */
  readonly letter: FormatLetter;
  /** What the bytes of a dump come from, for messages: `pg_dump`. */
  readonly sender: string;
  /** What of the request concerns the format alone. Error: `config-invalid`. */
  check(): void;
  place(facts: { readonly database: string; readonly id: BackupId; readonly startedAt: Date }): BackupPlace;
  /** Every check of the server that can be made before any work; the signal ends it at once. */
  prepare(
    run: Pick<SpreadRun, 'id' | 'logger'>,
    context: Pick<OperationContext, 'signal' | 'clock' | 'random'>,
  ): Promise<PreparedBackup>;
}
