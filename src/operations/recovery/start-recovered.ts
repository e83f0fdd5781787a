import { chown, lchown, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { PgarkError } from '../../common/errors.ts';
import type { BaseTarget } from '../../formats/physical/restore-base.ts';
import { type FinishedRecovery, recoverServer } from '../../postgres/server/recovering-server.ts';
import {
  type Account,
  checkServerOfMajor,
  findServerAccount,
  findServerOfMajor,
} from '../../postgres/server/server-programs.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import type { OperationContext } from '../context.ts';
import type { RecoveryPlan } from './plan-recovery.ts';

export interface StartRequest {
  /** Folder of the server's programs. Default: those of the backup's major version that are installed. */
  readonly binDir?: string | undefined;
  /** A folder in which alone the server can be reached, by its socket. Default: as its configuration says. */
  readonly privateIn?: string | undefined;
  /** Further settings, which win over those of its files. Default: none. */
  readonly settings?: Readonly<Record<string, string>> | undefined;
}

/** Where the programs are. Error: `client-missing`. */
export async function findServerToStart({ binDir }: StartRequest, versionNum: number): Promise<string> {
  const major = Math.floor(versionNum / 10_000);
  if (binDir === undefined) return findServerOfMajor(major);
  await checkServerOfMajor(binDir, major);
  return binDir;
}

/**
 * Starts a server on a restored directory and waits until it has recovered up to where it should. Where we are root it runs as
 * the owner of the directory; what belongs to root is given to the account that servers have here. Error: `recovery-failed`.
 */
export async function startRecovered(
  { directory, tablespaces }: BaseTarget,
  {
    binDir,
    plan,
    port,
    privateIn,
    settings,
  }: {
    readonly binDir: string;
    readonly plan: RecoveryPlan | undefined;
    readonly port: number | undefined;
  } & Pick<StartRequest, 'privateIn' | 'settings'>,
  { clock, signal, onProgress }: OperationContext,
): Promise<FinishedRecovery> {
  onProgress({ phase: 'recovering', subject: directory, bytes: 0 });
  const account = await accountFor(
    [directory, ...tablespaces.flatMap((place) => (place.isInside ? [] : [place.path]))],
    directory,
  );
  const finished = await recoverServer(
    { dataDirectory: directory, binDir, account, port, privateIn, settings },
    { clock, signal },
  );
  const { redoneAt, logFile } = finished;
  if (plan !== undefined && (redoneAt === undefined || redoneAt < plan.stop.lsn)) {
    const where = redoneAt === undefined ? 'without any word of how far it went' : `at ${formatLsn(redoneAt)}`;
    throw new PgarkError(
      'recovery-failed',
      `the restored server ended its recovery ${where}, before ${formatLsn(plan.stop.lsn)}, up to where it should go`,
      { hint: `its log is ${logFile}; it runs, and is not what was asked for` },
    );
  }
  return finished;
}

async function accountFor(folders: readonly string[], directory: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = await stat(directory);
  if (uid !== 0) return { uid, gid };
  const account = await findServerAccount();
  if (account !== undefined) for (const folder of folders) await give(folder, account);
  return account;
}

async function give(folder: string, { uid, gid }: Account): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const each = path.join(folder, entry.name);
    if (entry.isDirectory()) await give(each, { uid, gid });
    else await lchown(each, uid, gid);
  }
  await chown(folder, uid, gid);
}
