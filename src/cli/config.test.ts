import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { runCli } from './program.ts';

const DATABASE = { DATABASE_URL: 'postgres://app@db.lan/shop' };
const BUCKET = { S3_BUCKET: 'backups', S3_ACCESS_KEY_ID: 'AK', S3_SECRET_ACCESS_KEY: 'SK' };

test.each<[string, Record<string, string>, { exit: number; shows: RegExp; leavesOut: RegExp; says: RegExp }]>([
  [
    'contradictions',
    { ...DATABASE, ...BUCKET, PGHOST: 'other.lan' },
    { exit: 1, shows: /^storages\.default\.bucket +backups$/m, leavesOut: /^databases\./m, says: /^error {2}PGHOST: / },
  ],
  [
    'half of the credentials',
    { ...DATABASE, S3_BUCKET: 'backups', S3_ACCESS_KEY_ID: 'AK' },
    { exit: 1, shows: /^databases\./m, leavesOut: /^storages\./m, says: /^error {2}S3_SECRET_ACCESS_KEY: is required/ },
  ],
  [
    'a wrong address of the storage',
    { ...DATABASE, ...BUCKET, S3_ENDPOINT: 'ftp://minio' },
    { exit: 3, shows: /^databases\./m, leavesOut: /^storages\./m, says: /^error {2}S3_ENDPOINT: / },
  ],
  [
    'no database, as where backups are only restored',
    BUCKET,
    {
      exit: 0,
      shows: /^storages\./m,
      leavesOut: /^databases\./m,
      says: /^left out of this, for a backup: DATABASE_URL: /,
    },
  ],
])('config show shows what can be in effect, and ends with what cannot: %s', async (_, environment, expected) => {
  const terminal = recordingTerminal();
  expect(await runCli(['config', 'show'], cliWorld(terminal, environment))).toBe(expected.exit);
  expect(terminal.stdout()).toMatch(expected.shows);
  expect(terminal.stdout()).not.toMatch(expected.leavesOut);
  expect(terminal.stderr()).toMatch(expected.says);
});
