import { describe, test } from 'vitest';
import { logicalBackup, logicalRestore } from './sweep/logical.ts';
import { SAMPLE, sweep } from './sweep/sweep.ts';

describe('one request to the store goes wrong', () => {
  test.each([
    logicalBackup('plain', 'HTTP'),
    logicalRestore('plain', 'HTTP'),
    logicalBackup('directory', 'HTTP'),
    logicalRestore('directory', 'HTTP'),
  ])('in $name', async (swept) => {
    await sweep(swept, SAMPLE);
  });
});
