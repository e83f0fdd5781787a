import { describe, test } from 'vitest';
import { logicalBackup, logicalRestore } from './sweep/logical.ts';
import { SAMPLE, sweep } from './sweep/sweep.ts';

describe('one answer of the server goes wrong', () => {
  test.each([
    logicalBackup('plain', 'TCP'),
    logicalRestore('plain', 'TCP'),
    logicalBackup('directory', 'TCP'),
    logicalRestore('directory', 'TCP'),
  ])('in $name', async (swept) => {
    await sweep(swept, SAMPLE);
  });
});
