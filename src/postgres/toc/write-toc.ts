import { assert } from '../../common/errors.ts';
import { type ByteString, toByteString } from './byte-string.ts';
import { FORMAT_BYTES, INTEGER_BYTES, MAGIC, type Toc, type TocEntry, type TocVersion } from './toc.ts';

/** Header and table of contents as pg_dump writes them: of what was read, the bytes that it was read from. */
export function writeToc(toc: Toc): Uint8Array {
  const output = new TocOutput();
  output.characters(toByteString(MAGIC));
  for (const byte of [1, toc.version, 0, INTEGER_BYTES, toc.offsetBytes, FORMAT_BYTES[toc.format]]) output.byte(byte);
  if (toc.version >= 15) output.byte(toc.compression);
  else output.integer(toc.compression);
  const { second, minute, hour, day, month, year, isDst } = toc.createdAt;
  for (const field of [second, minute, hour, day, month, year, isDst]) output.integer(field);
  for (const text of [toc.database, toc.serverVersion, toc.dumpVersion]) output.text(text);
  output.integer(toc.entries.length);
  if (toc.format === 'directory') {
    for (const entry of toc.entries) {
      writeEntry(output, entry, toc.version);
      output.text(entry.file);
    }
    return output.bytes();
  }
  for (const entry of toc.entries) {
    writeEntry(output, entry, toc.version);
    output.byte(entry.offsetState);
    output.offset(entry.offset, toc.offsetBytes);
  }
  return output.bytes();
}

function writeEntry(output: TocOutput, entry: TocEntry, version: TocVersion): void {
  output.integer(entry.dumpId);
  output.integer(entry.hasData ? 1 : 0);
  output.decimal(entry.tableOid);
  output.decimal(entry.oid);
  output.text(entry.tag);
  output.text(entry.description);
  output.integer(entry.section);
  output.text(entry.definition);
  output.text(entry.dropStatement);
  output.text(entry.copyStatement);
  output.text(entry.namespace);
  output.text(entry.tablespace);
  output.text(entry.tableAccessMethod);
  if (version >= 16) {
    assert(entry.relkind !== undefined, 'an entry of an archive since 1.16 has a relkind');
    output.integer(entry.relkind);
  }
  output.text(entry.owner);
  output.text(toByteString(entry.withOids ? 'true' : 'false'));
  for (const dumpId of entry.dependencies) output.decimal(dumpId);
  output.text(null);
}

const FIRST_BYTES = 64 * 1024;

/** The counterpart of `TocInput`: a buffer that doubles when it is full. */
class TocOutput {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  byte(value: number): void {
    this.#length = this.#reserve(1).writeUInt8(value, this.#length);
  }

  integer(value: number): void {
    this.byte(value < 0 ? 1 : 0);
    this.#length = this.#reserve(INTEGER_BYTES).writeUInt32LE(Math.abs(value), this.#length);
  }

  offset(value: bigint, bytes: 4 | 8): void {
    const buffer = this.#reserve(bytes);
    this.#length =
      bytes === 8 ? buffer.writeBigUInt64LE(value, this.#length) : buffer.writeUInt32LE(Number(value), this.#length);
  }

  text(text: ByteString | null): void {
    this.integer(text === null ? -1 : text.length);
    if (text !== null) this.characters(text);
  }

  /** In a string, as what is no number of the archive's own. */
  decimal(value: number): void {
    this.text(toByteString(String(value)));
  }

  characters(text: ByteString): void {
    this.#length += this.#reserve(text.length).write(text, this.#length, 'latin1');
  }

  #reserve(bytes: number): Buffer {
    const needed = this.#length + bytes;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}
