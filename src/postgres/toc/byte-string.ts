import type { Brand } from '../../common/brand.ts';

/**
 * Bytes in a string, one character (U+0000 to U+00FF) for each. An archive's strings are in the client encoding of its
 * dump, which need not be UTF-8, and have to come out as they went in; as strings they take half of what views of
 * buffers take.
 */
export type ByteString = Brand<string, 'ByteString'>;

export function byteStringOf(bytes: Buffer): ByteString {
  return bytes.toString('latin1') as ByteString;
}

export function bytesOf(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/** The bytes that the text has in UTF-8. */
export function toByteString(text: string): ByteString {
  return byteStringOf(Buffer.from(text));
}

/** For people: the text whose UTF-8 it is; what is no UTF-8 is replaced. */
export function readable(bytes: ByteString): string {
  return bytesOf(bytes).toString();
}
