import { describe, test } from 'vitest';
import { physicalBackup, physicalRestore } from './sweep/physical.ts';
import { SAMPLE, sweep } from './sweep/sweep.ts';

describe.concurrent('one request to the store, or one answer of the server, goes wrong', () => {
  test.each([physicalBackup('HTTP'), physicalRestore(), physicalBackup('TCP')])('in $name', async (swept) => {
    await sweep(swept, { ...SAMPLE, lanes: 1 });
  });
});
