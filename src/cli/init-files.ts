import { randomBytes } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';

/** Files that are written together, each for this user alone: all, or none. */
export class NewFiles {
  readonly #made: string[] = [];

  /**
   * Writes a file that is not there yet; with `replaces` it takes the place of one that is, in one step. `check` looks at it
   * before it has its name. Errors: `config-unreadable`, those of `check`.
   */
  async write(
    path: string,
    text: string,
    {
      replaces,
      check = async () => {},
    }: { readonly replaces: boolean; readonly check?: (draft: string) => Promise<void> },
  ): Promise<void> {
    const draft = `${path}.${randomBytes(4).toString('hex')}.new`;
    try {
      await writeDraft(draft, text);
      await check(draft);
      if (replaces) {
        await rename(draft, path);
        return;
      }
      // Unlike a rename, it never takes another file's place.
      await link(draft, path);
      this.#made.push(path);
    } catch (error) {
      throw error instanceof PgarkError ? error : cannotWrite(path, error);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** Removes those that were not there before. */
  async undo(): Promise<void> {
    for (const path of this.#made) await rm(path, { force: true });
  }
}

async function writeDraft(path: string, text: string): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(text);
  await file.sync();
}

export function cannotWrite(path: string, cause: unknown): PgarkError {
  const code = systemCodeOf(cause);
  const why =
    code === 'EEXIST'
      ? 'there is a file of that name'
      : code === 'ENOENT'
        ? 'its folder does not exist'
        : messageOf(cause);
  return new PgarkError('config-unreadable', `cannot write ${path}: ${why}`, {
    cause,
    hint:
      code === 'EEXIST'
        ? 'choose another name, or remove it if nobody needs it'
        : 'check the folder and its permissions',
  });
}
