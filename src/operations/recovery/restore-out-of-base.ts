import path from 'node:path';
import { silentLogger } from '../../common/log.ts';
import { stopRecovered } from '../../postgres/server/recovering-server.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { backup } from '../backup.ts';
import type { OperationContext } from '../context.ts';
import { type DirectoryRestoreOutcome, type DirectoryRestoreRequest, restoreDirectory } from '../restore-directory.ts';
import type { AroundRestore, RestoreFacts } from '../restore-around.ts';
import { restore, type RestoreOutcome, type RestoreRequest } from '../restore.ts';
import { removeLeftFolders, type WorkFolder, withWorkFolder } from '../work-folder.ts';
import { connectionWithin, PRIVATE_PORT } from './private-connection.ts';
import { findServerToStart } from './start-recovered.ts';

/** Name of the source in the store of the work, which nobody sees. */
const SOURCE = 'recovered';
const PREFIX = 'pgark-recovered-';
const LEASE_MS = 60_000;

export interface OutOfBaseRequest {
  /** From which physical backup, and up to where its server is brought back. */
  readonly base: Pick<DirectoryRestoreRequest, 'store' | 'filter' | 'selector' | 'keys' | 'recovery'>;
  /** Of that server. */
  readonly database: string;
  /** Superusers that the server may have, the likeliest first. */
  readonly users: readonly string[];
  /** A folder whose disk has room for the whole server, and for the database once more. */
  readonly workFolder: string;
  /** A store in a folder. */
  readonly openWork: (folder: string) => Promise<ObjectStore>;
  /** Folder of the server's programs. Default: those of the backup's major version that are installed. */
  readonly binDir?: string | undefined;
  /** Where the database goes, what of it, and how. */
  readonly load: Omit<RestoreRequest, 'store' | 'filter' | 'selector' | 'keys'>;
}

export interface OutOfBaseOutcome {
  readonly recovered: DirectoryRestoreOutcome;
  /** Undefined where only the plan was asked for. */
  readonly loaded: RestoreOutcome | undefined;
}

/**
 * Restores one database, or a part of it, out of a physical backup: the whole server is brought back in a folder of its own,
 * reached by nobody else → the database dumped → loaded as any backup is. The server and the folder are gone at the end, however
 * that comes. Errors: those of `restoreDirectory`, `backup` and `restore`.
 */
export async function restoreOutOfBase(
  request: OutOfBaseRequest,
  context: OperationContext,
): Promise<OutOfBaseOutcome> {
  const { load, workFolder } = request;
  if (!load.planOnly)
    await removeLeftFolders(workFolder, { prefix: PREFIX, maker: 'a restore', logger: context.logger });
  return withWorkFolder(workFolder, PREFIX, (folder) => restoreWithin(folder, request, context));
}

async function restoreWithin(
  { path: folder, data, account }: WorkFolder,
  request: OutOfBaseRequest,
  context: OperationContext,
): Promise<OutOfBaseOutcome> {
  const { base, load } = request;
  const recover = (
    changes: Pick<DirectoryRestoreRequest, 'planOnly' | 'start'>,
    logger = context.logger,
  ): Promise<DirectoryRestoreOutcome> =>
    restoreDirectory(
      { ...base, ...changes, directory: data, mappings: [], port: PRIVATE_PORT },
      { ...context, logger },
    );
  let binDir: string | undefined;
  try {
    // What there is to warn of is said once.
    const planned = await recover({ planOnly: true }, load.planOnly ? context.logger : silentLogger);
    binDir = await findServerToStart(request, planned.manifest.server.versionNum);
    if (load.planOnly) return { recovered: planned, loaded: undefined };
    const recovered = await recover({ planOnly: false, start: { binDir, privateIn: folder } });
    return { recovered, loaded: await passOn(request, recovered.manifest, folder, context) };
  } finally {
    if (binDir !== undefined) await stopRecovered({ dataDirectory: data, binDir, account }).catch(() => undefined);
  }
}

/** From the server in the folder into the target. */
async function passOn(
  { openWork, load, ...request }: OutOfBaseRequest,
  { source, id: backupId }: Manifest,
  folder: string,
  context: OperationContext,
): Promise<RestoreOutcome> {
  const store = await openWork(path.join(folder, 'work'));
  try {
    const outcome = await backup(
      {
        source: SOURCE,
        format: 'directory',
        connection: await connectionWithin(folder, request, 'pgark restore', context),
        destinations: [{ name: SOURCE, store, needsDelete: false }],
        seal: { compression: { algorithm: 'zstd', level: 1 } },
        nameTemplate: '',
        excludeTableData: [],
        leaseTermMs: LEASE_MS,
        readBack: false,
        dryRun: false,
      },
      context,
    );
    const [failure] = outcome.destinations.flatMap(({ error }) => error ?? []);
    if (failure !== undefined) throw failure;
    const keys = { identities: [], passphrases: [] };
    // What lies between the two is nobody's backup.
    const around = load.around && toldOf(load.around, { source, backupId });
    return await restore({ ...load, around, store, filter: {}, selector: { kind: 'latest' }, keys }, context);
  } finally {
    await store.close();
  }
}

function toldOf(around: AroundRestore, of: Pick<RestoreFacts, 'source' | 'backupId'>): AroundRestore {
  return {
    before: (facts) => around.before({ ...facts, ...of }),
    after: (facts, error) => around.after({ ...facts, ...of }, error),
  };
}
