import { type ByteStream, MIB, once } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { leftAtOnce } from '../../common/left-at-once.ts';
import type { Logger } from '../../common/log.ts';
import type { Secret } from '../../common/secret.ts';
import { compressionSuffix } from '../../pipeline/compression.ts';
import { pipe, type Transform } from '../../pipeline/transform.ts';
import { type BackupManifest, BackupManifestReader } from '../../postgres/base/backup-manifest.ts';
import { TAR_BLOCK_BYTES } from '../../postgres/base/tar-header.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { sqlStateOf } from '../../postgres/client/server-error.ts';
import {
  type BackedUpTablespace,
  type BackupArchive,
  BaseBackup,
  type BaseBackupOptions,
} from '../../postgres/replication/base-backup.ts';
import { identifySystem, type SystemIdentity } from '../../postgres/replication/replication-commands.ts';
import { connectForReplication, type ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { uploadManifest } from '../../postgres/replication/upload-manifest.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { IDENTITY_FILE, KEY_ROLE } from '../own-key.ts';
import type { Seal } from '../sealed-object.ts';
import { archiveName, sumOf, summingFiles } from './archive-files.ts';
import { FileLedger } from './file-ledger.ts';
import { DATA_DIRECTORY, FILES, type PhysicalRole, UNCOMPRESSED } from './physical-objects.ts';
import type { OpenWal, WalRun } from './wal-run.ts';

/** The estimate of the server is of the moment; what is written meanwhile comes on top. */
const GROWTH = 1.25;
const ROOM_BYTES = 64 * MIB;

export interface BaseDumpRequest extends Pick<BaseBackupOptions, 'checkpoint' | 'rateKilobytesMax'> {
  readonly connection: ConnectionParameters;
  /** Stands in backup_label: the id of the backup. */
  readonly label: string;
  readonly seal: Seal;
  readonly openWal: OpenWal;
  /** The backup that only what was changed since is stored of; missing for a full one. PostgreSQL 17 and newer. */
  readonly relativeTo?: EarlierBase | undefined;
  readonly applicationName: string;
  /** Length of each piece as it comes from the server, for watchdogs. */
  readonly onBytesRead: (bytes: number) => void;
  /** Told, before the first byte, how many are to come by the server's estimate. */
  readonly onBytesExpected: (bytes: number) => void;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** A backup of the same server, on the same timeline. */
export interface EarlierBase {
  /** Its backup_manifest. */
  readonly readManifest: (signal: AbortSignal) => ByteStream;
  /** Asked once the server has begun; rejects where what comes would not fit it. */
  readonly confirm: (signal: AbortSignal) => Promise<void>;
  /** Size of the server's blocks. */
  readonly blockBytes: number;
}

/** A file of the backup's folder. */
export interface BaseFile {
  /** With all endings. */
  readonly name: string;
  readonly role: PhysicalRole;
  readonly source: ByteStream;
  /** Not where the backup_manifest has a digest of each file inside. */
  readonly isContentDigested: boolean;
  readonly seal: Seal;
  /** Upper estimate of the stored size. */
  readonly bytesEstimateMax: number;
}

/** Where the files go; one after another. */
export interface BaseSink {
  put(file: BaseFile): Promise<{ readonly storedSha256: string }>;
}

/** What a manifest records of a base backup besides its objects. */
type BaseFacts = {
  readonly [Field in 'timeline' | 'startLsn' | 'stopLsn' | 'walNeeded' | 'tablespaces']: NonNullable<Manifest[Field]>;
} & Pick<Manifest, 'incremental'>;

export interface BaseDump {
  /** The list of the digests, which is put last. */
  readonly last: BaseFile;
  readonly facts: BaseFacts;
}

/**
 * Takes a base backup of the whole server over the replication protocol, and the WAL that it needs beside it. Every file is
 * compared with the server's own list while it passes. When it resolves, all files but the last one are put and the WAL is
 * archived. Errors: `postgres-…`, `corrupt` where what came is not what the server listed, and those of sink and WAL.
 */
export async function dumpBase(request: BaseDumpRequest, sink: BaseSink): Promise<BaseDump> {
  const { connection, applicationName, signal, logger, seal } = request;
  const key = await seal.sealer?.forMany?.();
  const session = await connectForReplication(connection, {
    applicationName,
    signal,
    onNotice: (text) => logger.warning('dump.notice', `the server says: ${text}`),
  });
  try {
    const identity = await identifySystem(session);
    const { systemIdentifier } = identity;
    const wal = await request.openWal({ systemIdentifier, applicationName, signal });
    try {
      const own = key === undefined ? request : { ...request, seal: { ...seal, sealer: key.sealer } };
      const dump = new Dump(own, sink, wal, identity);
      // What opens the rest is opened by what the user has.
      if (key !== undefined) await dump.putKey(key.identityFile, { ...UNCOMPRESSED, sealer: seal.sealer });
      return await dump.run(session);
    } finally {
      await wal.close();
    }
  } catch (error) {
    throw explained(error);
  } finally {
    await session.close();
  }
}

class Dump {
  readonly #request: BaseDumpRequest;
  readonly #sink: BaseSink;
  readonly #wal: WalRun;
  readonly #identity: SystemIdentity;
  readonly #signal: AbortSignal;
  readonly #ledger = new FileLedger(damaged);
  readonly #sums: string[] = [];

  constructor(request: BaseDumpRequest, sink: BaseSink, wal: WalRun, identity: SystemIdentity) {
    this.#request = request;
    this.#sink = sink;
    this.#wal = wal;
    this.#identity = identity;
    this.#signal = AbortSignal.any([request.signal, wal.lost]);
  }

  async putKey(identityFile: Secret, seal: Seal): Promise<void> {
    const content = Buffer.from(identityFile.reveal());
    const name = nameOf(IDENTITY_FILE, seal);
    await this.#put({ ...DIGESTED, name, role: KEY_ROLE, source: once(content), seal, bytesEstimateMax: ROOM_BYTES });
  }

  async run(session: ReplicationSession): Promise<BaseDump> {
    const { label, checkpoint, rateKilobytesMax, relativeTo, onBytesRead, onBytesExpected } = this.#request;
    if (relativeTo !== undefined) {
      await uploadManifest(session, relativeTo.readManifest(this.#signal), { signal: this.#signal });
    }
    const backup = await BaseBackup.begin(session, {
      label,
      checkpoint,
      rateKilobytesMax,
      incremental: relativeTo !== undefined,
      signal: this.#signal,
      onBytes: onBytesRead,
    });
    this.#wal.start(backup.start);
    await relativeTo?.confirm(this.#signal);
    onBytesExpected(backup.tablespaces.reduce((sum, { bytes }) => sum + bytes, 0));
    for await (const archive of backup.archives()) await this.#putArchive(archive, session.major);
    const manifest = await this.#putManifest(backup);
    const facts = this.#factsOf(backup, manifest);
    const walNeeded = await this.#wal.finish(backup.stop);
    this.#signal.throwIfAborted();
    const sums = Buffer.from(this.#sums.join(''));
    return {
      facts: { ...facts, walNeeded },
      last: {
        ...DIGESTED,
        name: FILES.sums,
        role: 'sums',
        source: once(sums),
        seal: UNCOMPRESSED,
        bytesEstimateMax: sums.length,
      },
    };
  }

  async #putArchive({ tablespace, read }: BackupArchive, major: number): Promise<void> {
    const { seal } = this.#request;
    const stages: Transform[] = [summingFiles(tablespace, (file) => this.#ledger.note(file))];
    if (major < END_MARK_SINCE) stages.push(withEndMark);
    await this.#put({
      name: nameOf(archiveName(tablespace), seal),
      role: tablespace.oid === undefined ? 'base' : 'tablespace',
      source: leftAtOnce((left) => pipe(read(left), ...stages), this.#signal),
      isContentDigested: false,
      seal,
      bytesEstimateMax: Math.ceil(tablespace.bytes * GROWTH) + ROOM_BYTES,
    });
  }

  async #putManifest(backup: BaseBackup): Promise<BackupManifest> {
    const reader = new BackupManifestReader((file) => this.#ledger.compare(sumOf(file)));
    let manifest: BackupManifest | undefined;
    const checked = async function* (source: ByteStream): ByteStream {
      for await (const block of source) {
        reader.push(block);
        yield block;
      }
      manifest = reader.end();
    };
    const seal = { ...UNCOMPRESSED, sealer: this.#request.seal.sealer };
    await this.#put({
      ...DIGESTED,
      name: nameOf(FILES.manifest, seal),
      role: 'backup_manifest',
      source: leftAtOnce((left) => checked(backup.manifest(left)), this.#signal),
      seal,
      bytesEstimateMax: ROOM_BYTES,
    });
    this.#ledger.end();
    if (manifest === undefined) throw damaged('the backup_manifest was not read to its end');
    return manifest;
  }

  /** What the server has told in different places has to be the same. */
  #factsOf({ start, stop, tablespaces }: BaseBackup, manifest: BackupManifest): Omit<BaseFacts, 'walNeeded'> {
    const { systemIdentifier = this.#identity.systemIdentifier, walRanges } = manifest;
    const { relativeTo } = this.#request;
    if (systemIdentifier !== this.#identity.systemIdentifier) {
      throw damaged(
        `the backup_manifest is of system ${systemIdentifier}, the server ${this.#identity.systemIdentifier}`,
      );
    }
    const [range, another] = walRanges;
    const isOneTimeline =
      stop.timeline === start.timeline && another === undefined && range?.timeline === start.timeline;
    if (!isOneTimeline) {
      throw new PgarkError(
        'postgres-failed',
        `the server went from timeline ${start.timeline} to ${stop.timeline} while it was backed up`,
        { hint: 'the server it follows was replaced by another one: run the backup again' },
      );
    }
    if (range.startLsn !== start.lsn || range.endLsn !== stop.lsn) {
      throw damaged(
        `the backup_manifest needs WAL from ${range.startLsn} to ${range.endLsn}, the server said ${start.lsn} to ${stop.lsn}`,
      );
    }
    return {
      timeline: start.timeline,
      startLsn: start.lsn,
      stopLsn: stop.lsn,
      tablespaces: tablespaces.flatMap(placeOf),
      ...(relativeTo && {
        incremental: {
          blockBytes: relativeTo.blockBytes,
          mergedBytes: Object.fromEntries(tablespaces.map(({ oid, bytes }) => [oid ?? DATA_DIRECTORY, bytes])),
        },
      }),
    };
  }

  async #put(file: BaseFile): Promise<void> {
    const { storedSha256 } = await this.#sink.put(file);
    this.#sums.push(`${storedSha256}  ${file.name}\n`);
  }
}

const DIGESTED = { isContentDigested: true } as const;

/** The first version whose archives have one. */
const END_MARK_SINCE = 15;

async function* withEndMark(source: ByteStream): ByteStream {
  yield* source;
  yield new Uint8Array(2 * TAR_BLOCK_BYTES);
}

function placeOf({ oid, location }: BackedUpTablespace): BaseFacts['tablespaces'] {
  return oid === undefined ? [] : [{ oid, location }];
}

function nameOf(file: string, { compression, sealer }: Seal): string {
  return `${file}${compressionSuffix(compression.algorithm)}${sealer?.suffix ?? ''}`;
}

function damaged(why: string): PgarkError {
  return new PgarkError('corrupt', `what the server sent is not what it has listed: ${why}`, {
    hint: 'nothing of it was kept; run the backup again, and if it repeats, look for what damages data between here and the server',
  });
}

/** ERRCODE_DATA_CORRUPTED, at the very end: all data came, with a list that fits it. */
const CORRUPT_PAGES = 'XX001';

function explained(error: unknown): unknown {
  if (!(error instanceof PgarkError) || sqlStateOf(error) !== CORRUPT_PAGES) return error;
  return new PgarkError('postgres-failed', error.message, {
    cause: error.cause,
    hint: 'pages in the server’s own files are damaged, the warnings before name them: the last good backup is needed now; keep it (--no-prune), check the disks, and find what is affected with pg_amcheck',
  });
}
