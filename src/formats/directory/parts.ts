import { TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import { RELATIONS } from './find-entries.ts';

/** What belongs to the object that it depends on, and is nothing without it. */
export const PARTS: ReadonlySet<string> = new Set([
  TABLE_DATA,
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DEFAULT',
  'INDEX',
  'MATERIALIZED VIEW DATA',
  'POLICY',
  'ROW SECURITY',
  'RULE',
  // Of an identity column it is a part of the table; so it is of a serial one.
  'SEQUENCE',
  'STATISTICS',
  'STATISTICS DATA',
  'TRIGGER',
]);

/**
 * What comes along only if all that it depends on does: what joins two objects, and what is said of one, which counts for
 * those too that others need: without its rights a function is everybody's.
 */
export const COMPANIONS: ReadonlySet<string> = new Set([
  'ACL',
  'COMMENT',
  'FK CONSTRAINT',
  'INDEX ATTACH',
  'SECURITY LABEL',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'TABLE ATTACH',
]);

/**
 * What an entry is a part of: the only relation that it depends on; of several, the one whose name its own begins with, as
 * those of constraints, policies, rules, triggers and defaults do.
 */
export function wholeOf(
  { description, dependencies, tag, namespace }: TocEntry,
  byId: ReadonlyMap<number, TocEntry>,
): TocEntry | undefined {
  if (!PARTS.has(description) && description !== 'FK CONSTRAINT') return undefined;
  const needed = dependencies.flatMap((dumpId) => byId.get(dumpId) ?? []);
  const relations = needed.filter((each) => RELATIONS.has(each.description));
  const candidates = [...new Set(relations.length === 0 ? needed : relations)];
  if (candidates.length === 1) return candidates[0];
  return candidates
    .filter((each) => each.namespace === namespace && (tag === each.tag || tag.startsWith(`${each.tag} `)))
    .toSorted((a, b) => b.tag.length - a.tag.length)[0];
}
