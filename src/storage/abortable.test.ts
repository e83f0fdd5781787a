import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../common/bytes.ts';
import { abortable } from './abortable.ts';

const reason = new Error('stopped');
const block = (byte: number): Uint8Array => Uint8Array.of(byte);

async function collect(stream: ByteStream): Promise<number[]> {
  const bytes: number[] = [];
  for await (const part of stream) bytes.push(...part);
  return bytes;
}

describe('an abortable stream', () => {
  test('gives what its source gives', async () => {
    const source = async function* (): ByteStream {
      yield block(1);
      yield block(2);
    };
    expect(await collect(abortable(source(), new AbortController().signal))).toEqual([1, 2]);
    expect(await collect(abortable(source(), undefined))).toEqual([1, 2]);
  });

  test('throws the very error of its source', async () => {
    const error = new Error('pg_dump was killed');
    const source = async function* (): ByteStream {
      yield block(1);
      throw error;
    };
    await expect(collect(abortable(source(), new AbortController().signal))).rejects.toBe(error);
  });

  test('ends at once with the signal’s reason though its source hangs', async () => {
    const controller = new AbortController();
    const source = async function* (): ByteStream {
      yield block(1);
      setImmediate(() => controller.abort(reason));
      await new Promise(() => {});
    };
    await expect(collect(abortable(source(), controller.signal))).rejects.toBe(reason);
  });

  test('does not touch its source if the signal is aborted already', async () => {
    let touched = false;
    const source = async function* (): ByteStream {
      touched = true;
      yield block(1);
    };
    await expect(collect(abortable(source(), AbortSignal.abort(reason)))).rejects.toBe(reason);
    expect(touched).toBe(false);
  });

  test.each(['left early', 'aborted'])('lets its source clean up when it is %s', async (how) => {
    const controller = new AbortController();
    let cleaned = false;
    const source = async function* (): ByteStream {
      try {
        for (;;) yield block(1);
      } finally {
        cleaned = true;
      }
    };
    const read = async (): Promise<string> => {
      for await (const part of abortable(source(), controller.signal)) {
        if (how === 'left early') return `left after ${part.length}`;
        controller.abort(reason);
      }
      return 'ended';
    };
    const outcome = await read().catch((error: unknown) => error);
    expect(outcome).toBe(how === 'left early' ? 'left after 1' : reason);
    expect(cleaned).toBe(true);
  });
});
