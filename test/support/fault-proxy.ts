import { once } from 'node:events';
import { createServer, type IncomingMessage, request as forward, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { isIP, type AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';

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
  /** The store carries it out, and nothing is answered. */
  | { readonly kind: 'withhold-answer' }
  /** The store carries it out; something else is answered. */
  | { readonly kind: 'replace-answer'; readonly status: number; readonly body: string }
  /** The store carries it out; its answer has these headers instead of its own. */
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string>> }
  /** It goes on only when this has resolved. */
  | { readonly kind: 'delay'; readonly until: Promise<void> }
  /** The store has it, and carries it out when this has resolved, whether or not anybody still waits. */
  | { readonly kind: 'late'; readonly until: Promise<void> };

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
    const handled = handle(incoming, outgoing, decide(request), { hostname, port })
      .catch(() => outgoing.destroy())
      .then(() => void handling.delete(handled));
    handling.add(handled);
  };
  const server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port: ownPort } = server.address() as AddressInfo;
  return {
    endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${ownPort}`,
    seen,
    concurrencyMax: (operation) => most.get(operation) ?? 0,
    async idle() {
      while (handling.size > 0) await Promise.all(handling);
    },
    setFaults(next) {
      decide = next;
      seen.length = 0;
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
    case 'delay':
      await fault.until;
      break;
    default:
  }
  const answer = await (fault?.kind === 'late' ? sendLate(incoming, target, fault.until) : send(incoming, target));
  switch (fault?.kind) {
    case 'lose-answer':
      await drain(answer);
      outgoing.destroy();
      return;
    case 'withhold-answer':
      await drain(answer);
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
    default:
      outgoing.writeHead(answer.statusCode ?? 502, {
        ...answer.headers,
        ...(fault?.kind === 'headers' ? fault.headers : {}),
      });
      await pipeline(answer, outgoing);
  }
}

async function send(incoming: IncomingMessage, target: Target): Promise<IncomingMessage> {
  const { method, url, headers } = incoming;
  const onward = forward({ host: target.hostname, port: target.port, method, path: url, headers });
  const answered = once(onward, 'response');
  incoming.once('close', () => {
    if (!incoming.complete) onward.destroy();
  });
  await Promise.all([pipeline(incoming, onward), answered]);
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

async function passOn(answer: IncomingMessage, outgoing: ServerResponse, bytesMax: number): Promise<void> {
  let left = bytesMax;
  outgoing.flushHeaders();
  for await (const chunk of answer) {
    const part = (chunk as Buffer).subarray(0, left);
    left -= part.length;
    await new Promise<void>((resolve) => outgoing.write(part, () => resolve()));
    if (left === 0) return;
  }
}
