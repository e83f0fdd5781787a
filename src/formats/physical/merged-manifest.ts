import { createHash } from 'node:crypto';
import type { ByteStream } from '../../common/bytes.ts';
import { type ByteString, toByteString } from '../../postgres/toc/byte-string.ts';
import { pathOfIncremental } from './incremental-file.ts';

/** What a file has become. */
export interface FileChange {
  readonly bytes: number;
  readonly sha256: string;
}

const NEWLINE = 0x0a;
const FILE = '{ "Path": ';
const LAST = '"Manifest-Checksum": ';

/**
 * The backup_manifest of an incremental backup, which was read before and is sound, as that of the whole backup that it
 * was made into: with other names, lengths and digests where there are any, and a checksum of its own.
 */
export async function* mergedManifest(
  source: ByteStream,
  changeOf: (path: ByteString) => FileChange | undefined,
): ByteStream {
  const hash = createHash('sha256');
  let pending: Uint8Array = new Uint8Array(0);
  for await (const block of source) {
    const bytes = Buffer.concat([pending, block]);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    pending = Buffer.from(bytes.subarray(end));
    const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
    const changed = lines.map((line) => {
      if (line.startsWith(LAST)) return `${LAST}"${hash.digest('hex')}"}\n`;
      const text = `${changedLine(line, changeOf)}\n`;
      hash.update(text);
      return text;
    });
    yield Buffer.from(changed.join(''));
  }
}

/** Files that change have names of ASCII: those with others are listed by `Encoded-Path`. */
function changedLine(line: string, changeOf: (path: ByteString) => FileChange | undefined): string {
  if (!line.startsWith(FILE)) return line;
  const file = JSON.parse(line.replace(/,$/, '')) as Readonly<Record<string, string | number>>;
  const { Path: path, 'Last-Modified': modified } = file;
  const listed = toByteString(String(path));
  const name = pathOfIncremental(listed) ?? listed;
  const change = changeOf(name);
  if (change === undefined) return line;
  const fields = [
    `"Path": ${JSON.stringify(name)}`,
    `"Size": ${change.bytes}`,
    `"Last-Modified": ${JSON.stringify(modified)}`,
    `"Checksum-Algorithm": "SHA256", "Checksum": "${change.sha256}"`,
  ];
  return `{ ${fields.join(', ')} }${line.endsWith(',') ? ',' : ''}`;
}
