import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameReader } from './frame-reader.ts';
import { MESSAGE } from './message.ts';
import { PACK_BYTES_MAX } from './row-packer.ts';

interface Seen {
  readonly type: number;
  readonly content: Buffer;
}

/** Gathers messages, and asks for no more after each of the type given. */
class Gatherer {
  readonly seen: Seen[] = [];
  readonly #last: number | undefined;

  constructor(last?: number) {
    this.#last = last;
  }

  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    const content = Buffer.from(Buffer.from(chunk.buffer, chunk.byteOffset + start, end - start));
    if (begins) this.seen.push({ type: MESSAGE.copyData, content });
    else {
      const { content: before } = this.seen.pop() ?? { content: Buffer.alloc(0) };
      this.seen.push({ type: MESSAGE.copyData, content: Buffer.concat([before, content]) });
    }
  }

  message(type: number, whole: Buffer): boolean {
    expect(whole.readUInt8(0)).toBe(type);
    expect(whole.readInt32BE(1)).toBe(whole.length - 1);
    this.seen.push({ type, content: whole.subarray(5) });
    return type === this.#last;
  }
}

/** Puts rows together, and counts them. */
class Packer {
  count = 0;
  others = 0;
  readonly #pieces: Buffer[] = [];

  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    this.copyMessages(chunk, start, end, begins ? 1 : 0);
  }

  copyMessages(contents: DataView, start: number, end: number, count: number): void {
    this.#pieces.push(Buffer.from(Buffer.from(contents.buffer, contents.byteOffset + start, end - start)));
    this.count += count;
  }

  message(): boolean {
    this.others += 1;
    return false;
  }

  get content(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

function frame(type: number, content: Uint8Array, length = content.length + 4): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeInt32BE(length, 1);
  return Buffer.concat([header, content]);
}

const content = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.integer({ min: 0, max: 3_000 }).map((bytes) => new Uint8Array(bytes).fill(MESSAGE.copyData)),
);
const withContent = [
  MESSAGE.copyData,
  MESSAGE.errorResponse,
  MESSAGE.noticeResponse,
  MESSAGE.commandComplete,
  MESSAGE.parameterStatus,
  MESSAGE.copyOutResponse,
];
const messages = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.constant<number>(MESSAGE.copyData), content) },
    { weight: 2, arbitrary: fc.tuple(fc.constantFrom<number>(...withContent), content) },
    { weight: 1, arbitrary: fc.constant<[number, Uint8Array]>([MESSAGE.copyDone, new Uint8Array(0)]) },
  ),
  { maxLength: 30 },
);
const cuts = fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 50 });

/** The bytes in chunks of these lengths, over and over; each chunk lies somewhere in memory of its own. */
function* cut(bytes: Buffer, lengths: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const length = lengths[turn % lengths.length] ?? 1;
    const memory = new Uint8Array(length + 7).fill(0xff);
    const piece = bytes.subarray(at, at + length);
    memory.set(piece, 3);
    yield memory.subarray(3, 3 + piece.length);
    memory.fill(0xee);
    at += length;
  }
}

describe('the reader of messages', () => {
  test('finds the same messages wherever the chunks end, and keeps no chunk', () => {
    fc.assert(
      fc.property(messages, fc.oneof(cuts, fc.constant([1])), (sent, lengths) => {
        const gatherer = new Gatherer();
        const reader = new FrameReader(gatherer);
        const bytes = Buffer.concat(sent.map(([type, body]) => frame(type, body)));
        for (const chunk of cut(bytes, lengths)) expect(reader.push(chunk)).toBe(chunk.length);
        expect(gatherer.seen).toEqual(sent.map(([type, body]) => ({ type, content: Buffer.from(body) })));
      }),
    );
  });

  test('packs the content of rows, and counts them, wherever the chunks end', () => {
    const rows = fc.array(fc.uint8Array({ maxLength: 80 }), { minLength: 100, maxLength: 3_000, size: 'max' });
    const many = fc.array(fc.oneof({ weight: 3, arbitrary: rows }, fc.array(content, { maxLength: 5 })), {
      maxLength: 4,
    });
    const chunks = fc.oneof(cuts, fc.constant([PACK_BYTES_MAX * 3]), fc.constant([PACK_BYTES_MAX - 1]));
    fc.assert(
      fc.property(many, chunks, (groups, lengths) => {
        const packer = new Packer();
        const reader = new FrameReader(packer);
        const sent = groups.flatMap((group) => [...group, undefined]);
        const bytes = Buffer.concat(
          sent.map((row) =>
            row === undefined ? frame(MESSAGE.noticeResponse, Buffer.from('x')) : frame(MESSAGE.copyData, row),
          ),
        );
        for (const chunk of cut(bytes, lengths)) expect(reader.push(chunk)).toBe(chunk.length);
        expect(packer.count).toBe(groups.flat().length);
        expect(packer.content).toEqual(Buffer.concat(groups.flat()));
        expect(packer.others).toBe(groups.length);
      }),
      { numRuns: 50 },
    );
  });

  test('leaves what follows the last message that is wanted, wherever the chunks end', () => {
    fc.assert(
      fc.property(messages, fc.uint8Array({ maxLength: 20 }), cuts, (sent, rest, lengths) => {
        const gatherer = new Gatherer(MESSAGE.readyForQuery);
        const reader = new FrameReader(gatherer);
        const bytes = Buffer.concat([
          ...sent.map(([type, body]) => frame(type, body)),
          frame(MESSAGE.readyForQuery, Buffer.from('I')),
        ]);
        const left: Uint8Array[] = [];
        for (const chunk of cut(Buffer.concat([bytes, rest]), lengths)) {
          const isReady = gatherer.seen.at(-1)?.type === MESSAGE.readyForQuery;
          left.push(Uint8Array.from(isReady ? chunk : chunk.subarray(reader.push(chunk))));
        }
        expect(gatherer.seen).toHaveLength(sent.length + 1);
        expect(Buffer.concat(left)).toEqual(Buffer.from(rest));
      }),
    );
  });

  const GIB = 1024 ** 3;
  test.each([
    ['a type that the protocol does not have', frame(0x01, Buffer.alloc(0))],
    ['the answer of a server of the web', Buffer.from('HTTP/1.1 400 Bad Request\r\n')],
    ['a length that does not even count itself', frame(MESSAGE.errorResponse, Buffer.alloc(0), 3)],
    ['a negative length', frame(MESSAGE.copyData, Buffer.alloc(0), -1)],
    ['rows longer than a server can make them', frame(MESSAGE.copyData, Buffer.alloc(0), GIB + 4)],
    ['an end that has content', frame(MESSAGE.copyDone, Buffer.alloc(1))],
    ['a state of 65 KiB', frame(MESSAGE.readyForQuery, Buffer.alloc(0), 65 * 1024)],
    ['a notice of 17 MiB', frame(MESSAGE.noticeResponse, Buffer.alloc(0), 17 * 1024 ** 2)],
  ])('refuses %s by its header, in one piece or byte by byte', (_what, bytes) => {
    const refusal = expect.objectContaining({ code: 'postgres-failed', message: expect.stringContaining('0x') });
    expect(() => new FrameReader(new Gatherer()).push(bytes)).toThrow(refusal);
    const behindRow = Buffer.concat([frame(MESSAGE.copyData, Buffer.from('row\n')), bytes]);
    expect(() => new FrameReader(new Packer()).push(behindRow)).toThrow(refusal);
    const reader = new FrameReader(new Gatherer());
    expect(() => {
      for (const chunk of cut(bytes.subarray(0, 5), [1])) reader.push(chunk);
    }).toThrow(refusal);
  });

  test('takes rows as long as a server can make them, without their memory', () => {
    let bytes = 0;
    const reader = new FrameReader({
      copyData: (_chunk, start, end) => (bytes += end - start),
      message: () => false,
    });
    reader.push(frame(MESSAGE.copyData, Buffer.alloc(0), GIB + 3));
    const chunk = new Uint8Array(64 * 1024);
    while (bytes < GIB - 1 - chunk.length) reader.push(chunk);
    const message = Buffer.concat([chunk.subarray(0, GIB - 1 - bytes), frame(MESSAGE.copyData, Buffer.from('next'))]);
    reader.push(message);
    expect(bytes).toBe(GIB - 1 + 4);
  });
});
