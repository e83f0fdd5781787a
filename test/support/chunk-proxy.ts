import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * What happens when the server has said the nth thing. `cut`: half of it comes, then both ends see an orderly end. `reset`: it
 * does not come, and both see a reset. `unheard`: it comes, and what the client says next is not passed on: both see a reset.
 * `half-open`: nothing is passed on any more, and no end hears of it, until the systems of both give the connection up.
 * `slow`: it comes after a pause.
 */
export type ChunkFault = 'cut' | 'reset' | 'unheard' | 'half-open' | 'slow';

/** A proxy before a TCP server that counts what the server says: that it takes a connection, and each chunk that it sends. */
export interface ChunkProxy extends AsyncDisposable {
  readonly port: number;
  /** What passed since the last `setFault`. */
  readonly passed: readonly ('connection' | 'chunk')[];
  /** Whether the fault has happened. */
  readonly hasHappened: boolean;
  /** From now on what passes is counted anew, and this happens at the one of that index. Connections of before are ended. */
  setFault(fault?: { readonly index: number; readonly kind: ChunkFault }): void;
}

export interface ChunkProxyOptions {
  /** After so long a system gives up a connection on which nothing comes. */
  readonly deadMs: number;
  readonly pauseMs: number;
}

export async function startChunkProxy(
  target: { readonly host: string; readonly port: number },
  { deadMs, pauseMs }: ChunkProxyOptions,
): Promise<ChunkProxy> {
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  let passed: ('connection' | 'chunk')[] = [];
  let fault: { readonly index: number; readonly kind: ChunkFault } | undefined;
  let hasHappened = false;

  const after = (ms: number, action: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      action();
    }, ms);
    timers.add(timer);
  };
  /** The fault that is due at what passes now. */
  const pass = (what: 'connection' | 'chunk'): ChunkFault | undefined => {
    passed.push(what);
    if (fault?.index !== passed.length - 1) return undefined;
    hasHappened = true;
    return fault.kind;
  };
  const endAll = (): void => {
    for (const timer of timers) clearTimeout(timer);
    timers.clear();
    for (const socket of sockets) socket.destroy();
  };

  const server = createServer((client) => {
    const upstream = connect(target);
    let isMute = false;
    let isDeaf = false;
    let held: Buffer[] | undefined;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    const reset = (): void => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    const happen = (kind: ChunkFault, chunk: Buffer): void => {
      switch (kind) {
        case 'cut':
          client.end(chunk.subarray(0, chunk.length / 2));
          upstream.end();
          isMute = true;
          return;
        case 'reset':
          reset();
          return;
        case 'unheard':
          isDeaf = true;
          client.write(chunk);
          return;
        case 'half-open':
          isMute = true;
          after(deadMs, reset);
          return;
        case 'slow':
          held = [chunk];
          after(pauseMs, () => {
            for (const each of held ?? []) client.write(each);
            held = undefined;
            if (upstream.destroyed) client.end();
          });
          return;
        default:
          kind satisfies never;
      }
    };
    client.on('data', (chunk: Buffer) => {
      if (isDeaf) reset();
      else if (!isMute) upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (isMute) return;
      const kind = pass('chunk');
      if (kind !== undefined) happen(kind, chunk);
      else if (held !== undefined) held.push(chunk);
      else if (!client.write(chunk)) {
        upstream.pause();
        client.once('drain', () => upstream.resume());
      }
    });
    client.on('close', () => {
      if (!isMute) upstream.destroy();
    });
    upstream.on('close', () => {
      if (!isMute && held === undefined) client.end();
    });
    const kind = pass('connection');
    if (kind !== undefined) happen(kind, Buffer.alloc(0));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    get passed() {
      return passed;
    },
    get hasHappened() {
      return hasHappened;
    },
    setFault(next) {
      endAll();
      passed = [];
      fault = next;
      hasHappened = false;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      endAll();
      await closed;
    },
  };
}
