import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { silentLogger } from '../common/log.ts';
import { planJobs } from './jobs.ts';
import { loadConfig } from '../config/load.ts';

const EXAMPLE = path.resolve(import.meta.dirname, '../../docs/example.yaml');

test('the complete example of the documentation is a configuration, with everything in it', async () => {
  await using folder = await makeTempDirectory();
  const secrets: Readonly<Record<string, string>> = {
    oidc: 'oidc-secret',
    bucket: 'bucket-secret',
    'rclone.conf': '[office]\ntype = local\n',
    recipients: await identityToRecipient(await generateX25519Identity()),
    slack: 'https://hooks.slack.com/services/T0/B0/x',
    mail: 'mail-secret',
    webhook: 'webhook-secret',
    shop_url: 'postgres://backup:hidden@shop.example.org/shop',
  };
  await mkdir(folder.join('secrets'));
  for (const [name, value] of Object.entries(secrets)) await writeFile(folder.join(`secrets/${name}`), `${value}\n`);
  const text = await readFile(EXAMPLE, 'utf8');
  await writeFile(folder.join('pgark.yaml'), text.replaceAll('/run/secrets', folder.join('secrets')));
  const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path, needs: ['database', 'storage'] });
  const names = (of: ReadonlyMap<string, unknown>): readonly string[] => [...of.keys()];
  expect({
    storages: names(config.storages),
    notifications: names(config.notifications),
    databases: names(config.databases),
    jobs: [...config.databases.values()].flatMap(({ jobs }) => names(jobs)),
    shop: config.databases.get('shop')?.connection,
    customers: config.databases.get('customers'),
  }).toMatchObject({
    storages: ['bucket', 'safe', 'disk', 'drive'],
    notifications: ['room', 'post', 'phone', 'watchdog', 'machines'],
    databases: ['shop', 'customers'],
    jobs: ['full', 'changes', 'dump', 'nightly'],
    shop: { host: 'shop.example.org', database: 'shop' },
    customers: { databases: ['*', '!scratch_*'], expect: { maxAgeMs: 26 * 3_600_000 }, notify: ['room', 'watchdog'] },
  });
  const selection = { sources: [...config.databases.values()], prunes: true };
  expect(planJobs(config, selection, silentLogger).map(({ id }) => id)).toEqual([
    'shop/full',
    'shop/changes',
    'shop/dump',
    'customers/nightly',
  ]);
});
