import { describe, test } from 'vitest';
import { sweptPrune, sweptVerify } from './sweep/maintenance.ts';
import { SAMPLE, sweep } from './sweep/sweep.ts';

describe.concurrent('one request to the store goes wrong', () => {
  test.each([sweptPrune(), sweptVerify()])('in $name', async (swept) => {
    await sweep(swept, SAMPLE);
  });
});
