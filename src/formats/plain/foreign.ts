import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { detectCompression } from '../../pipeline/compression.ts';
import { namingObject } from '../../pipeline/corrupt.ts';
import { decompress } from '../../pipeline/decompress.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { meter } from '../../pipeline/meter.ts';
import { peek } from '../../pipeline/peek.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { DUMP_HEAD_BYTES, type DumpFormat, readDumpHead } from './dump-head.ts';
import { refuseTruncatedScript } from './sql-script.ts';
import { refuseTruncatedTar } from './tar-archive.ts';
import type { ObjectKey, ObjectStore } from '../../storage/object-store.ts';

/** Some editors put it before UTF-8; psql takes it for SQL where it is not the very first of its input. */
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/**
 * A dump that some other tool wrote: plain SQL or an archive in custom or tar format, compressed or not, encrypted or not, told
 * apart by its first bytes. There is no digest to check it by; truncation shows where the compression or the archive
 * ends too early. Errors: `corrupt`, `wrong-key`, `key-missing`, `restore-failed` for what is no dump.
 */
export async function readForeign(
  store: ObjectStore,
  key: ObjectKey,
  options: {
    readonly keys: DecryptionKeys;
    readonly signal?: AbortSignal;
    readonly onStoredBytes: (bytesTotal: number) => void;
  },
): Promise<{ readonly format: DumpFormat; readonly body: ByteStream }> {
  const { body } = await store.get(key, options.signal ? { signal: options.signal } : {});
  const named = (make: () => Transform): Transform => namingObject(key, make);
  let opened = await peek(meter(options.onStoredBytes)(body), DUMP_HEAD_BYTES);
  const { detectEncryption, openSealed } = await import('../../pipeline/encryption/open-sealed.ts');
  const scheme = detectEncryption(opened.first);
  if (scheme !== undefined) {
    opened = await peek(named(() => openSealed({ scheme }, options.keys))(opened.stream), DUMP_HEAD_BYTES);
  }
  const compression = detectCompression(opened.first);
  if (compression !== 'none') opened = await peek(named(() => decompress(compression))(opened.stream), DUMP_HEAD_BYTES);
  const format = readDumpHead(opened.first);
  if (format?.kind === 'archive') {
    return { format, body: format.isTar === true ? refuseTruncatedTar(key)(opened.stream) : opened.stream };
  }
  if (format === undefined) {
    for await (const _ of opened.stream) break;
    throw new PgarkError('restore-failed', `${key} is neither SQL text nor an archive of pg_dump`, {
      hint: key.endsWith('.gpg')
        ? 'gpg has encrypted it: decrypt it (gpg --decrypt), put the result into the storage, and restore that'
        : 'restore it by the tool that wrote it',
    });
  }
  const script = opened.first.subarray(0, 3).every((byte, index) => byte === BYTE_ORDER_MARK[index])
    ? skipBytes(opened.stream, BYTE_ORDER_MARK.length)
    : opened.stream;
  return { format, body: refuseTruncatedScript(key)(script) };
}

async function* skipBytes(source: ByteStream, count: number): ByteStream {
  let left = count;
  for await (const block of source) {
    const skipped = Math.min(left, block.length);
    left -= skipped;
    if (skipped < block.length) yield block.subarray(skipped);
  }
}
