import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';

/** Source of the format: POSIX.1-1988 ustar, as `pg_backup_tar.c` of PostgreSQL writes it. */
const BLOCK_BYTES = 512;
const NAME = [0, 100] as const;
const SIZE = [124, 136] as const;
const CHECKSUM = [148, 156] as const;
/** What pg_dump writes last, for people; pg_restore does not read it. */
const SCRIPT_NAME = 'restore.sql';

/**
 * Passes what pg_restore reads of an archive in tar format: everything before `restore.sql`. Throws `corrupt` if the
 * archive breaks off or is damaged; pg_restore 15 would wait for the rest of such a one for ever. The last block is passed
 * only when the archive has shown its end, so that a load of a truncated one is never whole.
 */
export function refuseTruncatedTar(what: string): Transform {
  return async function* wholeTar(source) {
    const walker = new TarWalker(what);
    let held: Uint8Array = new Uint8Array(0);
    for await (const block of source) {
      const passed = walker.push(block);
      if (passed.length === 0) continue;
      const joined = Buffer.concat([held, passed]);
      const cut = Math.max(0, joined.length - BLOCK_BYTES);
      if (cut > 0) yield joined.subarray(0, cut);
      held = Buffer.from(joined.subarray(cut));
    }
    walker.end();
    yield held;
    yield new Uint8Array(2 * BLOCK_BYTES);
  };
}

/** Follows the headers of an archive; gives back what stands before the script. */
class TarWalker {
  readonly #what: string;
  /** Of a header that came in pieces. */
  #header: Uint8Array = new Uint8Array(0);
  /** Bytes of a file's content, padding included, that are still to come. */
  #contentBytes = 0;
  #state: 'files' | 'script' | 'ended' = 'files';

  constructor(what: string) {
    this.#what = what;
  }

  push(block: Uint8Array): Uint8Array {
    const passed: Uint8Array[] = [];
    let rest = block;
    while (rest.length > 0 && this.#state !== 'ended') {
      if (this.#contentBytes > 0) {
        const content = rest.subarray(0, this.#contentBytes);
        this.#contentBytes -= content.length;
        rest = rest.subarray(content.length);
        if (this.#state === 'files') passed.push(content);
        continue;
      }
      const piece = rest.subarray(0, BLOCK_BYTES - this.#header.length);
      rest = rest.subarray(piece.length);
      this.#header = Buffer.concat([this.#header, piece]);
      if (this.#header.length < BLOCK_BYTES) break;
      this.#readHeader(this.#header);
      if (this.#state === 'files') passed.push(this.#header);
      this.#header = new Uint8Array(0);
    }
    return passed.length === 1 && passed[0] !== undefined ? passed[0] : Buffer.concat(passed);
  }

  end(): void {
    if (this.#state === 'ended') return;
    throw this.#corrupt('truncated: it ends before its own end mark');
  }

  #readHeader(header: Uint8Array): void {
    if (header.every((byte) => byte === 0)) {
      this.#state = 'ended';
      return;
    }
    const sum = header.reduce(
      (total, byte, index) => total + (index >= CHECKSUM[0] && index < CHECKSUM[1] ? 0x20 : byte),
      0,
    );
    if (octal(header, CHECKSUM) !== sum) throw this.#corrupt('damaged: the checksum of a header is wrong');
    const bytes = sizeOf(header);
    this.#contentBytes = Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
    const [name] = Buffer.from(header.subarray(...NAME))
      .toString('latin1')
      .split('\0');
    if (name === SCRIPT_NAME) this.#state = 'script';
  }

  #corrupt(how: string): PgarkError {
    return new PgarkError('corrupt', `${this.#what} is ${how}`, {
      hint: 'restore another copy of it; what was loaded of this one was not kept',
    });
  }
}

/** Octal digits or, beyond 8 GiB, the number itself with the highest bit set. */
function sizeOf(header: Uint8Array): number {
  if (((header[SIZE[0]] ?? 0) & 0x80) === 0) return octal(header, SIZE);
  return header.subarray(SIZE[0] + 1, SIZE[1]).reduce((number, byte) => number * 256 + byte, 0);
}

function octal(header: Uint8Array, [start, end]: readonly [number, number]): number {
  const digits = /^ *([0-7]+)/.exec(Buffer.from(header.subarray(start, end)).toString('latin1'));
  return digits === null ? Number.NaN : Number.parseInt(digits[1] ?? '', 8);
}
