import { describe, test } from 'vitest';
import { KILLED } from '../fault/sweep/kills.ts';
import { logicalBackup, logicalRestore } from '../fault/sweep/logical.ts';
import { sweptPrune, sweptVerify } from '../fault/sweep/maintenance.ts';
import { physicalBackup, physicalRestore } from '../fault/sweep/physical.ts';
import { sweep, wholeSweep } from '../fault/sweep/sweep.ts';
import { walReceiving } from '../fault/sweep/wal.ts';

const HOURS = 3_600_000;

/** The short ones first. */
const SWEPT = [
  sweptVerify(),
  physicalRestore(),
  ...KILLED,
  ...(['HTTP', 'TCP'] as const).flatMap((wire) => [
    logicalRestore('plain', wire),
    logicalRestore('directory', wire),
    walReceiving(wire),
  ]),
  sweptPrune(),
  ...(['HTTP', 'TCP'] as const).flatMap((wire) => [
    logicalBackup('plain', wire),
    logicalBackup('directory', wire),
    physicalBackup(wire),
  ]),
];

describe('every fault at every position', { timeout: 12 * HOURS }, () => {
  test.each(SWEPT)('in $name', async (swept) => {
    await sweep(swept, wholeSweep());
  });
});
