import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../common/log.ts';
import { serverErrorOf } from '../../postgres/client/server-error.ts';
import { loadScript } from './load.ts';

describe('loading a script', () => {
  test.each([
    [15, 13],
    [17, 5],
    [12, 22],
  ])(
    'psql %i.%i, which would run the dump’s own commands, is refused before it reads anything',
    async (major, minor) => {
      let read = false;
      async function* body(): AsyncGenerator<Uint8Array> {
        read = true;
        yield Buffer.from('SELECT 1;\n');
      }
      const loading = loadScript(body(), {
        connection: { host: '/nonexistent', port: 1, user: 'u', database: 'd', sslMode: 'disable' },
        program: { path: '/nonexistent/psql', major, minor, version: `${major}.${minor}` },
        serverMajor: 15,
        singleTransaction: true,
        applicationName: 'test',
        logger: silentLogger,
      });
      await expect(loading).rejects.toMatchObject({ code: 'client-missing' });
      await expect(loading).rejects.toThrow(`psql ${major}.${minor} does not know \\restrict`);
      expect(read).toBe(false);
    },
  );

  test.each([
    ['exit 3', '42P07'],
    ['kill -9 $$', undefined],
  ])('what the server said last is why psql has failed unless it was killed: %s', async (ending, sqlState) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'pgark-psql-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const psql = path.join(folder, 'psql');
    const said = 'psql:<stdin>:8: FEHLER:  42P07: Relation »t« existiert bereits';
    await writeFile(psql, `#!/bin/sh\ncat >/dev/null\necho '${said}' >&2\n${ending}\n`);
    await chmod(psql, 0o755);
    async function* body(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('SELECT 1;\n');
    }
    const loading = loadScript(body(), {
      connection: { host: '/nonexistent', port: 1, user: 'u', database: 'd', sslMode: 'disable' },
      program: { path: psql, major: 18, minor: 1, version: '18.1' },
      serverMajor: 18,
      singleTransaction: true,
      applicationName: 'test',
      logger: silentLogger,
    });
    const failure = await loading.catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'restore-failed', details: sqlState === undefined ? {} : { sqlState } });
    expect(serverErrorOf(failure)?.sqlState).toBe(sqlState);
  });
});
