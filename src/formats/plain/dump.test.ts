import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../common/log.ts';
import { dumpPlain } from './dump.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgark-dump-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** The dump that a program of the given text makes in pg_dump's place, and the warnings on the way. */
async function dumpBy(
  shell: string,
  versions: { readonly client: number; readonly server: number },
): Promise<{ readonly text: string; readonly warnings: readonly string[] }> {
  const path = join(folder, `dump-${versions.client}-${versions.server}`);
  await writeFile(path, `#!/bin/sh\n${shell}\n`);
  await chmod(path, 0o755);
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warning: (event) => warnings.push(event) };
  const chunks: Uint8Array[] = [];
  const dump = dumpPlain({
    connection: { host: '127.0.0.1', port: 1, user: 'u', database: 'd', sslMode: 'disable' },
    pgDump: { path, major: versions.client, minor: 0, version: `${versions.client}.0` },
    serverMajor: versions.server,
    excludeTableData: [],
    applicationName: 'test',
    logger,
  });
  for await (const chunk of dump) chunks.push(chunk);
  return { text: Buffer.concat(chunks).toString(), warnings };
}

const DUMP = `--\nSET transaction_timeout = 0;\nSELECT 1;\n-- PostgreSQL database dump complete\n`;
const PRINTED = `cat <<'END'\n${DUMP}END`;

test('a large object that may not be read is told with the grant that helps', async () => {
  const shell = `echo 'pg_dump: error: query failed: ERROR:  permission denied for large object 77' >&2; exit 1`;
  await expect(dumpBy(shell, { client: 17, server: 17 })).rejects.toMatchObject({
    code: 'postgres-privileges',
    hint: expect.stringMatching(/^GRANT SELECT ON LARGE OBJECT OID TO /),
  });
});

describe('a dump by a pg_dump that is newer than the server', () => {
  test('is fit for that server, and the log says so', async () => {
    expect(await dumpBy(PRINTED, { client: 17, server: 15 })).toEqual({
      text: DUMP.replace('SET ', '--  '),
      warnings: ['dump.newer_client'],
    });
  });

  test('is what a pg_dump of the server’s own version wrote, otherwise', async () => {
    expect(await dumpBy(PRINTED, { client: 17, server: 17 })).toEqual({ text: DUMP, warnings: [] });
  });
});

test('pg_dump waits five minutes for its locks, not without end', async () => {
  const { text } = await dumpBy(`echo "$@"; echo 'PostgreSQL database dump complete'`, { client: 18, server: 18 });
  expect(text).toContain('--lock-wait-timeout=300000');
});
