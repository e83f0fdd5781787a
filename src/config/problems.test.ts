import { expect, test } from 'vitest';
import { Problems } from './problems.ts';

test('problems of a file are told from its top to its bottom, others after them as they were found', () => {
  const problems = new Problems();
  for (const where of ['pgark.yaml:10:3: jobs', 'TZ', 'pgark.yaml:9:12', 'pgark.yaml:9:4: url', undefined]) {
    problems.add({ code: 'config-invalid', ...(where === undefined ? {} : { where }), message: 'is wrong' });
  }
  expect(() => problems.throwIfAny([])).toThrow(
    [
      'the configuration has 5 problems:',
      '  pgark.yaml:9:4: url: is wrong',
      '  pgark.yaml:9:12: is wrong',
      '  pgark.yaml:10:3: jobs: is wrong',
      '  TZ: is wrong',
      '  is wrong',
    ].join('\n'),
  );
});
