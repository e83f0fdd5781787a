import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expectExit } from './backups.ts';
import { pgarkPath, type RunResult, runProgram } from './cli.ts';
import type { MarkdownPage } from './markdown.ts';
import { makeTempDirectory, type TempDirectory } from './temp.ts';

/** Where commands of pages are carried out as their readers would: by bash, in a folder of their own, with `pgark` on the PATH. */
export class Reader implements AsyncDisposable {
  /** What the reader has set. */
  env: Readonly<Record<string, string>>;
  readonly #folder: TempDirectory;

  private constructor(folder: TempDirectory, env: Readonly<Record<string, string>>) {
    this.#folder = folder;
    this.env = env;
  }

  static async make(env: Readonly<Record<string, string>>): Promise<Reader> {
    const folder = await makeTempDirectory();
    await mkdir(folder.join('bin'));
    await mkdir(folder.join('work'));
    await symlink(pgarkPath, folder.join('bin', 'pgark'));
    const PATH = `${folder.join('bin')}:${process.env['PATH'] ?? ''}`;
    return new Reader(folder, { ...env, PATH });
  }

  join(...parts: readonly string[]): string {
    return path.join(this.#folder.path, 'work', ...parts);
  }

  /** All at once, as one shell; what fails ends it. */
  async run(script: string): Promise<RunResult> {
    const file = this.#folder.join('script.sh');
    await writeFile(file, `set -euo pipefail\n${script}\n`);
    return runProgram('bash', [file], { env: this.env, cwd: this.join() });
  }

  async succeed(script: string): Promise<RunResult> {
    const result = await this.run(script);
    expectExit(result, 0);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** The blocks with this word, one after the other, below a heading or on the whole page. */
export function scriptOf(page: MarkdownPage, word: string, heading?: string): string {
  const from = heading === undefined ? 0 : page.prose.findIndex((line) => line.replace(/^#+ /, '') === heading) + 1;
  if (heading !== undefined && from === 0) throw new Error(`${page.name} has no heading ${heading}`);
  const level = /^#+/.exec(page.prose[from - 1] ?? '')?.[0].length ?? 0;
  const next = page.prose.findIndex((line, index) => index >= from && (/^#+/.exec(line)?.[0].length ?? 9) <= level);
  const to = heading === undefined || next < 0 ? page.prose.length : next;
  const blocks = page.blocks.filter(({ words, line }) => words.includes(word) && line > from && line <= to);
  if (blocks.length === 0) throw new Error(`${page.name} has no block ${word} below ${heading ?? 'its title'}`);
  return blocks.map(({ text }) => text).join('\n');
}

/** Of blocks whose lines are alternatives. */
export function linesOf(script: string): readonly string[] {
  return script.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.replace(/\s+#.*$/, '')]));
}
