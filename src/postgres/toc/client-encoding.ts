import { damagedToc } from './toc-input.ts';
import type { Toc } from './toc.ts';

/**
 * In which encoding an archive's strings and rows are, as PostgreSQL names it: `UTF8`. pg_restore sets it before anything
 * else (`processEncodingEntry` in pg_backup_archiver.c). Error: `corrupt` for a table of contents that does not say it.
 */
export function clientEncodingOf({ entries }: Pick<Toc, 'entries'>): string {
  const definition = entries.find(({ description }) => description === 'ENCODING')?.definition;
  const encoding = /^SET client_encoding = '(\w+)';\n$/.exec(definition ?? '')?.[1];
  if (encoding === undefined) throw damagedToc('it does not say in which encoding it is');
  return encoding;
}
