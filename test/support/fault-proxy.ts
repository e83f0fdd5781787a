import { once } from 'node:events';
import { createServer, type IncomingMessage, request as forward, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { isIP, type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** What happens to one request on its way to the store and back. */
export type Fault =
  /** The store never sees it; this is answered, with the date given. */
  | { readonly kind: 'answer'; readonly status: number; readonly code: string; readonly date?: Date }
  /** The store never sees it, and nothing is answered. */
  | { readonly kind: 'silence' }
  /** The connection is cut when so many bytes of the request's body have come. */
  | { readonly kind: 'cut-request'; readonly afterBytes: number }
  /** The store carries it out; the connection is cut after so many bytes of the answer's body. */
  | { readonly kind: 'cut-answer'; readonly afterBytes: number }
  /** The store carries it out, then the connection is cut. */
  | { readonly kind: 'lose-answer' }
  /** The store carries it out, and nothing is answered; somebody may be told. */
  | { readonly kind: 'withhold-answer'; readonly onDone?: () => void }
  /** The store carries it out; something else is answered. */
  | { readonly kind: 'replace-answer'; readonly status: number; readonly body: string }
  /** The store carries it out; its answer has these headers instead of its own. */
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string>> }
  /** It goes on only when this has resolved. */
  | { readonly kind: 'delay'; readonly until: Promise<void> }
  /** The store has it, and carries it out when this has resolved, whether or not anybody still waits. */
  | { readonly kind: 'late'; readonly until: Promise<void> }
  /** The store never sees it; the connection is reset. */
  | { readonly kind: 'reset' }
  /** It goes on after a pause, and the answer comes in pieces with such pauses between. */
  | { readonly kind: 'slow'; readonly pauseMs: number }
  /** The store carries it out; half of the answer's body comes, as if that were all, or before the connection is cut. */
  | { readonly kind: 'halve-answer'; readonly ends: 'well' | 'cut' }
  /** One byte in the middle of the body is another: on the way to the store, or back. */
  | { readonly kind: 'damage'; readonly what: 'request' | 'answer' };

/** What was said in a request that was passed on, and in its answer. */
export interface PassedRequest {
  readonly operation: string;
  readonly requestBytes: number;
  /** Of the body. */
  readonly answerBytes: number;
}

export interface ProxiedRequest {
  /** The S3 operation: `UploadPart`, `HeadObject` … */
  readonly operation: string;
  /** Path and query as sent. */
  readonly url: URL;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly partNumber: number | undefined;
  /** How many requests came before this one. */
  readonly index: number;
  /** How many requests of this operation came before this one. */
  readonly nth: number;
}

export type Decide = (request: ProxiedRequest) => Fault | undefined;

export interface FaultProxy extends AsyncDisposable {
  readonly endpoint: string;
  /** Operations in the order of their arrival. */
  readonly seen: readonly string[];
  /** By the index of the request; only those whose answers came through. */
  readonly passed: ReadonlyMap<number, PassedRequest>;
  /** The most requests of one operation that were under way at once. */
  concurrencyMax(operation: string): number;
  /** Resolves when no request is under way. */
  idle(): Promise<void>;
  /** Forgets what was seen, and decides by this from now on. */
  setFaults(decide: Decide): void;
}

/** A proxy before a real S3 server that does to each request what the test decides; with a key, it speaks TLS. */
export async function startFaultProxy(
  target: string,
  tls?: { readonly key: string; readonly cert: string },
): Promise<FaultProxy> {
  const { hostname, port } = new URL(target);
  if (isIP(hostname) === 0 && hostname !== 'localhost')
    throw new Error(`the proxy is for a local server, not ${hostname}`);
  let decide: Decide = () => undefined;
  const seen: string[] = [];
  let passed = new Map<number, PassedRequest>();
  const underWay = new Map<string, number>();
  const most = new Map<string, number>();
  const handling = new Set<Promise<void>>();

  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const url = new URL(incoming.url ?? '/', target);
    const operation = operationOf(incoming.method ?? '', url);
    const number = url.searchParams.get('partNumber');
    const nth = seen.filter((name) => name === operation).length;
    const request: ProxiedRequest = {
      operation,
      url,
      headers: incoming.headers,
      partNumber: number === null ? undefined : Number(number),
      index: seen.length,
      nth,
    };
    seen.push(operation);
    const now = (underWay.get(operation) ?? 0) + 1;
    underWay.set(operation, now);
    most.set(operation, Math.max(now, most.get(operation) ?? 0));
    outgoing.once('close', () => underWay.set(operation, (underWay.get(operation) ?? 1) - 1));
    // A cut connection is what these tests are about; both ends learn of it by themselves.
    const into = passed;
    const requestBytes = Number(incoming.headers['content-length'] ?? 0);
    const onPassed = (answerBytes: number): void =>
      void into.set(request.index, { operation, requestBytes, answerBytes });
    const handled = handle(incoming, outgoing, decide(request), { hostname, port, onPassed })
      .catch(() => outgoing.destroy())
      .then(() => void handling.delete(handled));
    handling.add(handled);
  };
  const server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest);
  // One that is idle is not closed in the very moment in which the client uses it again: that would be a fault of our own.
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port: ownPort } = server.address() as AddressInfo;
  return {
    endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${ownPort}`,
    seen,
    get passed() {
      return passed;
    },
    concurrencyMax: (operation) => most.get(operation) ?? 0,
    async idle() {
      while (handling.size > 0) await Promise.all(handling);
    },
    setFaults(next) {
      decide = next;
      seen.length = 0;
      passed = new Map();
      most.clear();
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function operationOf(method: string, url: URL): string {
  const query = url.searchParams;
  const isBucket = url.pathname.split('/').filter((segment) => segment !== '').length === 1;
  if (query.has('uploads')) return method === 'POST' ? 'CreateMultipartUpload' : 'ListMultipartUploads';
  if (query.has('uploadId')) {
    if (method === 'PUT') return 'UploadPart';
    if (method === 'POST') return 'CompleteMultipartUpload';
    return method === 'DELETE' ? 'AbortMultipartUpload' : 'ListParts';
  }
  if (isBucket) return method === 'HEAD' ? 'HeadBucket' : 'ListObjectsV2';
  const names: Record<string, string> = {
    PUT: 'PutObject',
    GET: 'GetObject',
    HEAD: 'HeadObject',
    DELETE: 'DeleteObject',
  };
  return names[method] ?? method;
}

interface Target {
  readonly hostname: string;
  readonly port: string;
  /** Told how many bytes an answer had that has come through. */
  readonly onPassed: (answerBytes: number) => void;
}

async function handle(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  fault: Fault | undefined,
  target: Target,
): Promise<void> {
  switch (fault?.kind) {
    case 'answer': {
      await drain(incoming);
      outgoing.writeHead(fault.status, {
        'content-type': 'application/xml',
        ...(fault.date === undefined ? {} : { date: fault.date.toUTCString() }),
      });
      outgoing.end(
        incoming.method === 'HEAD' ? undefined : `<?xml version="1.0"?><Error><Code>${fault.code}</Code></Error>`,
      );
      return;
    }
    case 'silence':
      incoming.resume();
      return;
    case 'cut-request':
      await drain(incoming, fault.afterBytes);
      outgoing.destroy();
      return;
    case 'reset':
      outgoing.socket?.resetAndDestroy();
      return;
    case 'delay':
      await fault.until;
      break;
    case 'slow':
      await delay(fault.pauseMs);
      break;
    default:
  }
  const damages = fault?.kind === 'damage' && fault.what === 'request';
  const answer = await (fault?.kind === 'late'
    ? sendLate(incoming, target, fault.until)
    : send(incoming, target, damages));
  switch (fault?.kind) {
    case 'lose-answer':
      await drain(answer);
      outgoing.destroy();
      return;
    case 'withhold-answer':
      await drain(answer);
      fault.onDone?.();
      return;
    case 'replace-answer':
      await drain(answer);
      outgoing.writeHead(fault.status, { 'content-type': 'application/xml' }).end(fault.body);
      return;
    case 'cut-answer':
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      await passOn(answer, outgoing, fault.afterBytes);
      outgoing.destroy();
      return;
    case 'slow':
      return giveBack(answer, outgoing, { pauseMs: fault.pauseMs });
    case 'halve-answer':
      return giveBack(answer, outgoing, { half: fault.ends });
    case 'damage':
      return giveBack(answer, outgoing, { damaged: fault.what === 'answer' });
    default: {
      let bytes = 0;
      answer.on('data', (chunk: Buffer) => (bytes += chunk.length));
      outgoing.writeHead(answer.statusCode ?? 502, {
        ...answer.headers,
        ...(fault?.kind === 'headers' ? fault.headers : {}),
      });
      await pipeline(answer, outgoing);
      target.onPassed(bytes);
    }
  }
}

const PIECES = 4;

/** An answer that is not passed on as it is. */
async function giveBack(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  how: { readonly pauseMs?: number; readonly half?: 'well' | 'cut'; readonly damaged?: boolean },
): Promise<void> {
  const whole = await bytesOf(answer);
  const body = how.half === 'well' ? whole.subarray(0, whole.length / 2) : whole;
  if (how.damaged === true) damage(body);
  const { 'transfer-encoding': _, ...headers } = answer.headers;
  // The answer to HEAD tells a length and has no body.
  const length = answer.headers['content-length'] !== undefined && whole.length === 0 ? {} : lengthOf(body);
  outgoing.writeHead(answer.statusCode ?? 502, { ...headers, ...length });
  if (how.half === 'cut') {
    await passOn(Readable.from([whole]), outgoing, Math.floor(whole.length / 2));
    outgoing.destroy();
    return;
  }
  for (let piece = 0; piece < (how.pauseMs === undefined ? 0 : PIECES - 1); piece += 1) {
    await delay(how.pauseMs);
    outgoing.write(body.subarray((piece * body.length) / PIECES, ((piece + 1) * body.length) / PIECES));
  }
  const last = how.pauseMs === undefined ? body : body.subarray(((PIECES - 1) * body.length) / PIECES);
  await pipeline(Readable.from([last]), outgoing);
}

function lengthOf(body: Buffer): { 'content-length': string } {
  return { 'content-length': String(body.length) };
}

/** One bit, so that it is another byte whatever it was. */
function damage(body: Buffer): void {
  const middle = Math.floor(body.length / 2);
  if (body.length > 0) body.writeUInt8(body.readUInt8(middle) ^ 1, middle);
}

async function bytesOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function send(incoming: IncomingMessage, target: Target, damages: boolean): Promise<IncomingMessage> {
  const { method, url, headers } = incoming;
  const onward = forward({ host: target.hostname, port: target.port, method, path: url, headers });
  const answered = once(onward, 'response');
  incoming.once('close', () => {
    if (!incoming.complete) onward.destroy();
  });
  const damaged = async function* (): AsyncGenerator<Buffer> {
    const body = await bytesOf(incoming);
    damage(body);
    yield body;
  };
  await Promise.all([pipeline(damages ? Readable.from(damaged()) : incoming, onward), answered]);
  const [answer] = await answered;
  return answer as IncomingMessage;
}

/** The whole request first, so that the sender's going away stops nothing. */
async function sendLate(incoming: IncomingMessage, target: Target, until: Promise<void>): Promise<IncomingMessage> {
  const { method, url, headers } = incoming;
  const body: Buffer[] = [];
  for await (const chunk of incoming) body.push(chunk as Buffer);
  await until;
  const onward = forward({ host: target.hostname, port: target.port, method, path: url, headers });
  onward.end(Buffer.concat(body));
  const [answer] = await once(onward, 'response');
  return answer as IncomingMessage;
}

async function drain(stream: IncomingMessage, bytesMax = Number.POSITIVE_INFINITY): Promise<void> {
  let bytes = 0;
  if (bytesMax === 0) return;
  for await (const chunk of stream) {
    bytes += (chunk as Buffer).length;
    if (bytes >= bytesMax) return;
  }
}

async function passOn(answer: AsyncIterable<Buffer>, outgoing: ServerResponse, bytesMax: number): Promise<void> {
  let left = bytesMax;
  outgoing.flushHeaders();
  for await (const chunk of answer) {
    const part = chunk.subarray(0, left);
    left -= part.length;
    await new Promise<void>((resolve) => outgoing.write(part, () => resolve()));
    if (left === 0) return;
  }
}
