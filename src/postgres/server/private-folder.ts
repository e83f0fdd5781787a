import { constants } from 'node:fs';
import {
  chmod,
  chown,
  lstat,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import path from 'node:path';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import type { Account } from './server-programs.ts';

const OWNER_SOCKET = 'owner.sock';
const OWNER_FILE = 'owner.json';
/** The names of a machine and of its start take less. */
const OWNER_FILE_BYTES_MAX = 4_096;
/** sockaddr_un holds 108 bytes; six characters are added, and `/.s.PGSQL.NNNNN` and the end take the others. */
const PATH_BYTES_MAX = 86;

/** A server's children may still be writing their last files when it was killed. */
const REMOVAL = { recursive: true, force: true, maxRetries: 10, retryDelay: 50 } as const;

function isMark(name: string): boolean {
  return name === OWNER_SOCKET || name === OWNER_FILE;
}

/** A folder that nobody else can enter, with a mark by which others can tell whether its owner lives. */
export interface PrivateFolder {
  readonly path: string;
  /** Removes it with all that it holds; the mark comes last, so that others can finish what is cut off. */
  remove(): Promise<void>;
}

/**
 * Makes a folder PREFIXxxxxxx in another one, for the account that a server runs under. The mark is a socket that this process
 * listens on: it answers as long as the process lives, also while that is stopped, and no other process ever does. It does not keep
 * the process alive. Error: `postgres-failed` for a path in which no server could have its socket.
 */
export async function makePrivateFolder(
  parent: string,
  prefix: string,
  account: Account | undefined,
): Promise<PrivateFolder> {
  const real = await realpath(parent).catch((cause: unknown) => {
    throw new PgarkError('postgres-failed', `the folder ${parent} cannot be worked in: ${messageOf(cause)}`, {
      cause,
      hint: 'name another one with --work-dir, or set TMPDIR',
    });
  });
  if (Buffer.byteLength(path.join(real, prefix)) > PATH_BYTES_MAX) {
    throw new PgarkError('postgres-failed', `the path ${real} is too long for the socket of a PostgreSQL server`, {
      hint: 'name a folder with a shorter one by --work-dir, or set TMPDIR',
    });
  }
  // Under another name until its mark is complete: what bears the prefix can be judged.
  const made = await mkdtemp(path.join(real, `.${prefix}`));
  const folder = path.join(real, path.basename(made).slice(1));
  let server: Server | undefined;
  try {
    await chmod(made, 0o700);
    server = await listen(path.join(made, OWNER_SOCKET));
    await writeFile(path.join(made, OWNER_FILE), `${JSON.stringify(await ownMachine())}\n`, { mode: 0o600 });
    if (account !== undefined) await chown(made, account.uid, account.gid);
    await rename(made, folder);
  } catch (error) {
    server?.close();
    await rm(made, { recursive: true, force: true });
    throw error;
  }
  return {
    path: folder,
    remove: async () => {
      const names = await readdir(folder);
      for (const name of names) if (!isMark(name)) await rm(path.join(folder, name), REMOVAL);
      await rm(folder, REMOVAL);
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

/** What of such folders cannot be used any more, and what cannot be told. */
export interface LeftFolders {
  /** Their owners are dead for certain. By its inode it can be told whether another one has come in a folder's place. */
  readonly left: readonly { readonly path: string; readonly inode: bigint }[];
  /** Of another machine, on a disk that is shared, or one that had another name. */
  readonly unclear: readonly string[];
}

/**
 * Finds folders of a prefix whose owners died without removing them. Their age does not matter. Folders of other users than these are
 * nothing of ours, whatever they hold.
 */
export async function findLeftFolders(parent: string, prefix: string, users: readonly number[]): Promise<LeftFolders> {
  const real = await realpath(parent).catch((error: unknown) => {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  // In a folder that is not there nobody has left anything.
  if (real === undefined) return { left: [], unclear: [] };
  const left: { path: string; inode: bigint }[] = [];
  const unclear: string[] = [];
  for (const name of await readdir(real)) {
    if (!name.startsWith(prefix)) continue;
    const folder = path.join(real, name);
    const seen = await lstat(folder, { bigint: true }).catch(() => undefined);
    // A link may lead anywhere.
    if (seen === undefined || !seen.isDirectory() || !users.includes(Number(seen.uid))) continue;
    const state = await stateOf(folder, users);
    if (state === 'left') left.push({ path: folder, inode: seen.ino });
    if (state === 'unclear') unclear.push(folder);
  }
  return { left, unclear };
}

async function stateOf(folder: string, users: readonly number[]): Promise<'left' | 'unclear' | 'in use' | 'not ours'> {
  try {
    const owner = await readOwner(path.join(folder, OWNER_FILE), users);
    if (!isMachine(owner)) return 'not ours';
    const own = await ownMachine();
    // A socket answers on the machine that made it only; a machine that was restarted has no processes of before.
    if (own.boot !== owner.boot) return own.host === owner.host ? 'left' : 'unclear';
    return (await answers(path.join(folder, OWNER_SOCKET))) ? 'in use' : 'left';
  } catch {
    // Somebody else's, or being removed at this moment.
    return 'not ours';
  }
}

/** Waits for nobody and follows no link, whatever somebody has put in its place. */
async function readOwner(file: string, users: readonly number[]): Promise<unknown> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = await handle.stat();
    if (!stat.isFile() || stat.size > OWNER_FILE_BYTES_MAX || !users.includes(stat.uid)) return undefined;
    return JSON.parse(await handle.readFile('utf8'));
  } finally {
    await handle.close();
  }
}

interface Machine {
  readonly host: string;
  /** Of each start of a machine another one, where the system tells it; containers on it share it. */
  readonly boot: string;
}

async function ownMachine(): Promise<Machine> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => hostname());
  return { host: hostname(), boot: boot.trim() };
}

function isMachine(value: unknown): value is Machine {
  return typeof value === 'object' && value !== null && 'host' in value && 'boot' in value;
}

async function listen(socket: string): Promise<Server> {
  const server = createServer((client) => client.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, resolve);
  });
  server.unref();
  return server;
}

/** Rejects where it cannot be told. */
function answers(socket: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const client = connect(socket);
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
    client.once('error', (error) => {
      const code = systemCodeOf(error);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false);
      // So many ask that its queue is full.
      else if (code === 'EAGAIN') resolve(true);
      else reject(error);
    });
  });
}
