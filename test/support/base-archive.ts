import { createHash } from 'node:crypto';

/** A member of an archive as PostgreSQL writes it. */
export interface Member {
  readonly name: string;
  readonly type?: '0' | '5' | '2';
  readonly content?: Uint8Array;
  readonly target?: string;
  readonly mode?: number;
}

const BLOCK = 512;

/** What `tarCreateHeader` of PostgreSQL writes (src/port/tar.c). Names and targets are bytes as characters. */
export function tarHeader({ name, type = '0', content, target = '', mode = 0o600 }: Member, bytes?: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const size = bytes ?? content?.length ?? 0;
  block.write(type === '5' ? `${name}/` : name, 0, 100, 'latin1');
  writeNumber(block, 100, 8, mode);
  writeNumber(block, 108, 8, 999);
  writeNumber(block, 116, 8, 999);
  writeNumber(block, 124, 12, size);
  writeNumber(block, 136, 12, 1_700_000_000);
  block.write(type, 156, 1, 'latin1');
  block.write(target, 157, 100, 'latin1');
  block.write('ustar\x0000', 257, 8, 'latin1');
  block.write('postgres', 265, 32, 'latin1');
  block.write('postgres', 297, 32, 'latin1');
  writeNumber(block, 329, 8, 0);
  writeNumber(block, 337, 8, 0);
  return sealHeader(block);
}

/** Writes the checksum of a header whose fields were changed. */
export function sealHeader(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  writeNumber(block, 148, 8, sum);
  return block;
}

/** Octal digits and a blank; what does not fit them, as a binary number. */
function writeNumber(block: Buffer, at: number, width: number, value: number): void {
  const digits = value.toString(8);
  if (digits.length < width) {
    block.write(`${digits.padStart(width - 1, '0')} `, at, width, 'latin1');
    return;
  }
  block.writeUInt8(0x80, at);
  let rest = value;
  for (let index = at + width - 1; index > at; index -= 1, rest = Math.floor(rest / 256))
    block.writeUInt8(rest % 256, index);
}

export function tarOf(members: readonly Member[], { endMark = true } = {}): Buffer {
  const pieces = members.flatMap((member) => {
    const content = member.content ?? new Uint8Array(0);
    return [tarHeader(member), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...pieces, Buffer.alloc(endMark ? 2 * BLOCK : 0)]);
}

export interface ListedFile {
  readonly path: string;
  readonly content: Uint8Array;
}

/** A backup_manifest as PostgreSQL 17 writes it; with version 1, as before. Paths are text. */
export function manifestOf(files: readonly ListedFile[], { version = 2, ranges = 1 } = {}): Buffer {
  const listed = files.map(({ path, content }) => {
    const sum = createHash('sha256').update(content).digest('hex');
    const time = '2026-11-20 02:00:00 GMT';
    return `{ "Path": ${JSON.stringify(path)}, "Size": ${content.length}, "Last-Modified": "${time}", "Checksum-Algorithm": "SHA256", "Checksum": "${sum}" }`;
  });
  const wal = Array.from(
    { length: ranges },
    (_, index) => `{ "Timeline": ${index + 1}, "Start-LSN": "0/2000028", "End-LSN": "1/FF000100" }`,
  );
  const system = version === 1 ? '' : '"System-Identifier": 7712539176122962914,\n';
  const body =
    `{ "PostgreSQL-Backup-Manifest-Version": ${version},\n${system}"Files": [` +
    `${listed.map((line, index) => `${index === 0 ? '' : ','}\n${line}`).join('')}\n],\n` +
    `"WAL-Ranges": [\n${wal.join(',\n')}\n],\n`;
  const sum = createHash('sha256').update(body).digest('hex');
  return Buffer.from(`${body}"Manifest-Checksum": "${sum}"}\n`);
}
