import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const projectRoot = fileURLToPath(new URL('../../', import.meta.url));

/** A fenced block. Of "```sh run backup" the language is `sh`, and `run backup` are its words. */
interface MarkdownBlock {
  readonly language: string;
  readonly words: readonly string[];
  readonly text: string;
  /** Of its first line, from 1. */
  readonly line: number;
}

export interface MarkdownPage {
  /** From the project's root. */
  readonly name: string;
  readonly text: string;
  readonly blocks: readonly MarkdownBlock[];
  /** What is outside of fenced blocks, line by line; lines inside of them are empty. */
  readonly prose: readonly string[];
  /** By which its headings are linked, as GitHub makes them. */
  readonly anchors: ReadonlySet<string>;
}

/** A page of the project, such as `docs/security.md`. */
export async function readPage(name: string): Promise<MarkdownPage> {
  const text = await readFile(path.join(projectRoot, name), 'utf8');
  const blocks: MarkdownBlock[] = [];
  const prose: string[] = [];
  let open: { readonly fence: string; readonly info: readonly string[]; readonly line: number } | undefined;
  let lines: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^\s*(`{3,})(.*)$/.exec(line);
    if (open !== undefined && line.trim() === open.fence) {
      const [language = '', ...words] = open.info;
      blocks.push({ language, words, text: lines.join('\n'), line: open.line });
      [open, lines] = [undefined, []];
    } else if (open !== undefined) {
      lines.push(line);
    } else if (fence !== null) {
      open = { fence: fence[1] ?? '', info: (fence[2] ?? '').trim().split(/\s+/), line: index + 2 };
    }
    prose.push(open === undefined && fence === null ? line : '');
  }
  if (open !== undefined) throw new Error(`${name}:${open.line}: the block is not closed`);
  return { name, text, blocks, prose, anchors: anchorsOf(prose) };
}

/** The only block with these words, such as `dump-role`. */
export function blockOf(page: MarkdownPage, ...words: readonly string[]): string {
  const found = page.blocks.filter((block) => words.every((word) => block.words.includes(word)));
  if (found.length !== 1) throw new Error(`${page.name} has ${found.length} blocks of ${words.join(' ')}`);
  return found[0]?.text ?? '';
}

/** All Markdown files of the project, without those of packages. */
export async function pageNames(): Promise<string[]> {
  const names: string[] = [];
  const walk = async (folder: string): Promise<void> => {
    for (const entry of await readdir(path.join(projectRoot, folder), { withFileTypes: true })) {
      const name = path.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!['node_modules', '.git', 'dist'].includes(entry.name)) await walk(name);
      } else if (entry.name.endsWith('.md')) names.push(name);
    }
  };
  await walk('');
  return names.sort();
}

function anchorsOf(prose: readonly string[]): Set<string> {
  const anchors = new Set<string>();
  for (const line of prose) {
    const title = /^#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (title === undefined) continue;
    const words = title.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const slug = words.replace(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-');
    let anchor = slug;
    for (let n = 1; anchors.has(anchor); n += 1) anchor = `${slug}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}
