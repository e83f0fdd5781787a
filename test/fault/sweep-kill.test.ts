import { describe, test } from 'vitest';
import { KILLED } from './sweep/kills.ts';
import { SAMPLE, sweep } from './sweep/sweep.ts';

describe('the program is killed', () => {
  test.each(KILLED)('in $name', async (swept) => {
    await sweep(swept, SAMPLE);
  });
});
