import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from '../config/load.ts';
import { planBackups } from './expectations.ts';

describe('what a configuration expects', () => {
  test('is a line of backups for each database, format and storage of each job', async () => {
    await using directory = await makeTempDirectory();
    const text = `version: 1
storages:
  near: { type: file, path: near }
  far: { type: file, path: far }
databases:
  main:
    url: postgres://app@db/shop
    databases: ["*"]
    expect: { max_age: 26h }
    jobs:
      nightly: { schedule: "0 2 * * *", jitter: 10m, to: [near, far] }
      hourly: { schedule: 1h, to: [near] }
  hand:
    url: postgres://app@db/hand
    jobs: { sometimes: { to: [near] } }
`;
    await writeFile(directory.join('pgark.yaml'), text);
    const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: directory.path });
    const found = new Map([
      ['main', ['shop', 'crm']],
      ['hand', ['hand']],
    ]);
    const nightly = { kind: 'cron', expression: '0 2 * * *' };
    const near = {
      source: 'main',
      format: 'directory',
      storage: 'near',
      schedules: [nightly, { kind: 'interval', everyMs: 3_600_000 }],
      jitterMs: 600_000,
      maxAgeMs: 93_600_000,
    };
    const far = { ...near, storage: 'far', schedules: [nightly] };
    expect(planBackups(config, ({ name }) => found.get(name) ?? [])).toEqual([
      { ...near, database: 'shop' },
      { ...far, database: 'shop' },
      { ...near, database: 'crm' },
      { ...far, database: 'crm' },
      { source: 'hand', database: 'hand', format: 'directory', storage: 'near', schedules: [], jitterMs: 0 },
    ]);
  });
});
