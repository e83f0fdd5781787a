import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { allocateBlock, releaseBlock } from './block-memory.ts';
import { type ByteStream, KIB, MIB } from './bytes.ts';
import {
  feedProgram,
  ProgramFailure,
  programOutput,
  type ProgramSpec,
  programText,
  throughProgram,
} from './child-process.ts';

const script = (text: string, more: Partial<ProgramSpec> = {}): ProgramSpec => ({
  name: 'helper',
  path: '/bin/sh',
  args: ['-c', text],
  env: { PATH: process.env['PATH'] ?? '' },
  ...more,
});
const failureOf = async (run: Promise<unknown>): Promise<unknown> => {
  try {
    return await run;
  } catch (error) {
    return error;
  }
};
const textStream = async function* (...texts: string[]): ByteStream {
  for (const text of texts) yield Buffer.from(text);
};
const textAfter = async function* (block: Uint8Array, text: string): ByteStream {
  yield block;
  yield* textStream(text);
};
const drain = async (output: ByteStream): Promise<number> => {
  let bytes = 0;
  for await (const block of output) bytes += block.length;
  return bytes;
};

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgark-child-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('the output of a program', () => {
  test('is complete only if it exited with 0', async () => {
    expect(await drain(programOutput(script(`head -c ${3 * MIB} /dev/zero`)))).toBe(3 * MIB);
    const failed = await failureOf(drain(programOutput(script(`head -c 10 /dev/zero; echo no luck >&2; exit 7`))));
    expect(failed).toBeInstanceOf(ProgramFailure);
    expect(failed).toMatchObject({ exitCode: 7, stderrLines: ['no luck'], message: 'helper exited with 7: no luck' });
  });

  test('of a program that was killed is none', async () => {
    const failed = await failureOf(drain(programOutput(script('echo half; kill -9 $$'))));
    expect(failed).toMatchObject({ signalName: 'SIGKILL', message: 'helper was killed by SIGKILL' });
  });

  test('of a program that is not there says so', async () => {
    const failed = await failureOf(programText(script('', { path: '/nonexistent/helper' })));
    expect(failed).toMatchObject({ name: 'ProgramFailure', message: expect.stringContaining('could not be started') });
  });

  test('left early ends the program', async () => {
    const path = join(folder, 'pid');
    for await (const block of programOutput(script(`echo $$ > ${path}; exec cat /dev/zero`))) {
      expect(block.length).toBeGreaterThan(0);
      break;
    }
    const pid = Number(await readFile(path, 'utf8'));
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  test('ends with the reason of an abort', async () => {
    const controller = new AbortController();
    const reason = new Error('stopped by the user');
    const read = async (): Promise<void> => {
      for await (const _block of programOutput(script('exec cat /dev/zero'), controller.signal))
        controller.abort(reason);
    };
    await expect(read()).rejects.toBe(reason);
  });

  test('keeps the last lines of what a program complains about, and of none more than its length allows', async () => {
    const text = `i=0; while [ $i -lt 50 ]; do echo "line $i" >&2; i=$((i+1)); done; head -c ${100 * KIB} /dev/zero | tr '\\0' x >&2; exit 1`;
    const failed = await failureOf(programText(script(text)));
    if (!(failed instanceof ProgramFailure)) throw new Error('the program did not fail');
    expect(failed.stderrLines).toHaveLength(20);
    expect(failed.stderrLines[0]).toBe('line 31');
    expect(failed.stderrLines.at(-1)?.length).toBeLessThanOrEqual(2_000);
  });
});

describe('what a program complains about', () => {
  test('is seen by nobody before it was filtered, line by line, each run anew', async () => {
    const seen: string[] = [];
    const spec = script('echo keep >&2; echo drop >&2; echo keep >&2; exit 1', {
      stderrFilter: () => {
        let count = 0;
        return (line) => (line === 'drop' ? undefined : `${line} ${++count}`);
      },
      onStderrLine: (line) => seen.push(line),
    });
    for (const _run of [1, 2]) {
      expect(await failureOf(programText(spec))).toMatchObject({
        stderrLines: ['keep 1', 'keep 2'],
        message: 'helper exited with 1: keep 1 keep 2',
      });
    }
    expect(seen).toEqual(['keep 1', 'keep 2', 'keep 1', 'keep 2']);
  });

  test('keeps the beginning of a long line, by which it is known what it is', async () => {
    const text = `printf 'DETAIL: ' >&2; head -c ${MIB} /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1`;
    const failed = await failureOf(programText(script(text)));
    if (!(failed instanceof ProgramFailure)) throw new Error('the program did not fail');
    expect(failed.stderrLines.map((line) => line.slice(0, 9))).toEqual(['DETAIL: x', 'end']);
  });
});

describe('a program that is fed', () => {
  test('gets everything, and its exit status counts', async () => {
    const path = join(folder, 'whole');
    await feedProgram(script(`cat > ${path}`), textStream('one ', 'two'));
    expect(await readFile(path, 'utf8')).toBe('one two');
    const block = allocateBlock(MIB).fill(7);
    await feedProgram(script(`cat > ${path}`), textAfter(block, 'end'));
    expect([block.length, (await readFile(path)).length]).toEqual([0, MIB + 3]);
    const failed = await failureOf(feedProgram(script('cat > /dev/null; echo full >&2; exit 3'), textStream('x')));
    expect(failed).toMatchObject({ exitCode: 3, stderrLines: ['full'] });
  });

  test('that ends before it has read everything has failed, also with exit status 0', async () => {
    const endless = async function* (): ByteStream {
      for (;;) yield Buffer.alloc(64 * KIB);
    };
    expect(await failureOf(feedProgram(script('head -c 10 > /dev/null'), endless()))).toBeInstanceOf(ProgramFailure);
    // Somebody else keeps the pipe open, so that nothing breaks.
    const left = script('exec 3<&0; sleep 1 <&3 >/dev/null 2>&1 & exit 0');
    const block = async function* (): ByteStream {
      yield Buffer.alloc(MIB);
    };
    expect(await failureOf(feedProgram(left, block()))).toBeInstanceOf(ProgramFailure);
  });

  test('is never given memory that was handed back', async () => {
    const block = allocateBlock(MIB).fill(7);
    releaseBlock(block);
    const failure = await failureOf(feedProgram(script('cat > /dev/null'), textAfter(block, 'end')));
    expect(failure).toMatchObject({ code: 'internal', message: expect.stringContaining('given back') });
  });

  test.each([
    ['is killed', undefined, 'nothing'],
    ['is told to end, and may tidy up', 'SIGTERM', 'tidied'],
  ] as const)('by a stream that throws %s before its stdin ends', async (_title, stopSignal, expected) => {
    const [seen, ready] = [join(folder, `end-${expected}`), join(folder, `ready-${expected}`)];
    // What comes after `cat` runs only if stdin came to its end.
    const text = `echo nothing > ${seen}; trap 'echo tidied > ${seen}; exit 1' TERM; echo > ${ready}; cat > /dev/null & wait $!; echo whole > ${seen}`;
    const error = new Error('the dump broke');
    const breaking = async function* (): ByteStream {
      yield Buffer.from('half');
      while ((await failureOf(readFile(ready))) instanceof Error) await new Promise((resolve) => setImmediate(resolve));
      throw error;
    };
    const spec = script(
      `exec 3<&0; ${text.replace('cat >', 'cat <&3 >')}`,
      stopSignal === undefined ? {} : { stopSignal },
    );
    await expect(feedProgram(spec, breaking())).rejects.toBe(error);
    expect((await readFile(seen, 'utf8')).trim()).toBe(expected);
  });
});

describe('a program between two streams', () => {
  const collect = async (stream: ByteStream): Promise<string> => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks).toString();
  };

  test('passes on what it makes of the one', async () => {
    expect(await collect(throughProgram(script('tr a-z A-Z'), textStream('one ', 'two')))).toBe('ONE TWO');
  });

  test('ends with its failure, whatever came before', async () => {
    const failed = await failureOf(collect(throughProgram(script('cat; echo full >&2; exit 3'), textStream('x'))));
    expect(failed).toMatchObject({ exitCode: 3, stderrLines: ['full'] });
    const early = await failureOf(collect(throughProgram(script('head -c 1'), textStream('x'.repeat(MIB), 'y'))));
    expect(early).toBeInstanceOf(ProgramFailure);
  });

  test('ends with the error of the stream that feeds it, never as if that were whole', async () => {
    const error = new Error('the dump broke');
    const breaking = async function* (): ByteStream {
      yield Buffer.from('half');
      throw error;
    };
    await expect(collect(throughProgram(script('cat; echo whole'), breaking()))).rejects.toBe(error);
  });

  test('is ended when what it makes is not wanted any more', async () => {
    const path = join(folder, 'through-pid');
    const endless = async function* (): ByteStream {
      for (;;) yield Buffer.alloc(64 * KIB);
    };
    for await (const _block of throughProgram(script(`echo $$ > ${path}; exec cat`), endless())) break;
    const pid = Number(await readFile(path, 'utf8'));
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });
});
