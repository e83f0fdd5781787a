import { MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { type ByteString, readable } from './byte-string.ts';
import { TABLE_DATA, type TocEntry } from './toc.ts';

/** What the COPY statement of a `TABLE DATA` entry names; SQL in the client encoding of the dump. */
interface CopyTarget {
  /** The table to load: `public."T able"`. Not always the one that was read, such as the root of its partitions. */
  readonly relation: ByteString;
  /** `id, "b c"`: in the order of the data, without generated columns. Empty for a table without columns. */
  readonly columns: ByteString;
}

/** Beyond what 1,600 columns, the most that a table has, can take by names of 63 bytes. */
const STATEMENT_BYTES_MAX = MIB;
const END = ' FROM stdin;\n';
/** Quoted, with quotes in it doubled; or of letters, which beyond ASCII are bytes of any encoding. */
const NAME = String.raw`(?:"(?:[^"]|"")+"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)`;
/** As `dumpTableData` in PostgreSQL's pg_dump.c makes it, which writes both blanks also where there are no columns. */
const COPY = new RegExp(`^COPY (${NAME}(?:\\.${NAME})*) (?:\\((${NAME}(?:, ${NAME})*)\\))?$`);

/** Takes the statement apart. Error: `corrupt` for one that pg_dump does not write. */
export function readCopyStatement(entry: TocEntry): CopyTarget {
  const statement = entry.copyStatement ?? '';
  // From its end, and once: names may hold the same words.
  const isFit = entry.description === TABLE_DATA && statement.endsWith(END) && statement.length <= STATEMENT_BYTES_MAX;
  const match = isFit ? COPY.exec(statement.slice(0, -END.length)) : null;
  if (match === null) {
    throw new PgarkError(
      'corrupt',
      `the entry ${entry.dumpId} (${readable(entry.description)} ${readable(entry.tag)}) has no COPY statement of the form that pg_dump writes`,
    );
  }
  const [, relation = '', columns = ''] = match;
  return { relation: relation as ByteString, columns: columns as ByteString };
}
