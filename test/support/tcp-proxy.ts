import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * Where a connection is cut: before the server hears what the client says; the same, and the server does not notice; or
 * when it has answered, and the client has not heard it.
 */
export type Cut = 'unheard' | 'unnoticed' | 'unanswered';

/** One connection through the proxy. */
interface ProxiedConnection {
  /** Bytes that the server has sent on it. */
  readonly bytesFromServer: number;
  /** Both ends see the connection reset. */
  cut(): void;
}

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /**
   * From the first connection on which the server has sent so many bytes, nothing more is passed on to the client until
   * `release`. The bytes up to there are. Resolves when it has come so far.
   */
  holdAfter(bytesFromServer: number): Promise<ProxiedConnection>;
  release(): void;
  /** The most bytes that the server has sent on one connection so far. */
  readonly mostFromServer: number;
  /** Nothing is passed on any more, in any direction, and no end hears of it: as if the cable were cut. */
  mute(): void;
  /**
   * Resets the first connection on which the client says these bytes. With `refusesNew`, new connections are reset as well until `takeNew`.
   */
  cutAt(said: string, when: Cut, options?: { readonly refusesNew: boolean }): void;
  takeNew(): void;
  /** Whether that has happened. */
  readonly hasCut: boolean;
  /** Resets every connection. */
  cutAll(): void;
}

/** How fast each connection is in each direction. Default: as fast as it goes. */
export interface Speed {
  readonly toServerBytesPerSecond?: number;
  readonly fromServerBytesPerSecond?: number;
  /** So many bytes from the server come as fast as they go. Default: none. */
  readonly quickBytesFromServer?: number;
}

/** Reads no more for as long as the chunk takes at that speed. */
function slowDown(from: Socket, chunk: Buffer, bytesPerSecond: number | undefined): void {
  if (bytesPerSecond === undefined) return;
  from.pause();
  setTimeout(() => from.resume(), (chunk.length / bytesPerSecond) * 1_000);
}

interface Listener {
  onBytes(connection: Connection): void;
  /** Whether the connection is to be cut because of what the client says. */
  cutFor(chunk: Buffer): Cut | undefined;
}

class Connection implements ProxiedConnection {
  bytesFromServer = 0;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #held: Buffer[] = [];
  #holding = false;
  #muted = false;
  #cutsAtAnswer = false;

  constructor(client: Socket, server: Socket, speed: Speed, told: Listener) {
    this.#client = client;
    this.#server = server;
    client.on('data', (chunk: Buffer) => {
      if (this.#muted) return;
      const cut = told.cutFor(chunk);
      if (cut === 'unheard') return this.cut();
      if (cut === 'unnoticed') return this.#cutClient();
      if (cut === 'unanswered') this.#cutsAtAnswer = true;
      server.write(chunk);
      slowDown(client, chunk, speed.toServerBytesPerSecond);
    });
    server.on('data', (chunk: Buffer) => {
      if (this.#muted) return;
      if (this.#cutsAtAnswer) return this.cut();
      this.bytesFromServer += chunk.length;
      if (this.#holding) this.#held.push(chunk);
      else if (!client.write(chunk) && speed.fromServerBytesPerSecond === undefined) server.pause();
      else if (this.bytesFromServer > (speed.quickBytesFromServer ?? 0)) {
        slowDown(server, chunk, speed.fromServerBytesPerSecond);
      }
      told.onBytes(this);
    });
    client.on('drain', () => {
      if (!this.#holding && speed.fromServerBytesPerSecond === undefined) server.resume();
    });
    for (const [end, other] of [
      [client, server],
      [server, client],
    ] as const) {
      end.on('error', () => {});
      end.on('close', () => {
        if (!this.#muted) other.destroy();
      });
    }
  }

  hold(): void {
    this.#holding = true;
    this.#server.pause();
  }

  release(): void {
    if (!this.#holding) return;
    this.#holding = false;
    for (const chunk of this.#held.splice(0)) this.#client.write(chunk);
    this.#server.resume();
  }

  mute(): void {
    this.#muted = true;
  }

  #cutClient(): void {
    this.mute();
    this.#client.resetAndDestroy();
  }

  cut(): void {
    for (const end of [this.#client, this.#server]) {
      if (end.destroyed) continue;
      if (this.#muted) end.destroy();
      else end.resetAndDestroy();
    }
  }
}

/** A proxy before a TCP server, with a hand on the tap. */
export async function startTcpProxy(
  target: { readonly host: string; readonly port: number },
  speed: Speed = {},
): Promise<TcpProxy> {
  const connections = new Set<Connection>();
  let muted = false;
  let mostFromServer = 0;
  let limit = Number.POSITIVE_INFINITY;
  let reached = Promise.withResolvers<ProxiedConnection>();
  let holder: Connection | undefined;
  let hasCut = false;
  let cutting: { readonly said: string; readonly when: Cut; readonly refusesNew: boolean } | undefined;
  let refusing = false;
  const server = createServer((client) => {
    if (refusing) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ host: target.host, port: target.port });
    const connection = new Connection(client, upstream, speed, {
      onBytes(each) {
        mostFromServer = Math.max(mostFromServer, each.bytesFromServer);
        if (holder !== undefined || each.bytesFromServer < limit) return;
        holder = each;
        each.hold();
        reached.resolve(each);
      },
      cutFor(chunk) {
        if (cutting === undefined || !chunk.includes(cutting.said)) return undefined;
        const { when, refusesNew } = cutting;
        cutting = undefined;
        refusing = refusesNew;
        hasCut = true;
        return when;
      },
    });
    connections.add(connection);
    if (muted) connection.mute();
    upstream.once('close', () => connections.delete(connection));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const cutAll = () => {
    for (const connection of connections) connection.cut();
  };
  return {
    port,
    get mostFromServer() {
      return mostFromServer;
    },
    holdAfter(bytes) {
      limit = bytes;
      holder = undefined;
      reached = Promise.withResolvers();
      return reached.promise;
    },
    release() {
      limit = Number.POSITIVE_INFINITY;
      holder?.release();
    },
    mute() {
      muted = true;
      for (const connection of connections) connection.mute();
    },
    get hasCut() {
      return hasCut;
    },
    cutAt(said, when, { refusesNew } = { refusesNew: false }) {
      cutting = { said, when, refusesNew };
    },
    takeNew() {
      refusing = false;
    },
    cutAll,
    async [Symbol.asyncDispose]() {
      server.close();
      cutAll();
      await once(server, 'close').catch(() => {});
    },
  };
}
