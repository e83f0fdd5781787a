import { randomBytes } from 'node:crypto';
import { Client, escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { openDatabase, runAsSuperuser } from '../support/postgres.ts';
import { makeBackup, pgark, said } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';

interface Listed {
  readonly storages: readonly {
    readonly backups: readonly { readonly id: string; readonly system_identifier: string }[];
  }[];
}

describe('two servers that share a storage and the name of a database', { timeout: 300_000 }, () => {
  test('keep their last backups, are warned of, told apart, and not put in each other’s place unasked', async () => {
    await using storage = await fileStorage();
    await using staging = await startThrowawayServer({ listen: 'tcp' });
    await using prod = openDatabase(`shop${randomBytes(5).toString('hex')}`);
    await runAsSuperuser(`CREATE DATABASE ${escapeIdentifier(prod.name)}`);
    await prod.query(`CREATE TABLE whose AS SELECT 'prod' AS name`);
    const url = staging.url(prod.name).reveal();
    const onStaging = (args: readonly string[]) => pgark({ storage, env: { DATABASE_URL: url } }, args);
    const onProd = (args: readonly string[]) => pgark({ database: prod, storage }, args);

    const ofProd = await makeBackup({ database: prod, storage });
    expect(await pgark({ storage }, ['restore', ofProd.id, '--to-url', url])).toMatchObject({ exitCode: 0 });
    expect((await onProd(['list'])).stdout).not.toContain('SERVER');
    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query(`UPDATE whose SET name = 'staging'`);
    await client.end();

    const first = await onStaging(['backup']);
    expect(first).toMatchObject({ exitCode: 0 });
    expect(first.stderr).toMatch(/WARNING.* is of another server, .*BACKUP_NAME/);
    for (let count = 0; count < 3; count++) {
      const more = await onStaging(['backup']);
      expect(more).toMatchObject({ exitCode: 0 });
      expect(more.stderr).not.toContain('another server');
    }

    const listed = await onProd(['list']);
    expect(listed.stdout).toMatch(/SERVER +SYSTEM/);
    expect(listed.stdout).toMatch(new RegExp(`${staging.host}:${staging.port} +\\d{19}`));
    const { storages } = JSON.parse((await onProd(['list', '-o', 'json'])).stdout) as Listed;
    expect(new Set(storages[0]?.backups.map((each) => each.system_identifier)).size).toBe(2);
    const pruned = await onProd(['prune', '--force']);
    expect(pruned.stdout).toContain('1 backup of ');
    expect(pruned.stdout).toContain('as the last of another server');

    const inPlace = ['restore', 'latest', '--in-place', '--yes', prod.name];
    const planned = await onProd([...inPlace, '--plan']);
    expect(planned.stdout).toMatch(/taken from .*system identifier/);
    expect(planned.stdout).toContain('(wants --from-other-server)');
    const whose = () => prod.query('SELECT name FROM whose');
    const refused = await onProd(inPlace);
    expect(refused.exitCode).toBe(2);
    expect(said(refused)).toMatch(/is of another server.*--from-other-server/s);
    expect(await whose()).toEqual([{ name: 'prod' }]);
    const confirmed = await onProd([...inPlace, '--drop-old', '--from-other-server']);
    expect(confirmed).toMatchObject({ exitCode: 0 });
    expect(await whose()).toEqual([{ name: 'staging' }]);
    const own = await onProd(['restore', ofProd.id, '--in-place', '--yes', prod.name, '--drop-old']);
    expect(own).toMatchObject({ exitCode: 0 });
    expect(await whose()).toEqual([{ name: 'prod' }]);
  });
});
