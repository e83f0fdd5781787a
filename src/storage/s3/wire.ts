import { createHash, type Hash, hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Random } from '../../common/random.ts';

/** Metadata that pgark adds to each object it writes, to know its own write again after an answer that was lost. */
export const WRITE_ID = 'pgark-write';

export function newWriteId(random: Random): string {
  return Buffer.from(random.bytes(16)).toString('hex');
}

/** Header values are ASCII: everything else, `%` and controls travel percent-encoded. */
export function encodeMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const encoded: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata)) {
    encoded[name.toLowerCase()] = value.toWellFormed().replace(/^ | $|[^ -~]|%/gu, encodeURIComponent);
  }
  return encoded;
}

/** The reverse, without the names that are pgark's own. */
export function decodeMetadata(metadata: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const decoded: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata ?? {})) {
    if (name.toLowerCase() !== WRITE_ID) decoded[name.toLowerCase()] = decodePercent(value);
  }
  return decoded;
}

/** A key as `EncodingType=url` lists it. Some stores write a space as `+`; a plus sign itself is always `%2B`. */
export function decodeListedKey(key: string): string {
  return decodePercent(key.replaceAll('+', '%20'));
}

/** Text that is not valid percent-encoding was written by somebody else and stays as it is. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** An etag without its quotes, as pgark keeps it. */
export function bareEtag(etag: string | undefined): string {
  return etag?.replaceAll('"', '') ?? '';
}

export function quotedEtag(etag: string): string {
  return `"${etag}"`;
}

export function md5Hex(bytes: Uint8Array): string {
  return hash('md5', bytes, 'hex');
}

/** As the header `Content-MD5` has it. */
export function md5Base64(bytes: Uint8Array): string {
  return hash('md5', bytes, 'base64');
}

/** As the header `x-amz-checksum-crc32` has it: base64 of the four bytes, most significant first. */
export function crc32Base64(bytes: Uint8Array): string {
  return base64OfCrc32(crc32(bytes));
}

function base64OfCrc32(checksum: number): string {
  const digest = Buffer.allocUnsafe(4);
  digest.writeUInt32BE(checksum);
  return digest.toString('base64');
}

/** What goes along with a part for the store to compare, made piece by piece while the part is put together. */
export class PartDigest {
  readonly #sha256: Hash | undefined;
  #crc32 = 0;
  #sha256Hex: string | undefined;

  /** `signed`: with the SHA-256 that the signature of a request in the clear needs. */
  constructor(signed: boolean) {
    this.#sha256 = signed ? createHash('sha256') : undefined;
  }

  update(piece: Uint8Array): void {
    this.#crc32 = crc32(piece, this.#crc32);
    this.#sha256?.update(piece);
  }

  /** As `crc32Base64`. */
  get crc32Base64(): string {
    return base64OfCrc32(this.#crc32);
  }

  /** Undefined where it is not needed. Nothing may come any more. */
  get sha256Hex(): string | undefined {
    this.#sha256Hex ??= this.#sha256?.digest('hex');
    return this.#sha256Hex;
  }
}

/** Etag of a multipart object: MD5 of the parts' MD5s, a dash, their number. Undefined if a part's etag is no MD5. */
export function compositeEtag(partEtags: readonly string[]): string | undefined {
  const digest = createHash('md5');
  for (const etag of partEtags) {
    if (!/^[0-9a-f]{32}$/u.test(etag)) return undefined;
    digest.update(etag, 'hex');
  }
  return `${digest.digest('hex')}-${partEtags.length}`;
}
