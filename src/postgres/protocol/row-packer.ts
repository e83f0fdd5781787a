import { KIB } from '../../common/bytes.ts';
import { block, type Code, get, i32, leave, leaveIf, loop, set, v128, wasmModule } from '../../common/wasm-code.ts';
import { HEADER_BYTES, LENGTH_BYTES, MESSAGE } from './message.ts';

/** As much of the engine's own interface as is used; no library of types that is at hand has it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

/** What is packed at once. More does not stay in the processor's nearer memories. */
export const PACK_BYTES_MAX = 64 * KIB;

/** In the memory: what comes of it (where it stopped, the end of the contents, their number), the messages, the contents. */
const RESULT = { stopped: 0, end: 4, count: 8 } as const;
const MESSAGES_AT = 64;
/** Contents are copied in pieces of so many bytes, the last of which may reach beyond the end of either. */
const PIECE_BYTES = 16;
const CONTENTS_AT = MESSAGES_AT + PACK_BYTES_MAX + PIECE_BYTES;
const PAGES = 3;

const [END, AT, TO, STOP, BYTES, COUNT] = [0, 1, 2, 3, 4, 5] as const;
const ZERO = i32.of(0);

/** The four bytes the other way round: 1 2 3 4 turned left by 8 bits is 2 3 4 1, and by 24 bits 4 1 2 3. */
const reversed = (word: number): Code =>
  i32.or(
    i32.and(i32.rotl(get(word), i32.of(8)), i32.of(0x00ff_00ff)),
    i32.and(i32.rotl(get(word), i32.of(24)), i32.of(0xff00_ff00 | 0)),
  );

/** `pack(end)` reads the messages up to END, as long as they are CopyData and whole. */
const packing: Code = [
  set(AT, i32.of(MESSAGES_AT)),
  set(TO, i32.of(CONTENTS_AT)),
  block(
    loop(
      leaveIf(1, i32.lessThan(i32.sub(get(END), get(AT)), i32.of(HEADER_BYTES))),
      leaveIf(1, i32.differs(i32.loadByte(get(AT)), i32.of(MESSAGE.copyData))),
      set(BYTES, i32.load(get(AT), 1)),
      set(BYTES, i32.sub(reversed(BYTES), i32.of(LENGTH_BYTES))),
      // A length that makes no sense is more than anything, taken without its sign.
      leaveIf(1, i32.isMore(get(BYTES), i32.sub(i32.sub(get(END), get(AT)), i32.of(HEADER_BYTES)))),
      set(AT, i32.add(get(AT), i32.of(HEADER_BYTES))),
      set(STOP, i32.add(get(TO), get(BYTES))),
      loop(
        v128.store(get(TO), v128.load(get(AT))),
        set(AT, i32.add(get(AT), i32.of(PIECE_BYTES))),
        set(TO, i32.add(get(TO), i32.of(PIECE_BYTES))),
        leaveIf(0, i32.lessThan(get(TO), get(STOP))),
      ),
      set(AT, i32.sub(get(AT), i32.sub(get(TO), get(STOP)))),
      set(TO, get(STOP)),
      set(COUNT, i32.add(get(COUNT), i32.of(1))),
      leave(0),
    ),
  ),
  i32.store(ZERO, get(AT), RESULT.stopped),
  i32.store(ZERO, get(TO), RESULT.end),
  i32.store(ZERO, get(COUNT), RESULT.count),
].flat();

/** What was packed; the next call writes over it. */
export interface Packed {
  /** How much was read: whole messages. */
  readonly bytesRead: number;
  /** The contents of the messages, one behind the other, from `start` up to `end`. */
  readonly view: DataView;
  readonly start: number;
  readonly end: number;
  readonly count: number;
}

/** One for all: what it has packed is used before the next call. */
let packer: { readonly memory: Uint8Array; readonly view: DataView; readonly pack: (end: number) => void } | undefined;

function sharedPacker(): NonNullable<typeof packer> {
  if (packer !== undefined) return packer;
  const program = wasmModule({
    name: 'pack',
    locals: ['i32', 'i32', 'i32', 'i32', 'i32'],
    body: [packing],
    pages: PAGES,
  });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program));
  const { buffer } = exports.memory as { readonly buffer: ArrayBuffer };
  packer = { memory: new Uint8Array(buffer), view: new DataView(buffer), pack: exports.pack as (end: number) => void };
  return packer;
}

/**
 * Takes the contents out of the CopyData messages at the beginning of some bytes, `PACK_BYTES_MAX` at the most, as long as
 * they are whole: rows of a few dozen bytes come by the million, and here each costs as much as being copied.
 */
export function packRows(messages: Uint8Array): Packed {
  const { memory, view, pack } = sharedPacker();
  memory.set(messages, MESSAGES_AT);
  pack(MESSAGES_AT + messages.length);
  const word = (at: number): number => view.getUint32(at, true);
  return {
    bytesRead: word(RESULT.stopped) - MESSAGES_AT,
    view,
    start: CONTENTS_AT,
    end: word(RESULT.end),
    count: word(RESULT.count),
  };
}
