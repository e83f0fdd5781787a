import { describe, expect, test } from 'vitest';
import { silentLogger } from '../../common/log.ts';
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
});
