/**
 * Code of WebAssembly as its binary form has it (https://webassembly.github.io/spec/core/binary/), put together of
 * expressions: only what is needed here. An expression leaves a value on the stack, a statement nothing.
 */
export type Code = readonly number[];

/** LEB128. */
function unsigned(value: number): Code {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

function signed(value: bigint): Code {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest >= -0x40n && rest < 0x40n) return [...bytes, Number(rest & 0x7fn)];
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

function operation(...opcode: readonly number[]): (...operands: readonly Code[]) => Code {
  return (...operands) => [...operands.flat(), ...opcode];
}

export const i32 = {
  of: (value: number): Code => [0x41, ...signed(BigInt(value))],
  load: (address: Code, offset = 0): Code => [...address, 0x28, 0, ...unsigned(offset)],
  loadByte: (address: Code): Code => [...address, 0x2d, 0, 0],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0x36, 0, ...unsigned(offset)],
  add: operation(0x6a),
  sub: operation(0x6b),
  and: operation(0x71),
  or: operation(0x72),
  shl: operation(0x74),
  rotl: operation(0x77),
  differs: operation(0x47),
  lessThan: operation(0x48),
  atLeast: operation(0x4e),
  /** Of numbers without a sign. */
  isMore: operation(0x4b),
  trailingZeros: operation(0x68),
};

export const i64 = {
  of: (value: bigint): Code => [0x42, ...signed(BigInt.asIntN(64, value))],
  ofI32: operation(0xad),
  load: (address: Code, offset = 0): Code => [...address, 0x29, 0, ...unsigned(offset)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0x37, 0, ...unsigned(offset)],
  add: operation(0x7c),
  sub: operation(0x7d),
  mul: operation(0x7e),
  and: operation(0x83),
  xor: operation(0x85),
  shl: operation(0x86),
  shr: operation(0x88),
  rotl: operation(0x89),
  isLess: operation(0x54),
};

/** Sixteen bytes at once. */
export const v128 = {
  load: (address: Code): Code => [...address, 0xfd, 0x00, 0, 0],
  store: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x0b, 0, 0],
  /** An i32 with a bit for each byte that is this one, the lowest for the first. */
  maskOf: (byte: number, value: Code): Code => [...value, ...i32.of(byte), 0xfd, 0x0f, 0xfd, 0x23, 0xfd, 0x64],
};

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
/** `then` where the condition is not zero; both are worked out. */
export const select = (condition: Code, then: Code, otherwise: Code): Code => [
  ...then,
  ...otherwise,
  ...condition,
  0x1b,
];
/** `leave(n)` in it goes on behind it, if it is the n-th around the statement, from 0. */
export const block = (...statements: readonly Code[]): Code => [0x02, 0x40, ...statements.flat(), 0x0b];
/** `leave(n)` in it begins it again. It ends by itself. */
export const loop = (...statements: readonly Code[]): Code => [0x03, 0x40, ...statements.flat(), 0x0b];
export const leave = (depth: number): Code => [0x0c, ...unsigned(depth)];
export const leaveIf = (depth: number, condition: Code): Code => [...condition, 0x0d, ...unsigned(depth)];

/** `\0asm`, and the version. */
const MAGIC = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const TYPES = { i32: 0x7f, i64: 0x7e } as const;

/** One function of one i32, which returns nothing, and its memory, exported by these names. */
export interface WasmProgram {
  readonly name: string;
  /** The types of its variables behind the parameter, which is variable 0. */
  readonly locals: readonly (keyof typeof TYPES)[];
  readonly body: readonly Code[];
  /** Of 64 KiB each. */
  readonly pages: number;
}

export function wasmModule({ name, locals, body, pages }: WasmProgram): Uint8Array<ArrayBuffer> {
  const variables = locals.map((type) => [1, TYPES[type]]);
  const code = [...unsigned(variables.length), ...variables.flat(), ...body.flat(), 0x0b];
  const [types, functions, memories, exported, codes] = [1, 3, 5, 7, 10];
  return Uint8Array.from([
    ...MAGIC,
    ...section(types, [0x60, 1, TYPES.i32, 0]),
    ...section(functions, [0]),
    ...section(memories, [0, ...unsigned(pages)]),
    ...section(exported, [...text('memory'), 2, 0], [...text(name), 0, 0]),
    ...section(codes, [...unsigned(code.length), ...code]),
  ]);
}

function section(id: number, ...items: readonly Code[]): Code {
  const content = [...unsigned(items.length), ...items.flat()];
  return [id, ...unsigned(content.length), ...content];
}

function text(characters: string): Code {
  return [characters.length, ...new TextEncoder().encode(characters)];
}
