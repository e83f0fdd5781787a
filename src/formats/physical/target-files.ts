import { constants } from 'node:fs';
import {
  chmod,
  chown,
  type FileHandle,
  lchown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ByteStream } from '../../common/bytes.ts';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { type ByteString, byteStringOf, readable, toByteString } from '../../postgres/toc/byte-string.ts';

/** Files that are brought to the disk at once. */
const SYNCS = 16;
/** What initdb gives a data directory; PostgreSQL starts on nothing that others may read. */
export const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/** Who is to own what is restored, where that is not who restores it. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A folder that is filled from an archive; everything stays within it. */
export class TargetFolder {
  readonly path: string;
  readonly #owner: Owner | undefined;
  readonly #withheld: ReadonlyMap<string, string>;

  /** `withheld`: files that have another name until `release`, whoever writes or reads them here. */
  constructor(path: string, owner: Owner | undefined, withheld: ReadonlyMap<string, string> = new Map()) {
    this.path = path;
    this.#owner = owner;
    this.#withheld = withheld;
  }

  /** Gives what was withheld its own name, for good, and nothing comes behind it. */
  async release(): Promise<void> {
    for (const [name, until] of this.#withheld) {
      const file = join(this.path, name);
      try {
        await rename(join(this.path, until), file);
        await syncFile(dirname(file));
      } catch (error) {
        throw cannotWrite(name, this.path, error);
      }
    }
  }

  /** Makes a folder in it, whose parent is there; one that is there already will do. */
  async makeFolder(name: ByteString, mode = DIRECTORY_MODE): Promise<void> {
    const folder = this.#pathOf(name);
    try {
      await mkdir(folder, { mode: DIRECTORY_MODE }).catch(async (error: unknown) => {
        if (systemCodeOf(error) !== 'EEXIST' || !(await lstat(folder)).isDirectory()) throw error;
      });
      if (mode !== DIRECTORY_MODE) await chmod(folder, mode);
      if (this.#owner !== undefined) await chown(folder, this.#owner.uid, this.#owner.gid);
    } catch (error) {
      throw cannotWrite(readable(name), this.path, error);
    }
  }

  /** Makes a folder in it, to be filled like it. */
  async folder(name: ByteString): Promise<TargetFolder> {
    await this.makeFolder(name);
    return new TargetFolder(`${this.path}/${readable(name)}`, this.#owner);
  }

  /** A new file in it, whose parent is there; it is not written over, and no link is followed. The caller closes it. */
  async create(name: ByteString, mode = FILE_MODE): Promise<FileHandle> {
    let file: FileHandle | undefined;
    try {
      file = await open(this.#pathOf(name), 'wx', FILE_MODE);
      if (mode !== FILE_MODE) await file.chmod(mode);
      if (this.#owner !== undefined) await file.chown(this.#owner.uid, this.#owner.gid);
      return file;
    } catch (error) {
      await file?.close();
      throw cannotWrite(readable(name), this.path, error);
    }
  }

  /** A file that was created before, to be written on and read. No link is followed. The caller closes it. */
  async reopen(name: ByteString): Promise<FileHandle> {
    try {
      return await open(this.#pathOf(name), constants.O_RDWR | constants.O_NOFOLLOW);
    } catch (error) {
      throw cannotWrite(readable(name), this.path, error);
    }
  }

  /** A file with this content, in the place of one that may be there. */
  async replace(name: string, content: string | Uint8Array): Promise<void> {
    await this.remove(name);
    const file = await this.create(toByteString(name));
    try {
      await file.writeFile(content);
    } catch (error) {
      throw cannotWrite(name, this.path, error);
    } finally {
      await file.close();
    }
  }

  /** A new file with what the stream gives. */
  async writeStream(name: string, content: ByteStream): Promise<void> {
    const file = await this.create(toByteString(name));
    try {
      for await (const block of content) {
        await file.writeFile(block).catch((error: unknown) => {
          throw cannotWrite(name, this.path, error);
        });
      }
    } finally {
      await file.close();
    }
  }

  async remove(name: string): Promise<void> {
    await rm(this.#pathOf(toByteString(name)), { force: true }).catch((error: unknown) => {
      throw cannotWrite(name, this.path, error);
    });
  }

  /** Undefined where there is no such file. */
  async read(name: string): Promise<ByteString | undefined> {
    try {
      return byteStringOf(await readFile(this.#pathOf(toByteString(name))));
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return undefined;
      throw cannotWrite(name, this.path, error);
    }
  }

  async link(name: string, target: string): Promise<void> {
    const link = this.#pathOf(toByteString(name));
    try {
      await symlink(target, link);
      if (this.#owner !== undefined) await lchown(link, this.#owner.uid, this.#owner.gid);
    } catch (error) {
      throw cannotWrite(name, this.path, error);
    }
  }

  /** Names are bytes, which need not be UTF-8. Error: `corrupt` for one that leads elsewhere. */
  #pathOf(name: ByteString): Buffer {
    const parts = name.split('/');
    if (parts.some((part) => part === '' || part === '.' || part === '..') || name.includes('\0')) {
      throw new PgarkError('corrupt', `the backup holds ${readable(name)}, which is no path within a data directory`, {
        hint: 'somebody made or changed this archive: do not trust it, and restore another backup',
      });
    }
    return Buffer.concat([Buffer.from(`${this.path}/`), Buffer.from(this.#withheld.get(name) ?? name, 'latin1')]);
  }
}

/** Brings everything in these folders to the disk: files, then the folders that name them. */
export async function syncFolders(paths: readonly string[], signal: AbortSignal): Promise<void> {
  const folders: Buffer[] = [];
  const files: Buffer[] = [];
  for (const path of paths) await collect(Buffer.from(path), folders, files);
  await syncAll(files, signal);
  await syncAll(folders, signal);
}

async function collect(folder: Buffer, folders: Buffer[], files: Buffer[]): Promise<void> {
  folders.push(folder);
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: 'buffer' })) {
    const path = Buffer.concat([folder, Buffer.from('/'), entry.name]);
    if (entry.isDirectory()) await collect(path, folders, files);
    else if (entry.isFile()) files.push(path);
  }
}

async function syncAll(paths: readonly Buffer[], signal: AbortSignal): Promise<void> {
  await inParallel(paths, SYNCS, signal, async (take) => {
    for (let path = take(); path !== undefined; path = take()) await syncFile(path);
  });
}

/** Brings a file to the disk, or of a folder which names it holds. */
export async function syncFile(path: string | Buffer): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

export function cannotWrite(name: string, folder: string, error: unknown): PgarkError {
  if (error instanceof PgarkError) return error;
  const full = systemCodeOf(error) === 'ENOSPC';
  return new PgarkError('restore-failed', `cannot write ${name} in ${folder}: ${messageOf(error)}`, {
    cause: error,
    hint: full
      ? 'the disk is full: choose a directory on another one'
      : 'choose a directory that this user may write to',
  });
}
