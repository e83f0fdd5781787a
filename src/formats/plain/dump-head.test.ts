import { describe, expect, test } from 'vitest';
import { DUMP_HEAD_BYTES, isOutOfStep, readDumpHead } from './dump-head.ts';

const SQL_HEAD = `--
-- PostgreSQL database dump
--

\\restrict Yq3fW0dTtWm2

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 18.6 (Debian 18.6-3)

SET statement_timeout = 0;
`;

function integer(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = value < 0 ? 1 : 0;
  bytes.writeUInt32LE(Math.abs(value), 1);
  return bytes;
}

function string(text: string | undefined): Buffer {
  return text === undefined ? integer(-1) : Buffer.concat([integer(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** The header as `WriteHead` in pg_dump's pg_backup_archiver.c writes it. */
function archiveHead(minor: number, database: string | undefined, server: string, writtenBy: string): Buffer {
  return Buffer.concat([
    Buffer.from('PGDMP'),
    Buffer.from([1, minor, 0, 4, 8, 1]),
    minor >= 15 ? Buffer.from([1]) : integer(-1),
    ...[11, 30, 15, 20, 10, 126, 0].map(integer),
    string(database),
    string(server),
    string(writtenBy),
    Buffer.alloc(DUMP_HEAD_BYTES),
  ]).subarray(0, DUMP_HEAD_BYTES);
}

describe('the head of a dump', () => {
  test('of SQL text says which server it is from, and which pg_dump wrote it', () => {
    expect(readDumpHead(Buffer.from(SQL_HEAD))).toEqual({
      kind: 'sql',
      server: { major: 15, minor: 20 },
      writtenBy: { major: 18, minor: 6 },
    });
    expect(readDumpHead(Buffer.from(SQL_HEAD.replaceAll('\n', '\r\n')))?.writtenBy).toEqual({ major: 18, minor: 6 });
  });

  test('of some other tool says nothing, and is SQL all the same', () => {
    expect(readDumpHead(Buffer.from('CREATE TABLE t (a int);'))).toEqual({ kind: 'sql' });
  });

  test.each([
    [13, 'shop'],
    [14, 'shop'],
    [15, 'shop'],
    [16, 'n'.repeat(63)],
    [16, undefined],
  ])('of an archive of format 1.%i says the same', (minor, database) => {
    expect(readDumpHead(archiveHead(minor, database, '13.16 (Debian 13.16-0+deb11u1)', '17.11'))).toEqual({
      kind: 'archive',
      server: { major: 13, minor: 16 },
      writtenBy: { major: 17, minor: 11 },
    });
  });

  test('of an archive that is cut or strange tells its kind', () => {
    const whole = archiveHead(16, 'shop', '17.11', '17.11');
    for (let bytes = 5; bytes < 80; bytes++) {
      expect(readDumpHead(whole.subarray(0, bytes))).toMatchObject({ kind: 'archive' });
    }
    const strange = Buffer.from(whole);
    strange.fill(0x7f, 12);
    expect(readDumpHead(strange)).toEqual({ kind: 'archive' });
  });

  test.each([[''], ['\0\0'], ['SELECT\0']])('is none of what is no text (%j)', (text) => {
    expect(readDumpHead(Buffer.from(text))).toBeUndefined();
  });

  test.each([
    [{ major: 15, minor: 20 }, { major: 15, minor: 20 }, false],
    [{ major: 15, minor: 18 }, { major: 15, minor: 20 }, false],
    [{ major: 15, minor: 20 }, { major: 15, minor: 18 }, true],
    [{ major: 15, minor: 20 }, { major: 18, minor: 6 }, true],
  ])('tells whether pg_dump is out of step with the server (%j, %j)', (server, writtenBy, expected) => {
    expect(isOutOfStep({ kind: 'sql', server, writtenBy })).toBe(expected);
    expect(isOutOfStep({ kind: 'sql', server })).toBe(false);
  });
});
