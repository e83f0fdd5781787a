import type { Manifest } from './manifest.ts';

/** As many as anybody looks at; a manifest is read whole, with all others of its repository. */
const RECORDED_MAX = 100;
const SHOWN_MAX = 5;

/** What a manifest records of tables whose rows could not be read. Their names are not for the open part of an encrypted backup. */
export function unreadFields(
  tables: readonly string[],
  encrypted: boolean,
): Pick<Manifest, 'unreadable' | 'unreadableCount'> {
  if (tables.length === 0) return { unreadable: [] };
  return { unreadable: encrypted ? [] : tables.slice(0, RECORDED_MAX), unreadableCount: tables.length };
}

/** For people: `2 tables: public.jobs, public.sessions`; undefined where everything was read. */
export function describeUnread({
  unreadable,
  unreadableCount = unreadable.length,
}: Pick<Manifest, 'unreadable' | 'unreadableCount'>): string | undefined {
  if (unreadableCount === 0) return undefined;
  const shown = unreadable.slice(0, SHOWN_MAX);
  const more = unreadableCount - shown.length;
  const names = shown.length === 0 ? '' : `: ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `${unreadableCount} ${unreadableCount === 1 ? 'table' : 'tables'}${names}`;
}
