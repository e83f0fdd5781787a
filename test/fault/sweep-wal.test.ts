import { describe, test } from 'vitest';
import { SAMPLE, sweep } from './sweep/sweep.ts';
import { walReceiving } from './sweep/wal.ts';

describe.concurrent('one request to the store, or one answer of the server, goes wrong', () => {
  test.each([walReceiving('HTTP'), walReceiving('TCP')])('in $name', async (swept) => {
    await sweep(swept, { ...SAMPLE, lanes: 1 });
  });
});
