import { expect, test } from 'vitest';
import { MIB } from './bytes.ts';
import { YoungGarbage } from './young-garbage.ts';

test('garbage is collected each time that there is enough of it', () => {
  let collections = 0;
  const garbage = new YoungGarbage(() => {
    collections += 1;
  });
  for (let chunk = 0; chunk < 63; chunk += 1) garbage.add(MIB / 16);
  expect(collections).toBe(0);
  garbage.add(MIB / 16);
  expect(collections).toBe(1);
  garbage.add(4 * MIB - 1);
  expect(collections).toBe(1);
  garbage.add(1);
  expect(collections).toBe(2);
});
