import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const PLAIN = '20261120T020000Z-paaaaaa';
const ARCHIVE = '20261120T020000Z-daaaaaa';
const BASE = '20261120T020000Z-faaaaaa';

/** What lies in a directory, as `pgark list` prints it, with sources of these names configured. */
async function listed(files: readonly string[], sources: readonly string[]): Promise<string> {
  await using folder = await makeTempDirectory();
  for (const file of files) {
    await mkdir(path.dirname(folder.join('store', file)), { recursive: true });
    await writeFile(folder.join('store', file), '{');
  }
  const configuration = {
    version: 1,
    storages: { local: { type: 'file', path: 'store' } },
    databases: Object.fromEntries(sources.map((name) => [name, { url: `postgres://app@127.0.0.1:1/${name}` }])),
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(configuration), { mode: 0o600 });
  const terminal = recordingTerminal();
  await runCli(['list', '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
  return terminal.stdout();
}

function manifestKey(source: string, id: string): string {
  return `.pgark/backups/${source}/${source}/${id}.json`;
}

test('the data of a plain backup whose manifest is unreadable is restored by its name, of a source where there are several', async () => {
  const files = [manifestKey('shop', PLAIN), 'shop_2026-11-20T02:00:00Z.sql.gz'];
  expect(await listed(files, ['shop'])).toContain('pgark restore shop_2026-11-20T02:00:00Z.sql.gz takes it as it is');
  expect(await listed(files, ['shop', 'orders'])).toContain(
    'pgark restore shop shop_2026-11-20T02:00:00Z.sql.gz takes',
  );
  expect(await listed(files, ['crm', 'orders'])).toContain('pgark restore DATABASE shop_2026');
});

test('that of an archive and of a server is a folder, which no restore takes by its name', async () => {
  const archive = ['SHA256SUMS', 'toc.dat', '3424.dat.zst'].map((name) => `shop/archive/${ARCHIVE}/${name}`);
  const said = await listed(
    [manifestKey('shop', ARCHIVE), ...archive, manifestKey('shop', BASE), `shop/base/${BASE}/base.tar.zst`],
    ['shop'],
  );
  expect(said).toMatch(
    /its data: shop\/archive\/\S+-daaaaaa\/ \(3 files, 3 B\); pg_restore loads the folder: .*runbook\.md$/m,
  );
  expect(said).toMatch(/its data: shop\/base\/\S+-faaaaaa\/ \(1 file, 1 B\); it is restored by hand: .*runbook\.md$/m);
  expect(said).not.toContain('takes it as it is');
});

test('a manifest under a name that no backup has has no data', async () => {
  expect(await listed([manifestKey('shop', 'junk'), 'junk.txt'], ['shop'])).not.toContain('its data');
});
