import { expect, test } from 'vitest';
import { rolesInSql } from './global-roles.ts';

/** `日本` in EUC_JP. */
const JAPAN = Buffer.from('c6fccbdc', 'hex');
const BEGINNING = `--
-- PostgreSQL database cluster dump
--

SET client_encoding = 'EUC_JP';

CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT;
`;

/** As it is stored: behind what pg_dumpall writes, what it does not know of databases. */
function globals(...lines: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(lines.map((line) => Buffer.from(line)));
}

test('names of roles are read in the encoding that is said, whatever follows in UTF-8', () => {
  const sql = globals(
    BEGINNING,
    'CREATE ROLE "',
    JAPAN,
    '";\nALTER ROLE "',
    JAPAN,
    `" WITH SUPERUSER INHERIT;\n--\n-- PostgreSQL database cluster dump complete\n--\n\nSET client_encoding = 'UTF8';\n`,
    'DO $pgark$\nBEGIN\n    ALTER DATABASE "größe" OWNER TO "日本";\nEND\n$pgark$;\n',
  );
  expect(rolesInSql(sql)).toEqual([
    { name: 'postgres', isSuperuser: true },
    { name: '日本', isSuperuser: true },
  ]);
});

test('a name in another encoding leaves those of others as they are', () => {
  const sql = globals(BEGINNING, 'CREATE ROLE "j', Buffer.from([0xf6]), 'rg";\nCREATE ROLE "', JAPAN, '";\n');
  expect(rolesInSql(sql).map(({ name }) => name)).toEqual(['postgres', 'j\ufffdrg', '日本']);
});
