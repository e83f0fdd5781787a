import { type DumpFormat, isOutOfStep } from './dump-head.ts';
import type { StatementEdit } from './sql-scanner.ts';

/** Nothing in the place of a statement; lines keep their numbers. */
export function emptied(statement: string): string {
  return statement.replaceAll(/[^\n]+/g, '');
}

/**
 * PostgreSQL 15.20 and 17.12 keep a version of each column among the column's options. Their own pg_dump leaves that out; one
 * that does not know it writes `ALTER TABLE ONLY t ALTER COLUMN c SET (pg_attver=22097032);`, which these servers ignore
 * and every other one rejects.
 */
const COLUMN_VERSIONS: StatementEdit = {
  begins: /^ALTER (?:FOREIGN )?TABLE ONLY /,
  edit(statement) {
    const match = COLUMN_OPTIONS.exec(statement);
    if (match === null) return statement;
    const [, before = '', options = ''] = match;
    const kept = options.split(', ').filter((option) => !/^pg_attver=\d+$/.test(option));
    return kept.length === 0 ? emptied(statement) : `${before}(${kept.join(', ')});`;
  },
};
const COLUMN_OPTIONS =
  /^((?:[^"]|"[^"]*")* ALTER COLUMN (?:\w+|(?:"[^"]*")+) SET )\(((?:\w+=[^,()'" ]+, )*pg_attver=\d+(?:, \w+=[^,()'" ]+)*)\);$/;

/**
 * Older servers did with every subscription what newer ones do only if they are told to, and had no word for it. A newer
 * pg_dump says it, for the newer server that it writes for: which version knows the word.
 */
const SUBSCRIPTION_OPTIONS: readonly { readonly text: string; readonly since: number }[] = [
  { text: 'streaming = off', since: 14 },
  { text: 'run_as_owner = true', since: 16 },
];

function subscriptionsFor(serverMajor: number): StatementEdit {
  const unknown = SUBSCRIPTION_OPTIONS.filter(({ since }) => serverMajor < since).map(({ text }) => text);
  return {
    begins: /^CREATE SUBSCRIPTION /,
    edit(statement) {
      const optionsAt = statement.lastIndexOf(' WITH (connect = false, ');
      if (optionsAt < 0) return statement;
      const options = unknown.reduce((rest, text) => rest.replace(`, ${text}`, ''), statement.slice(optionsAt));
      return statement.slice(0, optionsAt) + options;
    },
  };
}

/** What is changed in every dump of a pg_dump that is out of step with its server: it is no part of the database. */
export function editsAtDump(head: DumpFormat): readonly StatementEdit[] {
  return isOutOfStep(head) ? [COLUMN_VERSIONS] : [];
}

/** What is changed in a dump so that a server of this major version takes it. */
export function editsAtLoad(serverMajor: number): readonly StatementEdit[] {
  return [COLUMN_VERSIONS, subscriptionsFor(serverMajor)];
}

const PUBLIC_MAY_NOT_CREATE_SINCE = 15;

/**
 * From 15 on nobody but its owner may create in schema public of a new database. A pg_dump of then takes that for granted,
 * also of an older server, and writes a grant where the right is there. SQL that makes a new database of an older server
 * what such a dump expects, or nothing.
 */
export function preambleFor(head: DumpFormat, serverMajor: number): string {
  const assumesIt = (head.writtenBy?.major ?? 0) >= PUBLIC_MAY_NOT_CREATE_SINCE;
  if (!assumesIt || serverMajor >= PUBLIC_MAY_NOT_CREATE_SINCE) return '';
  return `DO $pgark$ BEGIN IF pg_catalog.to_regnamespace('public') IS NOT NULL THEN REVOKE CREATE ON SCHEMA public FROM PUBLIC; END IF; END $pgark$;\n`;
}
