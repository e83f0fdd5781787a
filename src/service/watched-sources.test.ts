import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { WatchedSources, wantedBackups, wantedWal } from './watched-sources.ts';

async function configOf(sources: readonly string[]): Promise<Config> {
  await using directory = await makeTempDirectory();
  const text = `version: 1\nstorages: { near: { type: file, path: /nowhere } }\ndatabases:\n  ${sources.join('\n  ')}\n`;
  await writeFile(directory.join('pgark.yaml'), text);
  return await loadConfig({ file: 'pgark.yaml', env: {}, cwd: directory.path });
}

const source = (name: string, every: string, password = 'one'): string =>
  `${name}: { url: "postgres://u:${password}@db/${name}", jobs: { often: { schedule: ${every} } } }`;

test('a source is watched since it is wanted as it is, over reloads that change something else', async () => {
  const [noon, one, two] = [12, 13, 14].map((hour) => new Date(Date.UTC(2026, 10, 20, hour)));
  if (noon === undefined || one === undefined || two === undefined) throw new Error('there are three times');
  const watched = new WatchedSources(wantedBackups);
  const first = watched.since(await configOf([source('shop', '1d'), source('crm', '1d')]), noon);
  expect(first).toEqual(
    new Map([
      ['shop', noon],
      ['crm', noon],
    ]),
  );
  const second = watched.since(
    await configOf([source('shop', '1d', 'two'), source('crm', '1h'), source('new', '1d')]),
    one,
  );
  expect(second).toEqual(
    new Map([
      ['shop', noon],
      ['crm', one],
      ['new', one],
    ]),
  );
  watched.since(await configOf([source('crm', '1h')]), one);
  const back = watched.since(await configOf([source('shop', '1d'), source('crm', '1h')]), two);
  expect(back).toEqual(
    new Map([
      ['shop', two],
      ['crm', one],
    ]),
  );
});

test('WAL is watched since it is wanted as it is: the slot or the storages begin anew, the rest does not', async () => {
  const [noon, one, two] = [12, 13, 14].map((hour) => new Date(Date.UTC(2026, 10, 20, hour)));
  if (noon === undefined || one === undefined || two === undefined) throw new Error('there are three times');
  const shop = (wal: string, password = 'one'): Promise<Config> =>
    configOf([`shop: { url: "postgres://u:${password}@db/shop"${wal} }`]);
  const watched = new WatchedSources(wantedWal);
  watched.since(await shop(', jobs: { all: {} }'), noon);
  expect(watched.since(await shop(', wal: { to: [near] }'), one)).toEqual(new Map([['shop', one]]));
  expect(watched.since(await shop(', wal: { to: [near], flush: 1m }', 'two'), two)).toEqual(new Map([['shop', one]]));
  expect(watched.since(await shop(', wal: { to: [near], slot: other }'), two)).toEqual(new Map([['shop', two]]));
});
