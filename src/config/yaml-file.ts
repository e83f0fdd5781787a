import { basename } from 'node:path';
import { type Document, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { type Origins, type Path, pathText } from './origins.ts';
import type { Problems } from './problems.ts';

const ALIASES_MAX = 100;

/** What the parser's codes mean, in words of our own: its messages quote the file, which may hold secrets. */
const yamlProblems: Readonly<Record<string, string>> = {
  ALIAS_PROPS: 'an alias cannot have an anchor or a tag',
  BAD_ALIAS: 'an alias names no anchor that came before it',
  BAD_DQ_ESCAPE: 'a text in double quotes has an unknown escape; double the backslash, or use single quotes',
  BAD_INDENT: 'the indentation does not fit the lines around it',
  BAD_SCALAR_START: 'a text begins with a character that YAML reserves; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a nested map begins on the line of another; put a value with ": " in quotes',
  BLOCK_IN_FLOW: 'lines with indentation cannot stand inside { } or [ ]',
  DUPLICATE_KEY: 'this key is here twice',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a closing quote, bracket, colon or comma is missing',
  MULTILINE_IMPLICIT_KEY: 'a key has several lines, or its colon is missing',
  MULTIPLE_DOCS: 'the file holds several documents (---); only one is allowed',
  RESOURCE_EXHAUSTION: 'it is nested too deeply',
  TAB_AS_INDENT: 'a tab indents this line; YAML wants spaces',
  TAG_RESOLVE_FAILED: 'tags (!name) are not supported',
  UNEXPECTED_TOKEN: 'this does not belong here',
};

/**
 * Reads a YAML 1.2 file into plain values, with `${VAR}`, `${VAR:-default}` and `$${` replaced in texts, and notes where
 * each value stands. Undefined if it is not YAML at all; everything wrong is reported.
 */
export function readYaml(
  source: string,
  options: {
    readonly file: string;
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly origins: Origins;
    readonly problems: Problems;
  },
): unknown {
  const { file, origins, problems } = options;
  const lines = new LineCounter();
  const whereOf = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false, stringKeys: true, version: '1.2' });
  for (const error of [...document.errors, ...document.warnings]) {
    const message = yamlProblems[error.code] ?? `is not valid YAML (${error.code})`;
    problems.add({ code: 'config-invalid', where: whereOf(error.pos[0]), message });
  }
  if (document.errors.length > 0) return undefined;
  const badAliases = notePlaces(document, (path, offset, isWhole) => {
    const where = whereOf(offset);
    origins.set(path, { where, origin: `file: ${basename(file)}:${lines.linePos(offset).line}`, isWhole });
  });
  for (const offset of badAliases) {
    const message = 'an alias (*name) must follow its anchor (&name), and not stand inside of it; put a text in quotes';
    problems.add({ code: 'config-invalid', where: whereOf(offset), message });
  }
  if (badAliases.length > 0) return undefined;
  let tree: unknown;
  try {
    tree = document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch {
    // What else could be wrong was looked at before; the library's own message may quote the file.
    problems.add({ code: 'config-invalid', where: file, message: 'its aliases expand too far' });
    return undefined;
  }
  return interpolate(
    tree,
    [],
    (path, text) => origins.setReference(path, text),
    (path, variable) => {
      problems.add({
        code: 'config-missing',
        where: `${origins.get(path)?.where ?? file}: ${pathText(path)}`,
        message:
          variable === undefined
            ? 'has a ${ that begins no ${VAR} or ${VAR:-default}; write $${ for the characters themselves'
            : `needs the environment variable ${variable}, which is not set`,
        ...(variable !== undefined && { hint: 'set it, or write ${VAR:-default}' }),
      });
    },
    options.env,
  );
}

/**
 * Calls `note` with each value's path and position; for a map's entries that is the position of the key. Returns where
 * there are aliases that lead nowhere or into themselves.
 */
function notePlaces(
  document: Document.Parsed,
  note: (path: Path, offset: number, isWhole: boolean) => void,
): readonly number[] {
  const badAliases: number[] = [];
  let aliasesLeft = ALIASES_MAX;
  const visit = (node: unknown, path: Path, around: readonly unknown[]): void => {
    if (isAlias(node)) {
      const target = node.resolve(document);
      if (target === undefined || around.includes(target)) badAliases.push(node.range?.[0] ?? 0);
      else if (aliasesLeft-- > 0) visit(target, path, around);
    } else if (isMap(node)) {
      for (const pair of node.items) {
        if (!isPair(pair) || !isScalar(pair.key)) continue;
        const inner = [...path, String(pair.key.value)];
        note(inner, (pair.key as Node).range?.[0] ?? 0, !isMap(pair.value));
        visit(pair.value, inner, [...around, node]);
      }
    } else if (isSeq(node)) {
      node.items.forEach((item, index) => {
        const range = (item as Node | null)?.range;
        if (range) note([...path, index], range[0], !isMap(item));
        visit(item, [...path, index], [...around, node]);
      });
    }
  };
  visit(document.contents, [], []);
  return badAliases;
}

const REFERENCE = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{/g;

/**
 * The value with its references replaced. `note` hears of each text that has any, `complain` of a variable that is not set, or
 * of a broken reference.
 */
function interpolate(
  value: unknown,
  path: Path,
  note: (path: Path, text: string) => void,
  complain: (path: Path, variable: string | undefined) => void,
  env: Readonly<Record<string, string | undefined>>,
): unknown {
  if (typeof value === 'string') {
    return value.replace(REFERENCE, (match, name: string | undefined, fallback: string | undefined) => {
      if (match === '$${') return '${';
      if (name === undefined) {
        complain(path, undefined);
        return match;
      }
      note(path, value);
      const found = env[name];
      if (found !== undefined && found !== '') return found;
      if (fallback === undefined) complain(path, name);
      return fallback ?? '';
    });
  }
  if (Array.isArray(value)) return value.map((item, index) => interpolate(item, [...path, index], note, complain, env));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, interpolate(inner, [...path, key], note, complain, env)]),
    );
  }
  return value;
}
