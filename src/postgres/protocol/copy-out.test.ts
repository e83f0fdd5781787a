import { describe, expect, test } from 'vitest';
import type { Answer, Converse } from './conversation.ts';
import { copyOut } from './copy-out.ts';
import { MESSAGE } from './message.ts';

function frame(type: number, content: string): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([header, Buffer.from(content)]);
}

/** A server that does what no server does, and is then ready. */
function answering(speak: (answer: Answer) => void): Converse {
  return async (answer) => ({
    ended: new Promise((resolve) => {
      speak(answer);
      resolve();
    }),
    send: async () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    destroy: () => undefined,
  });
}

async function read(converse: Converse): Promise<string> {
  const blocks: Uint8Array[] = [];
  for await (const block of copyOut(converse, {}).stream) blocks.push(block);
  return Buffer.concat(blocks).toString();
}

const row = new DataView(Uint8Array.from(Buffer.from('row\n')).buffer);

/** Two rows, and what the server says of them. */
const twoRows = (tag: string) =>
  answering((answer) => {
    answer.message(MESSAGE.copyOutResponse, frame(MESSAGE.copyOutResponse, '\0\0\0'));
    answer.copyData(row, 0, 4, true);
    answer.copyData(row, 0, 2, true);
    answer.copyData(row, 2, 4, false);
    answer.message(MESSAGE.copyDone, frame(MESSAGE.copyDone, ''));
    answer.message(MESSAGE.commandComplete, frame(MESSAGE.commandComplete, `${tag}\0`));
  });

describe('rows that a server sends', () => {
  test('are taken for whole if it has counted as many', async () => {
    expect(await read(twoRows('COPY 2'))).toBe('row\nrow\n');
  });

  test.each(['COPY 3', 'COPY 1', 'COPY 0'])('are not taken for whole if it says %s of two', async (tag) => {
    await expect(read(twoRows(tag))).rejects.toMatchObject({
      code: 'postgres-failed',
      message: `the server has copied ${tag.slice(-1)} rows, but 2 have come`,
    });
  });

  test('are not taken for whole if it says nothing of their end', async () => {
    const silent = answering((answer) => {
      answer.message(MESSAGE.copyOutResponse, frame(MESSAGE.copyOutResponse, '\0\0\0'));
      answer.copyData(row, 0, 4, true);
    });
    await expect(read(silent)).rejects.toMatchObject({ code: 'internal' });
    await expect(read(twoRows('SELECT 2'))).rejects.toMatchObject({ code: 'internal' });
  });
});
