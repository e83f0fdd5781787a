import { isRunId } from '../repository/ids.ts';

/** What is known of a database when patterns are applied. */
export interface CandidateDatabase {
  readonly name: string;
  readonly isTemplate: boolean;
  readonly allowsConnections: boolean;
  readonly mayConnect: boolean;
}

/** What patterns mean on one server at one moment. */
export interface DatabaseChoice {
  /** To be backed up, by name. */
  readonly names: readonly string[];
  /** Chosen by a wildcard, but the role has no right to connect. */
  readonly notPermitted: readonly string[];
  /** Wildcards that no database of the server matches. */
  readonly unmatched: readonly string[];
}

interface Pattern {
  readonly text: string;
  readonly excludes: boolean;
  /** The name that it means, where it holds no wildcard. */
  readonly exact: string | undefined;
  readonly matches: (name: string) => boolean;
}

const RESTORING = '_restoring_';

/**
 * Applies patterns in their order: each adds to what was chosen so far or, with `!` before it, takes away from it. `*`
 * stands for any characters and `?` for one; a backslash takes the meaning from what follows it. Upper and lower case
 * differ, as they do in PostgreSQL.
 *
 * A name without wildcards is always chosen, whether it is there or not: its own backup says what is wrong with it.
 * Wildcards leave out templates, databases that allow no connections, and what a restore of pgark's is loading.
 */
export function selectDatabases(patterns: readonly string[], databases: readonly CandidateDatabase[]): DatabaseChoice {
  const chosen = new Map<string, { readonly mayConnect: boolean }>();
  const unmatched: string[] = [];
  for (const pattern of patterns.map(parsePattern)) {
    if (pattern.excludes) {
      for (const name of [...chosen.keys()].filter(pattern.matches)) chosen.delete(name);
    } else if (pattern.exact !== undefined) {
      chosen.set(pattern.exact, { mayConnect: true });
    } else {
      const matching = databases.filter(({ name }) => pattern.matches(name));
      if (matching.length === 0) unmatched.push(pattern.text);
      for (const database of matching.filter(isOrdinary)) {
        if (!chosen.has(database.name)) chosen.set(database.name, database);
      }
    }
  }
  const of = (permitted: boolean): string[] =>
    [...chosen]
      .filter(([, { mayConnect }]) => mayConnect === permitted)
      .map(([name]) => name)
      .sort();
  return { names: of(true), notPermitted: of(false), unmatched };
}

/** What the patterns choose of names that were databases once; and names without wildcards in any case. */
export function selectNames(patterns: readonly string[], names: Iterable<string>): readonly string[] {
  const ordinary = { isTemplate: false, allowsConnections: true, mayConnect: true };
  return selectDatabases(
    patterns,
    [...names].map((name) => ({ name, ...ordinary })),
  ).names;
}

/** Whether the patterns may ever choose more than one database. */
export function mayChooseSeveral(patterns: readonly string[]): boolean {
  const including = patterns.map(parsePattern).filter(({ excludes }) => !excludes);
  return including.some(({ exact }) => exact === undefined) || new Set(including.map(({ exact }) => exact)).size > 1;
}

function isOrdinary({ name, isTemplate, allowsConnections }: CandidateDatabase): boolean {
  return !isTemplate && allowsConnections && !isBeingRestored(name);
}

/** `NAME_restoring_RUN`: the half-loaded database of a restore, which gets its name when it is whole. */
function isBeingRestored(name: string): boolean {
  const start = name.lastIndexOf(RESTORING);
  return start > 0 && isRunId(name.slice(start + RESTORING.length));
}

function parsePattern(text: string): Pattern {
  const excludes = text.startsWith('!');
  const body = excludes ? text.slice(1) : text;
  let source = '';
  let exact: string | undefined = '';
  for (const [token, escaped] of body.matchAll(/\\([^])|\*+|[^]/gu)) {
    const literal = escaped ?? token;
    if (escaped === undefined && (token.startsWith('*') || token === '?')) {
      source += token === '?' ? '[^]' : '[^]*';
      exact = undefined;
    } else {
      source += literal.replace(/[\\^$.*+?()[\]{}|/]/, String.raw`\$&`);
      if (exact !== undefined) exact += literal;
    }
  }
  const expression = new RegExp(`^${source}$`, 'u');
  return { text, excludes, exact, matches: (name) => expression.test(name) };
}
