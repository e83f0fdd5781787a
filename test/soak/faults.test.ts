import { describe, test } from 'vitest';
import { logicalBackup, logicalRestore } from '../fault/sweep/logical.ts';
import { physicalBackup, physicalRestore } from '../fault/sweep/physical.ts';
import { sweep } from '../fault/sweep/sweep.ts';

const HOURS = 3_600_000;
/** All by default: that takes hours. */
const RUNS = process.env['TEST_RUNS'];

const SWEPT = [
  ...(['plain', 'directory'] as const).flatMap((format) =>
    (['HTTP', 'TCP'] as const).flatMap((wire) => [logicalBackup(format, wire), logicalRestore(format, wire)]),
  ),
  physicalBackup('HTTP'),
  physicalBackup('TCP'),
  physicalRestore(),
];

describe('every fault at every position', { timeout: 12 * HOURS }, () => {
  test.each(SWEPT)('in $name', async (swept) => {
    await sweep(swept, RUNS === undefined ? {} : { sample: Number(RUNS) });
  });
});
