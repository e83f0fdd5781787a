import { isUtf8 } from 'node:buffer';
import { PgarkError } from '../../common/errors.ts';
import type { Session } from '../../postgres/client/connect.ts';

/**
 * SQL of an archive, such as names, as it is told to the server, whose session is in UTF-8: the server knows all encodings.
 * `SQL_ASCII` is none: what is no UTF-8 then cannot be said. Error: `archive-unsupported`.
 */
export async function decodeName(session: Session, text: string, encoding: string): Promise<string> {
  const bytes = Buffer.from(text, 'latin1');
  if (encoding !== 'UTF8' && encoding !== 'SQL_ASCII') {
    const [row] = await session.query<{ text: string }>('select pg_catalog.convert_from($1, $2) as text', [
      bytes,
      encoding,
    ]);
    return row?.text ?? '';
  }
  if (isUtf8(bytes)) return bytes.toString();
  throw new PgarkError(
    'archive-unsupported',
    `a name in ${bytes.toString()} is not in UTF-8, in an archive of encoding ${encoding}`,
    { hint: 'restore it with pg_restore: pgark download writes the folder that it reads' },
  );
}
