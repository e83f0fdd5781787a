import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { messageOf } from '../common/errors.ts';
import { Secret } from '../common/secret.ts';
import { type Origins, type Path, pathText } from './origins.ts';
import type { Need, Problem, Problems } from './problems.ts';

/** A secret or a list of keys is short; a larger file is the wrong file. */
const VALUE_BYTES_MAX = 1024 * 1024;

/** Text of a file that a setting names, without one newline at its end. Throws a sentence that says why it cannot. */
export async function readValueFile(path: string): Promise<string> {
  const bytes = await readFile(path);
  if (bytes.length > VALUE_BYTES_MAX) throw new Error(`${bytes.length} bytes are too many for a setting`);
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replace(/\r?\n$/, '');
}

/** What building a configuration needs besides the sections: where they come from, and where problems go. */
export class BuildContext {
  readonly origins: Origins;
  readonly problems: Problems;
  /** Directory that relative paths start from. */
  readonly baseDir: string;
  /** The configuration file, as the user named it. Without one it is the environment, of which a part may be enough. */
  readonly #file: string | undefined;

  constructor(options: {
    readonly origins: Origins;
    readonly problems: Problems;
    readonly baseDir: string;
    readonly file?: string;
  }) {
    this.origins = options.origins;
    this.problems = options.problems;
    this.baseDir = options.baseDir;
    this.#file = options.file;
  }

  problem(path: Path, code: Problem['code'], message: string, hint?: string): void {
    const place = this.origins.get(path);
    const need = this.#file === undefined ? needOf(path) : undefined;
    const where = place?.where ?? this.#file ?? pathText(path);
    this.problems.add({
      code,
      where: this.#file === undefined ? where : `${where}: ${pathText(path)}`,
      message,
      ...(hint !== undefined && { hint }),
      ...(need !== undefined && { need }),
    });
  }

  resolve(path: string): string {
    return resolve(this.baseDir, path);
  }

  /** The text at `path`, or that of the file at `path_file`; undefined if neither is set or there is a problem. */
  async text(path: Path, direct: string | undefined, file: string | undefined): Promise<string | undefined> {
    const filePath = [...path.slice(0, -1), `${path.at(-1)}_file`];
    if (file === undefined) return direct;
    if (direct !== undefined) {
      this.problem(filePath, 'config-conflict', `is set beside ${pathText(path)}`, 'keep one of the two');
      return undefined;
    }
    this.origins.copy(path, filePath);
    try {
      const value = await readValueFile(this.resolve(file));
      if (value === '') this.problem(filePath, 'config-missing', `the file ${file} is empty`);
      return value === '' ? undefined : value;
    } catch (error) {
      this.problem(filePath, 'config-unreadable', `cannot read ${file}: ${messageOf(error)}`);
      return undefined;
    }
  }

  async secret(path: Path, direct: string | undefined, file: string | undefined): Promise<Secret | undefined> {
    const value = await this.text(path, direct, file);
    return value === undefined ? undefined : new Secret(value);
  }

  /** Like `secret`, and its absence is a problem. The placeholder is never used: a problem ends the loading. */
  async requiredSecret(path: Path, direct: string | undefined, file: string | undefined): Promise<Secret> {
    if (direct === undefined && file === undefined) {
      this.problem(path, 'config-missing', `is required (or ${path.at(-1)}_file)`);
    }
    return (await this.secret(path, direct, file)) ?? new Secret('');
  }
}

function needOf(path: Path): Need | undefined {
  if (path[0] === 'storages') return 'storage';
  return path[0] === 'databases' && path[2] !== 'jobs' ? 'database' : undefined;
}
