import {
  block,
  type Code,
  get,
  i32,
  i64,
  leave,
  leaveIf,
  loop,
  select,
  set,
  v128,
  wasmModule,
} from '../common/wasm-code.ts';

/**
 * Of each line with its end, MurmurHash3_x64_128 with seed 0 (Austin Appleby, https://github.com/aappleby/smhasher), the first half the
 * low one of a number of 128 bits; and of all lines, their sum modulo 2^128.
 *
 * In the memory: 64 bytes of state, all zero at the beginning, then the text, which `hash(end)` reads up to `end`. A line
 * may go on in the next text; the last bytes of one that does, up to 15, are the last of the state, so that they lie in
 * front of that.
 */
export const TEXT_AT = 64;
const STATE = { h1: 0, h2: 8, mixedBytes: 16, restBytes: 24, sumLow: 32, sumHigh: 40 } as const;
/** Where the sum lies, lowest byte first. */
export const SUM_AT = STATE.sumLow;
/** More of a text does not stay in the processor's nearest memory. */
export const TEXT_BYTES_MAX = 64 * 1024;

const NEWLINE = 0x0a;
const BLOCK = 16;
const C1 = i64.of(0x87c3_7b91_1142_53d5n);
const C2 = i64.of(0x4cf5_ad43_2745_937fn);
const ZERO = i32.of(0);

const [END, AT, SEEN, FOUND, TAIL, H1, H2, MIXED, SUM_LOW, SUM_HIGH] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] as const;

const mix1 = (word: Code): Code => i64.mul(i64.rotl(i64.mul(word, C1), i64.of(31n)), C2);
const mix2 = (word: Code): Code => i64.mul(i64.rotl(i64.mul(word, C2), i64.of(33n)), C1);
const stir = (word: Code, other: Code, rotated: bigint, added: bigint): Code =>
  i64.add(i64.mul(i64.add(i64.rotl(word, i64.of(rotated)), other), i64.of(5n)), i64.of(added));

/** Whole blocks of the line, from AT on. */
const mixBlocksUpTo = (end: Code): Code =>
  block(
    loop(
      leaveIf(1, i32.lessThan(i32.sub(end, get(AT)), i32.of(BLOCK))),
      set(H1, stir(i64.xor(get(H1), mix1(i64.load(get(AT)))), get(H2), 27n, 0x52dce729n)),
      set(H2, stir(i64.xor(get(H2), mix2(i64.load(get(AT), 8))), get(H1), 31n, 0x38495ab5n)),
      set(AT, i32.add(get(AT), i32.of(BLOCK))),
      set(MIXED, i64.add(get(MIXED), i64.of(16n))),
      leave(0),
    ),
  );

/** Ones for so many bytes, of which there are less than eight. */
const lowBytes = (bytes: Code): Code => i64.sub(i64.shl(i64.of(1n), i64.ofI32(i32.shl(bytes, i32.of(3)))), i64.of(1n));
const beyondEight = i32.sub(get(TAIL), i32.of(8));
const hasEight = i32.atLeast(get(TAIL), i32.of(8));

/** What is left of the line, up to SEEN, as a block of which the rest is zero. */
const mixTail: Code = [
  set(TAIL, i32.sub(get(SEEN), get(AT))),
  set(H1, i64.xor(get(H1), mix1(i64.and(i64.load(get(AT)), select(hasEight, i64.of(-1n), lowBytes(get(TAIL))))))),
  set(H2, i64.xor(get(H2), mix2(i64.and(i64.load(get(AT), 8), select(hasEight, lowBytes(beyondEight), i64.of(0n)))))),
  set(MIXED, i64.add(get(MIXED), i64.ofI32(get(TAIL)))),
].flat();

const avalanche = (word: number): Code => {
  const folded = i64.xor(get(word), i64.shr(get(word), i64.of(33n)));
  return [
    set(word, i64.mul(folded, i64.of(0xff51_afd7_ed55_8ccdn))),
    set(word, i64.mul(folded, i64.of(0xc4ce_b9fe_1a85_ec53n))),
    set(word, folded),
  ].flat();
};
const addEachToOther: Code = [set(H1, i64.add(get(H1), get(H2))), set(H2, i64.add(get(H2), get(H1)))].flat();
const finish: Code = [
  set(H1, i64.xor(get(H1), get(MIXED))),
  set(H2, i64.xor(get(H2), get(MIXED))),
  addEachToOther,
  avalanche(H1),
  avalanche(H2),
  addEachToOther,
].flat();

const addToSum: Code = [
  set(SUM_LOW, i64.add(get(SUM_LOW), get(H1))),
  set(SUM_HIGH, i64.add(i64.add(get(SUM_HIGH), get(H2)), i64.ofI32(i64.isLess(get(SUM_LOW), get(H1))))),
].flat();

const begin: Code = [set(H1, i64.of(0n)), set(H2, i64.of(0n)), set(MIXED, i64.of(0n)), set(AT, get(SEEN))].flat();

const load: Code = [
  set(H1, i64.load(ZERO, STATE.h1)),
  set(H2, i64.load(ZERO, STATE.h2)),
  set(MIXED, i64.load(ZERO, STATE.mixedBytes)),
  set(SUM_LOW, i64.load(ZERO, STATE.sumLow)),
  set(SUM_HIGH, i64.load(ZERO, STATE.sumHigh)),
  set(SEEN, i32.of(TEXT_AT)),
  set(AT, i32.sub(get(SEEN), i32.load(ZERO, STATE.restBytes))),
].flat();

const store: Code = [
  i64.store(ZERO, get(H1), STATE.h1),
  i64.store(ZERO, get(H2), STATE.h2),
  i64.store(ZERO, get(MIXED), STATE.mixedBytes),
  i64.store(ZERO, get(SUM_LOW), STATE.sumLow),
  i64.store(ZERO, get(SUM_HIGH), STATE.sumHigh),
  i32.store(ZERO, i32.sub(get(END), get(AT)), STATE.restBytes),
  // A text that is shorter than a block moves together with what lies in front of it.
  v128.store(i32.of(TEXT_AT - BLOCK), v128.load(i32.sub(get(END), i32.of(BLOCK)))),
].flat();

/** Goes on with a line that has its end in the text, again and again; what lies behind END is of an earlier text. */
const eachLine: Code = block(
  loop(
    block(
      loop(
        set(FOUND, v128.maskOf(NEWLINE, v128.load(get(SEEN)))),
        leaveIf(1, get(FOUND)),
        set(SEEN, i32.add(get(SEEN), i32.of(BLOCK))),
        leaveIf(0, i32.lessThan(get(SEEN), get(END))),
        leave(3),
      ),
    ),
    set(SEEN, i32.add(get(SEEN), i32.trailingZeros(get(FOUND)))),
    leaveIf(1, i32.atLeast(get(SEEN), get(END))),
    set(SEEN, i32.add(get(SEEN), i32.of(1))),
    mixBlocksUpTo(get(SEEN)),
    mixTail,
    finish,
    addToSum,
    begin,
    leaveIf(0, i32.lessThan(get(SEEN), get(END))),
  ),
);

export function rowsHashModule(): Uint8Array<ArrayBuffer> {
  return wasmModule({
    name: 'hash',
    locals: ['i32', 'i32', 'i32', 'i32', 'i64', 'i64', 'i64', 'i64', 'i64'],
    body: [load, eachLine, mixBlocksUpTo(get(END)), store],
    // A page, and what is read of a block behind its end.
    pages: 2,
  });
}
