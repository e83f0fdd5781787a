import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from '../config/load.ts';
import { pruneReports } from './prune-reports.ts';

test('a prune is told of each database that was planned over, not of the one that is asked for names', async () => {
  await using folder = await makeTempDirectory();
  const text = `version: 1
storages: { near: { type: file, path: backups }, far: { type: file, path: others } }
retention: { short: { keep: { last: 3 } } }
databases:
  main: { url: "postgres://u:p@db/postgres", databases: ["*"], jobs: { nightly: { to: [near], retention: short } } }
  shop: { url: "postgres://u:p@db/shop", jobs: { nightly: { to: [near], retention: short } } }
  elsewhere: { url: "postgres://u:p@db/elsewhere", jobs: { nightly: { to: [far], retention: short } } }
`;
  await writeFile(folder.join('pgark.yaml'), text);
  const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const row = (source: string, database: string) => ({ id: `${source} ${database}`, source, database });
  const reports = pruneReports(config, 'near', {
    plan: {
      keep: [{ ...row('main', 'crm'), reasons: ['newest'] }],
      remove: [
        { ...row('main', 'stock'), reason: 'expired' },
        { ...row('main', 'crm'), reason: 'expired' },
      ],
    },
    refused: [{ source: 'main', database: 'stock', removeCount: 5, totalCount: 8 }],
    wal: [
      {
        source: 'shop',
        systemIdentifier: '7380000000000000001',
        segments: 0,
        otherObjects: 0,
        bytes: 0,
        uploads: 0,
        locked: 0,
        keepsAll: undefined,
        refused: { lostCount: 3, totalCount: 4 },
      },
    ],
  });
  expect(reports.map(({ source, database, error }) => [source, database, error?.code])).toEqual([
    ['main', 'crm', undefined],
    ['main', 'stock', 'prune-refused'],
    ['shop', 'shop', 'prune-refused'],
  ]);
});
