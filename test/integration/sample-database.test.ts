import type { Client } from 'pg';
import { describe, expect, test } from 'vitest';
import { compareFingerprints, type Fingerprint, fingerprintDatabase } from '../../src/demo/fingerprint.ts';
import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { runProgram } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';

async function connected<T>(database: TestDatabase, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await database.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const fill = (database: TestDatabase) => connected(database, (client) => createSampleDatabase(client, { scale: 0.01 }));
const fingerprintOf = (database: TestDatabase): Promise<Fingerprint> => connected(database, fingerprintDatabase);

describe('the sample database', () => {
  test('is the same every time', async () => {
    await using first = await createDatabase();
    await using second = await createDatabase();
    await Promise.all([fill(first), fill(second)]);
    expect(compareFingerprints(await fingerprintOf(first), await fingerprintOf(second))).toEqual([]);
  });

  test('comes through pg_dump and psql unchanged', async () => {
    await using source = await createDatabase();
    await using target = await createDatabase({ createOptions: 'TEMPLATE template0' });
    await fill(source);
    const dump = await runProgram('pg_dump', ['--no-password'], { env: source.env });
    expect(dump).toMatchObject({ exitCode: 0, stderr: '' });
    const load = await runProgram('psql', ['-qX', '-v', 'ON_ERROR_STOP=1'], { env: target.env, input: dump.stdout });
    expect(load).toMatchObject({ exitCode: 0, stderr: '' });
    expect(compareFingerprints(await fingerprintOf(source), await fingerprintOf(target))).toEqual([]);
  });
});

describe('a fingerprint', () => {
  test('does not depend on where rows lie', async () => {
    await using database = await createDatabase();
    await fill(database);
    const before = await fingerprintOf(database);
    await database.query('UPDATE stock.product SET weight_kg = weight_kg WHERE id % 3 = 0');
    await database.query('CLUSTER stock.product USING product_sku_key');
    await database.query('VACUUM FULL "Audit Log"."Event, raw"');
    expect(compareFingerprints(before, await fingerprintOf(database))).toEqual([]);
  });

  test('tells each kind of change', async () => {
    await using database = await createDatabase();
    await fill(database);
    const changes: [sql: string, told: string][] = [
      [
        'UPDATE sales.order_item SET quantity = quantity + 1 WHERE order_id = 77',
        'table sales.order_item has other values',
      ],
      // The column t shares its name with the alias that the fingerprint gives every table.
      [`UPDATE "Audit Log".awkward SET n = 43 WHERE n = 42`, 'table "Audit Log".awkward has other values'],
      [
        `DELETE FROM "Audit Log"."Event, raw" WHERE "Größe (cm)" = 7`,
        'table "Audit Log"."Event, raw" has 2589 rows instead of 2600',
      ],
      [
        'INSERT INTO "Audit Log".scratch SELECT * FROM "Audit Log".scratch',
        'table "Audit Log".scratch has 200 rows instead of 100',
      ],
      [`SELECT nextval('stock.barcode_seq')`, 'sequence stock.barcode_seq differs'],
      [`SELECT lo_put(700003, 5, '\\x00')`, 'large object 700003 differs'],
      [`SELECT lo_unlink(700004)`, 'large object 700004 is missing'],
      ['ALTER TABLE crm.customer ALTER email DROP NOT NULL', 'columns of crm.customer differs'],
      ['DROP VIEW sales.best', 'view sales.best is missing'],
      ['DROP INDEX crm."Prémium only"', 'index crm."Prémium only" is missing'],
      ['DROP FUNCTION sales.order_total', 'routine sales.order_total(bigint) is missing'],
      ['DROP TRIGGER "touch, always" ON sales."order"', 'trigger "touch, always" of sales."order" is missing'],
      [`ALTER TYPE crm.tier ADD VALUE 'none'`, 'enum crm.tier differs'],
      [`COMMENT ON SCHEMA crm IS 'changed'`, 'comment on schema crm differs'],
      ['GRANT SELECT ON stock.category TO PUBLIC', 'access to stock.category differs'],
      [
        'ALTER TABLE crm.document DROP CONSTRAINT "document\'s customer"',
        'constraint "document\'s customer" of crm.document is missing',
      ],
    ];
    let before = await fingerprintOf(database);
    for (const [sql, told] of changes) {
      await database.query(sql);
      const after = await fingerprintOf(database);
      expect(compareFingerprints(before, after).join('\n')).toContain(told);
      before = after;
    }
  });
});
