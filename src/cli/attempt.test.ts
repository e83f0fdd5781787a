import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ErrorCode, errorTable } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';
import { failureOfStorages, type StorageFailure } from './attempt.ts';

const codes = Object.keys(errorTable).filter((code): code is ErrorCode => code in errorTable);

function failedWith(code: ErrorCode, runId: string | undefined): PgarkError {
  const error = new PgarkError(code, `${code} ${runId}`);
  error.runId = runId;
  return error;
}

/** Some of several storages that failed, some more than once, since they were asked for several sources. */
const scenes = fc
  .record({
    storageCount: fc.integer({ min: 1, max: 4 }),
    codes: fc.uniqueArray(fc.constantFrom(...codes), { minLength: 1, maxLength: 2 }),
    runId: fc.constantFrom(undefined, '01KAF8Z7'),
    failed: fc.array(fc.tuple(fc.nat(3), fc.nat(1), fc.nat(1)), { maxLength: 6 }),
  })
  .map(({ storageCount, failed, codes: [first = 'internal', second = first], runId }) => ({
    storageCount,
    failures: failed.map(
      ([index, which, run]): StorageFailure => ({
        storage: `storage${index % storageCount}`,
        error: failedWith(which === 0 ? first : second, run === 0 ? undefined : runId),
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
      const isPartial = names.size < storageCount && !exits.includes(20);
      // What the command ends with has all that an only storage says, and what others say with the same code.
      const others = failures.filter(
        ({ error }) => isPartial || error.code !== failure?.code || error.runId !== undefined,
      );
      const said = others.map(({ storage, error }) => `storage ${storage}: ${error.message}`);
      expect(told).toEqual(storageCount === 1 ? [] : [...new Set(said)]);
      if (!isPartial && storageCount > 1)
        for (const { error } of failures) expect(failure?.message).toContain(error.message);
      if (storageCount > 1) for (const name of names) expect(failure?.message).toContain(name);
    }),
  );
});
