import { describe, test } from 'vitest';
import { backupOverHttp, restoreOverHttp } from './sweep/logical.ts';
import { sweep } from './sweep/sweep.ts';

const SAMPLE = Number(process.env['TEST_RUNS'] ?? 12);

describe('one request to the store goes wrong', () => {
  test.each([backupOverHttp('plain'), restoreOverHttp('plain')])('in $name', async (swept) => {
    await sweep(swept, { sample: SAMPLE });
  });
});
