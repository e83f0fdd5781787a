import path from 'node:path';
import { access } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { TorturedArchive } from '../support/recovery-torture.ts';
import { readMatrixFolders } from './matrix-servers.ts';

const { servers, clients } = await readMatrixFolders();
const newestClient = [...clients.values()].at(-1)?.binDir;
const newest = Math.max(...servers.keys());

describe('a recovery to any moment of a bad day', { timeout: 3_600_000 }, () => {
  test.each([...servers])(
    'PostgreSQL %i brings back exactly what was committed by then, with pgbench beside it',
    async (major, binDir) => {
      const count = major === newest ? 100 : 10;
      const clientDir = await whereThere('pg_basebackup', binDir);
      const benchDir = await whereThere('pgbench', binDir);
      await using tortured = await TorturedArchive.make({
        rows: 400,
        refusalMs: 60_000,
        binDir,
        clientDir,
        benchDir,
      });
      expect(await tortured.failuresAt(tortured.aims(count))).toEqual([]);
    },
  );
});

/** The server's own folder, or that of the newest clients. */
async function whereThere(program: string, binDir: string): Promise<string> {
  return access(path.join(binDir, program)).then(
    () => binDir,
    () => newestClient ?? binDir,
  );
}
