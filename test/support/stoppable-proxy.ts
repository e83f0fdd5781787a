import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { freePort } from '../../src/postgres/server/free-port.ts';

/** Stands before a server on this machine, and may be stopped and started again as the server itself might be. */
export interface StoppableProxy extends AsyncDisposable {
  readonly port: number;
  /** Every connection is reset, and new ones are refused. */
  stop(): Promise<void>;
  /** At the same port. */
  start(): Promise<void>;
}

export async function startStoppableProxy(target: {
  readonly host: string;
  readonly port: number;
}): Promise<StoppableProxy> {
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  // Nobody gets it while the proxy is stopped.
  const port = await freePort();
  const pair = (client: Socket): void => {
    const upstream = connect(target);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  };
  const start = async (): Promise<void> => {
    server = createServer(pair).listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  const stop = async (): Promise<void> => {
    if (server === undefined) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
    await closed;
    server = undefined;
  };
  await start();
  return {
    port,
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
