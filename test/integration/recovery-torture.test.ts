import { afterAll, beforeAll, expect, test } from 'vitest';
import { TorturedArchive } from '../support/recovery-torture.ts';

let tortured: TorturedArchive;
beforeAll(async () => {
  tortured = await TorturedArchive.make({ rows: 300 });
});
afterAll(async () => {
  await tortured[Symbol.asyncDispose]();
});

test('a recovery to any moment of a bad day brings back exactly the rows that were committed by then', {
  timeout: 600_000,
}, async () => {
  expect(await tortured.failuresAt(tortured.aims(10))).toEqual([]);
});
