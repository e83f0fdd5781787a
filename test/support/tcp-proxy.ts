import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

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
   * `release`. The bytes up to there are. Resolves when it has come so far. With `untaken`, the server is stuck as well.
   */
  holdAfter(bytesFromServer: number, options?: { readonly untaken: boolean }): Promise<ProxiedConnection>;
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
  /** Hands over what the server sends, to be changed in place, until that was done: `true`. */
  damage(how: (chunk: Buffer) => boolean): void;
  /** Whether that has happened. */
  readonly hasDamaged: boolean;
  /** Resets every connection. */
  cutAll(): void;
}

/** How fast each connection is in each direction. Default: as fast as it goes. */
export interface Speed {
  readonly toServerBytesPerSecond?: number;
  readonly fromServerBytesPerSecond?: number;
  /** So many bytes from the server come as fast as they go. Default: none. */
  readonly quickBytesFromServer?: number;
  /** The server sends no more than the client takes, as without a proxy. Not with another speed. */
  readonly asTaken?: boolean;
}

interface Listener {
  /** Before anybody else sees them. */
  onChunk(chunk: Buffer): void;
  onBytes(connection: Connection): void;
  /** What the connection is to be cut for if the client says it. */
  readonly cutsAt: string | undefined;
  /** The client has said it. */
  onSaid(): Cut | undefined;
}

class Connection implements ProxiedConnection {
  bytesFromServer = 0;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #speed: Speed;
  readonly #told: Listener;
  readonly #held: Buffer[] = [];
  #holding = false;
  #muted = false;
  /** The server has ended it. */
  #isOver = false;
  #cutsAtAnswer = false;
  /** The end of what the client has said: what is looked for may come in two chunks. */
  #saidLast = Buffer.alloc(0);
  /** What has come and is passed on by and by. */
  readonly #queue: { readonly chunk: Buffer; readonly pauseMs: number }[] = [];
  #passesOn = false;

  constructor(client: Socket, server: Socket, speed: Speed, told: Listener) {
    this.#client = client;
    this.#server = server;
    this.#speed = speed;
    this.#told = told;
    client.on('data', (chunk: Buffer) => this.#onClientData(chunk));
    server.on('data', (chunk: Buffer) => this.#onServerData(chunk));
    client.on('error', () => {});
    server.on('error', () => {});
    client.on('close', () => {
      if (!this.#muted) server.destroy();
    });
    server.on('close', () => this.#onServerClosed());
  }

  /** The client hears of it when it has all that came before. */
  #onServerClosed(): void {
    if (this.#muted) return;
    this.#isOver = true;
    if (!this.#holding && !this.#passesOn) this.#client.end();
  }

  #onClientData(chunk: Buffer): void {
    if (this.#muted) return;
    const cut = this.#cutFor(chunk);
    if (cut === 'unheard') return this.cut();
    if (cut === 'unnoticed') return this.#cutClient();
    if (cut === 'unanswered') this.#cutsAtAnswer = true;
    this.#server.write(chunk);
    const { toServerBytesPerSecond } = this.#speed;
    if (toServerBytesPerSecond === undefined) return;
    this.#client.pause();
    setTimeout(() => this.#client.resume(), (chunk.length / toServerBytesPerSecond) * 1_000);
  }

  #cutFor(chunk: Buffer): Cut | undefined {
    const { cutsAt } = this.#told;
    if (cutsAt === undefined) return undefined;
    const said = Buffer.concat([this.#saidLast, chunk]);
    this.#saidLast = said.subarray(Math.max(0, said.length - Buffer.byteLength(cutsAt) + 1));
    return said.includes(cutsAt) ? this.#told.onSaid() : undefined;
  }

  #onServerData(chunk: Buffer): void {
    if (this.#muted) return;
    if (this.#cutsAtAnswer) return this.cut();
    this.#told.onChunk(chunk);
    this.bytesFromServer += chunk.length;
    if (this.#holding) this.#held.push(chunk);
    else this.#passOn(chunk);
    this.#told.onBytes(this);
  }

  #passOn(chunk: Buffer): void {
    const { fromServerBytesPerSecond, quickBytesFromServer = 0, asTaken = false } = this.#speed;
    if (fromServerBytesPerSecond === undefined) {
      if (this.#client.write(chunk) || !asTaken) return;
      this.#server.pause();
      this.#client.once('drain', () => this.#server.resume());
      return;
    }
    const isQuick = this.bytesFromServer <= quickBytesFromServer;
    const pauseMs = isQuick ? 0 : (chunk.length / fromServerBytesPerSecond) * 1_000;
    this.#queue.push({ chunk, pauseMs });
    if (!this.#passesOn) void this.#passOnByAndBy();
  }

  async #passOnByAndBy(): Promise<void> {
    this.#passesOn = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      this.#client.write(next.chunk);
      await delay(next.pauseMs);
    }
    this.#passesOn = false;
    if (this.#isOver) this.#client.end();
  }

  hold(untaken: boolean): void {
    this.#holding = true;
    if (untaken) this.#server.pause();
  }

  release(): void {
    if (!this.#holding) return;
    this.#holding = false;
    for (const chunk of this.#held.splice(0)) this.#client.write(chunk);
    this.#server.resume();
    if (this.#isOver) this.#client.end();
  }

  mute(): void {
    this.#muted = true;
  }

  #cutClient(): void {
    this.mute();
    this.#client.resetAndDestroy();
  }

  cut(): void {
    this.#held.length = 0;
    for (const end of [this.#client, this.#server]) {
      if (end.destroyed) continue;
      if (this.#muted) end.destroy();
      else end.resetAndDestroy();
    }
  }
}

/**
 * A proxy before a TCP server, with a hand on the tap. Unless told otherwise it takes whatever the server sends and keeps what
 * the client does not take yet: a server of PostgreSQL that is stuck in sending would hold up whoever drops a database,
 * whichever it is.
 */
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
  let untaken = false;
  let hasCut = false;
  let cutting: { readonly said: string; readonly when: Cut; readonly refusesNew: boolean } | undefined;
  let refusing = false;
  let damaging: ((chunk: Buffer) => boolean) | undefined;
  let hasDamaged = false;
  const server = createServer((client) => {
    if (refusing) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ host: target.host, port: target.port });
    const connection = new Connection(client, upstream, speed, {
      onChunk(chunk) {
        if (damaging?.(chunk) !== true) return;
        damaging = undefined;
        hasDamaged = true;
      },
      onBytes(each) {
        mostFromServer = Math.max(mostFromServer, each.bytesFromServer);
        if (holder !== undefined || each.bytesFromServer < limit) return;
        holder = each;
        each.hold(untaken);
        reached.resolve(each);
      },
      get cutsAt() {
        return cutting?.said;
      },
      onSaid() {
        const when = cutting?.when;
        refusing = cutting?.refusesNew ?? false;
        cutting = undefined;
        hasCut = true;
        return when;
      },
    });
    connections.add(connection);
    if (muted) connection.mute();
    for (const [end, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      end.once('close', () => other.closed && connections.delete(connection));
    }
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
    holdAfter(bytes, options = { untaken: false }) {
      limit = bytes;
      untaken = options.untaken;
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
    damage(how) {
      damaging = how;
    },
    get hasDamaged() {
      return hasDamaged;
    },
    cutAll,
    async [Symbol.asyncDispose]() {
      server.close();
      cutAll();
      await once(server, 'close').catch(() => {});
    },
  };
}
