// A process that answers like an S3 server and throws the data away: node bench/sink.ts [--keep] [--latency-ms=40]
// [--bytes-per-second=50000000]. It prints its port, and ends with its stdin. Objects below `.pgark/` are kept in memory,
// since pgark reads them again; of all others only length and CRC-32 remain, unless all are to be kept. With a latency each
// request is looked at that much later, with a number of bytes no connection carries more in a second. Signatures are not
// looked at.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { crc32 } from 'node:zlib';

interface StoredObject {
  readonly bytes: number;
  readonly etag: string;
  readonly modified: Date;
  readonly headers: Readonly<Record<string, string>>;
  /** Missing where the content was thrown away. */
  readonly content: readonly Buffer[] | undefined;
}

interface Upload {
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly parts: Map<number, Received>;
}

interface Received {
  readonly bytes: number;
  /** Base64 of the four bytes, as S3's headers have it. */
  readonly crc32: string;
  readonly content: readonly Buffer[] | undefined;
}

/** An answer that S3 would give with a status of its own. */
class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

const { values: settings } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    'latency-ms': { type: 'string', default: '0' },
    'bytes-per-second': { type: 'string', default: '0' },
  },
});
const latencyMs = Number(settings['latency-ms']);
const bytesPerSecond = Number(settings['bytes-per-second']) || Number.POSITIVE_INFINITY;

const objects = new Map<string, StoredObject>();
const uploads = new Map<string, Upload>();
let lastTag = 0;

/** An etag that is no MD5: confirming by CRC-32 costs both sides less, and is what most stores offer today. */
function newTag(): string {
  lastTag += 1;
  return `"sink-${lastTag}"`;
}

/** Makes one body take as long as its bytes need on a connection of that speed. */
function pace(): (bytes: number) => Promise<void> | undefined {
  const beginMs = performance.now();
  let bytesInAll = 0;
  return (bytes) => {
    bytesInAll += bytes;
    const waitMs = beginMs + (bytesInAll / bytesPerSecond) * 1_000 - performance.now();
    return waitMs >= 1 ? delay(waitMs) : undefined;
  };
}

async function receive(request: IncomingMessage, keep: boolean): Promise<Received> {
  const chunks: Buffer[] = [];
  const passed = pace();
  let bytes = 0;
  let checksum = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    checksum = crc32(chunk, checksum);
    if (keep) chunks.push(chunk);
    await passed(chunk.length);
  }
  const announced = request.headers['content-length'];
  if (announced !== undefined && Number(announced) !== bytes) throw new Refusal(400, 'IncompleteBody');
  const digest = Buffer.alloc(4);
  digest.writeUInt32BE(checksum);
  const sent = request.headers['x-amz-checksum-crc32'];
  if (sent !== undefined && sent !== digest.toString('base64')) throw new Refusal(400, 'BadDigest');
  return { bytes, crc32: digest.toString('base64'), content: keep ? chunks : undefined };
}

function keptHeaders(request: IncomingMessage): Record<string, string> {
  const entries = Object.entries(request.headers).filter(
    ([name, value]) => typeof value === 'string' && (name.startsWith('x-amz-meta-') || name === 'content-type'),
  );
  return Object.fromEntries(entries) as Record<string, string>;
}

function checkConditions(request: IncomingMessage, key: string): void {
  const existing = objects.get(key);
  const { 'if-none-match': absent, 'if-match': etag } = request.headers;
  if (absent === '*' && existing !== undefined) throw new Refusal(412, 'PreconditionFailed');
  if (etag !== undefined && existing === undefined) throw new Refusal(404, 'NoSuchKey');
  if (etag !== undefined && existing?.etag !== etag) throw new Refusal(412, 'PreconditionFailed');
}

function store(key: string, object: Omit<StoredObject, 'etag' | 'modified'>): StoredObject {
  const stored = { ...object, etag: newTag(), modified: new Date() };
  objects.set(key, stored);
  return stored;
}

function uploadOf(id: string): Upload {
  const upload = uploads.get(id);
  if (upload === undefined) throw new Refusal(404, 'NoSuchUpload');
  return upload;
}

function objectOf(key: string): StoredObject {
  const object = objects.get(key);
  if (object === undefined) throw new Refusal(404, 'NoSuchKey');
  return object;
}

function xml(response: ServerResponse, body: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0" encoding="UTF-8"?>${body}`);
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function list(bucket: string, query: URLSearchParams, response: ServerResponse): void {
  const prefix = `${bucket}/${query.get('prefix') ?? ''}`;
  const after = query.get('start-after');
  const found = [...objects]
    .filter(([key]) => key.startsWith(prefix) && (after === null || key > `${bucket}/${after}`))
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const contents = found.map(([key, { bytes, etag, modified }]) => {
    const name = encodeURIComponent(key.slice(bucket.length + 1));
    return `<Contents><Key>${name}</Key><Size>${bytes}</Size><ETag>${escapeXml(etag)}</ETag><LastModified>${modified.toISOString()}</LastModified></Contents>`;
  });
  xml(
    response,
    `<ListBucketResult><Name>${escapeXml(bucket)}</Name><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`,
  );
}

async function put(request: IncomingMessage, response: ServerResponse, key: string): Promise<void> {
  const received = await receive(request, settings.keep || key.includes('/.pgark/'));
  checkConditions(request, key);
  const { etag } = store(key, { bytes: received.bytes, content: received.content, headers: keptHeaders(request) });
  response.writeHead(200, { etag, 'x-amz-checksum-crc32': received.crc32 }).end();
}

async function putPart(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
  const upload = uploadOf(query.get('uploadId') ?? '');
  const part = await receive(request, settings.keep);
  upload.parts.set(Number(query.get('partNumber')), part);
  response.writeHead(200, { etag: newTag(), 'x-amz-checksum-crc32': part.crc32 }).end();
}

async function complete(request: IncomingMessage, response: ServerResponse, id: string): Promise<void> {
  const { content } = await receive(request, true);
  const upload = uploadOf(id);
  checkConditions(request, upload.key);
  const named = Buffer.concat(content ?? [])
    .toString()
    .matchAll(/<PartNumber>(\d+)<\/PartNumber>/gu);
  const parts = [...named].map(([, number]) => {
    const part = upload.parts.get(Number(number));
    if (part === undefined) throw new Refusal(400, 'InvalidPart');
    return part;
  });
  uploads.delete(id);
  const { etag } = store(upload.key, {
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    content: settings.keep ? parts.flatMap((part) => part.content ?? []) : undefined,
    headers: upload.headers,
  });
  xml(response, `<CompleteMultipartUploadResult><ETag>${escapeXml(etag)}</ETag></CompleteMultipartUploadResult>`);
}

function create(request: IncomingMessage, response: ServerResponse, key: string): void {
  const id = `upload-${uploads.size}-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  uploads.set(id, { key, headers: keptHeaders(request), parts: new Map() });
  xml(response, `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
}

async function get(request: IncomingMessage, response: ServerResponse, key: string): Promise<void> {
  const { bytes, etag, modified, headers, content } = objectOf(key);
  const head = request.method === 'HEAD';
  if (!head && content === undefined) throw new Refusal(410, 'ThrownAway');
  const range = /^bytes=(\d+)-(\d*)$/u.exec(request.headers.range ?? '');
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(Number(range?.[2] || bytes - 1), bytes - 1);
  if (range !== null && start >= bytes) throw new Refusal(416, 'InvalidRange');
  response.writeHead(range === null ? 200 : 206, {
    ...headers,
    etag,
    'last-modified': modified.toUTCString(),
    'content-length': String(end - start + 1),
    ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${bytes}` }),
  });
  if (head) response.end();
  else await pipeline(pieces(content ?? [], start, end + 1), response);
}

/** The bytes from `start` up to `end`, no faster than the connection carries them. */
async function* pieces(content: readonly Buffer[], start: number, end: number): AsyncGenerator<Buffer> {
  const passed = pace();
  let position = 0;
  for (const chunk of content) {
    const piece = chunk.subarray(Math.max(0, start - position), Math.max(0, end - position));
    position += chunk.length;
    if (piece.length === 0) continue;
    yield piece;
    await passed(piece.length);
  }
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (latencyMs > 0) await delay(latencyMs);
  const { pathname, searchParams: query } = new URL(request.url ?? '/', 'http://sink');
  const key = decodeURIComponent(pathname.slice(1));
  const bucketOnly = !key.includes('/') || (key.endsWith('/') && key.indexOf('/') === key.length - 1);
  const bucket = key.split('/')[0] ?? '';
  const method = request.method ?? '';
  const id = query.get('uploadId');
  if (bucketOnly) {
    if (query.has('uploads')) xml(response, '<ListMultipartUploadsResult></ListMultipartUploadsResult>');
    else if (method === 'GET') list(bucket, query, response);
    else response.writeHead(200).end();
  } else if (method === 'PUT') await (id === null ? put(request, response, key) : putPart(request, response, query));
  else if (method === 'POST' && query.has('uploads')) create(request, response, key);
  else if (method === 'POST' && id !== null) await complete(request, response, id);
  else if (method === 'DELETE') {
    if (id === null) objects.delete(key);
    else if (!uploads.delete(id)) throw new Refusal(404, 'NoSuchUpload');
    response.writeHead(204).end();
  } else if (id !== null) {
    uploadOf(id);
    xml(response, '<ListPartsResult></ListPartsResult>');
  } else await get(request, response, key);
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    // A reader that has gone away.
    if (response.headersSent) return;
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'InternalError');
    if (!(error instanceof Refusal)) console.error(error);
    response.writeHead(refusal.status, { 'content-type': 'application/xml' });
    response.end(request.method === 'HEAD' ? undefined : `<Error><Code>${refusal.code}</Code></Error>`);
  });
});
// A pipeline may take longer to begin its upload than a connection may usually be idle.
server.requestTimeout = 0;
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  console.log(address !== null && typeof address === 'object' ? address.port : '');
});
process.stdin.resume().once('end', () => process.exit(0));
