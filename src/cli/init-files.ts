import { randomBytes } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';

interface Placed {
  readonly path: string;
  /** Another name of the file that was there before. */
  readonly former: string | undefined;
}

/** Files that are written together, each for this user alone: all, or none. Until `finish`, what was there is kept beside them. */
export class NewFiles {
  readonly #placed: Placed[] = [];

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
    const name = `${path}.${randomBytes(4).toString('hex')}`;
    const draft = `${name}.new`;
    try {
      await writeDraft(draft, text);
      await check(draft);
      const former = replaces ? await linkFormer(path, `${name}.old`) : undefined;
      if (former === undefined) {
        // Unlike a rename, it never takes another file's place.
        await link(draft, path);
        this.#placed.push({ path, former });
      } else {
        this.#placed.push({ path, former });
        await rename(draft, path);
      }
    } catch (error) {
      throw error instanceof PgarkError ? error : cannotWrite(path, error);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** They stay, and what they replaced goes. */
  async finish(): Promise<void> {
    for (const { former } of this.#placed.splice(0)) if (former !== undefined) await rm(former, { force: true });
  }

  /** Puts back what was there before, and removes what was not. */
  async undo(): Promise<void> {
    for (const { path, former } of this.#placed.splice(0).reverse()) {
      await (former === undefined ? rm(path, { force: true }) : rename(former, path));
      // Renaming does nothing where both are still the same file.
      if (former !== undefined) await rm(former, { force: true });
    }
  }
}

/** Undefined where there is no file. */
async function linkFormer(path: string, former: string): Promise<string | undefined> {
  try {
    await link(path, former);
    return former;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
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
