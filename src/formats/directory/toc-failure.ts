import type { ProgramFailure } from '../../common/child-process.ts';
import type { PgarkError } from '../../common/errors.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { isEnglish, type Language } from '../../postgres/client/in-english.ts';
import { explainDumpFailure, isUnderstood } from '../dump-failure.ts';
import { CatalogueChanged, TablesChanged } from './lock-tables.ts';

/** pg_dump was kept from its locks. */
const KEPT_WAITING = /canceling statement due to (lock|statement) timeout[^]*LOCK TABLE/;
/**
 * What pg_dump says where something was changed that no lock on a table protects, such as the name of a schema, or a
 * function that was dropped: its catalogue is that of the snapshot, and what it asks the server for is that of now. Damage
 * sounds the same.
 */
const MISSED =
  /(relation|schema|function|type|operator) .*does not exist|cache lookup failed|could not open relation with OID|definition of view|could not find function definition/;

/** What pg_dump says in English of a query that failed, whatever the server's own words are. */
const QUERY_FAILED = /query failed: /;
/** The severity is the server's; some languages have the same word for it. */
const QUERY_FAILED_BY_ERROR = /query failed: ERROR: /;

/**
 * What it means for a dump that pg_dump gave no table of contents: `TablesChanged` if it was kept from its locks, `CatalogueChanged` if it
 * missed what it had just seen. What a server says in another language is taken for the second: all tables are locked already, so
 * that pg_dump has missed its turn or what was changed. Whatever fails again and again is told for what it is in the end.
 */
export async function explainTocFailure(
  failure: ProgramFailure,
  connection: ConnectionParameters,
  readLanguage: () => Promise<Language>,
): Promise<TablesChanged | CatalogueChanged | PgarkError> {
  const explained = explainDumpFailure(failure, connection);
  const words = failure.stderrLines.join('\n');
  if (KEPT_WAITING.test(words)) return new TablesChanged(explained.message, { cause: explained });
  if (MISSED.test(words)) return new CatalogueChanged(explained.message, { cause: explained });
  if (isUnderstood(failure) || !QUERY_FAILED.test(words)) return explained;
  if (await isSaidInEnglish(words, readLanguage)) return explained;
  return new CatalogueChanged(explained.message, { cause: explained });
}

/** The severity comes first: a server may go by its environment, whatever its setting. A session that is lost has its own error. */
async function isSaidInEnglish(words: string, readLanguage: () => Promise<Language>): Promise<boolean> {
  if (!QUERY_FAILED_BY_ERROR.test(words)) return false;
  const { messages } = await readLanguage().catch(() => ({ messages: 'C' }));
  return isEnglish(messages);
}
