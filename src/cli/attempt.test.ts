import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ErrorCode, errorTable } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';
import { failureOfStorages, type StorageFailure } from './attempt.ts';

const codes = Object.keys(errorTable).filter((code): code is ErrorCode => code in errorTable);

/** Some of several storages that failed, some more than once, since they were asked for several sources. */
const scenes = fc
  .record({
    storageCount: fc.integer({ min: 1, max: 4 }),
    failed: fc.array(fc.tuple(fc.nat(3), fc.constantFrom(...codes), fc.nat(1)), { maxLength: 6 }),
  })
  .map(({ storageCount, failed }) => ({
    storageCount,
    failures: failed.map(
      ([index, code, which]): StorageFailure => ({
        storage: `storage${index % storageCount}`,
        error: new PgarkError(code, `${code} ${which}`),
      }),
    ),
  }));

test('some of several storages that fail end a command with 4, and neither they nor damage are hidden', () => {
  fc.assert(
    fc.property(scenes, ({ storageCount, failures }) => {
      const told: string[] = [];
      const run = { failure: (of: string, { message }: PgarkError) => void told.push(`${of}: ${message}`) };
      const failure = failureOfStorages(run, failures, storageCount);
      const names = new Set(failures.map(({ storage }) => storage));
      const exits = failures.map(({ error }) => error.exitCode);
      if (failures.length === 0) expect(failure).toBeUndefined();
      else if (exits.includes(20)) expect(failure?.exitCode).toBe(20);
      else if (names.size < storageCount) expect(failure?.code).toBe('partial');
      else expect(failure?.code).toBe(failures[0]?.error.code);
      const said = failures.map(({ storage, error }) => `storage ${storage}: ${error.message}`);
      // That of an only storage is what the command ends with.
      expect(told).toEqual(storageCount === 1 ? [] : [...new Set(said)]);
      if (storageCount > 1) for (const name of names) expect(failure?.message).toContain(name);
    }),
  );
});
