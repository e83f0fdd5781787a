/**
 * Encodings that a dump may be in and that TextDecoder knows (https://encoding.spec.whatwg.org/#names-and-labels), by
 * PostgreSQL's names for them (https://www.postgresql.org/docs/current/multibyte.html).
 */
const LABELS: Readonly<Record<string, string>> = {
  UTF8: 'utf-8',
  LATIN2: 'iso-8859-2',
  LATIN3: 'iso-8859-3',
  LATIN4: 'iso-8859-4',
  LATIN5: 'iso-8859-9',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  ISO_8859_5: 'iso-8859-5',
  ISO_8859_6: 'iso-8859-6',
  ISO_8859_7: 'iso-8859-7',
  ISO_8859_8: 'iso-8859-8',
  WIN1250: 'windows-1250',
  WIN1251: 'windows-1251',
  WIN1252: 'windows-1252',
  WIN1253: 'windows-1253',
  WIN1254: 'windows-1254',
  WIN1255: 'windows-1255',
  WIN1256: 'windows-1256',
  WIN1257: 'windows-1257',
  WIN1258: 'windows-1258',
  WIN866: 'ibm866',
  WIN874: 'windows-874',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  EUC_CN: 'gbk',
  GBK: 'gbk',
  GB18030: 'gb18030',
  BIG5: 'big5',
  EUC_JP: 'euc-jp',
  SJIS: 'shift_jis',
  EUC_KR: 'euc-kr',
  UHC: 'euc-kr',
};

/** As all that dumps write of SQL says it, in a line of its own at the beginning. */
export const CLIENT_ENCODING = /^SET client_encoding = '(\w+)';$/m;

/**
 * The text of bytes in one of PostgreSQL's encodings, as far as it can be known without a server, which knows all of them: what
 * cannot be read so is taken for UTF-8, and replaced where it is none.
 */
export function decodeText(bytes: Uint8Array, encoding: string): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // TextDecoder takes it for Windows’ own.
  if (encoding === 'LATIN1') return buffer.toString('latin1');
  const label = LABELS[encoding];
  if (label === undefined) return buffer.toString();
  try {
    return new TextDecoder(label, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return buffer.toString();
  }
}
