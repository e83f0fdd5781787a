import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BulkSocket } from './bulk-socket.ts';

const server = createServer();

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(() => server.close());

async function connected(): Promise<{ readonly socket: BulkSocket; readonly peer: Socket } & Disposable> {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has a port');
  const socket = new BulkSocket();
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  socket.connect(address.port, '127.0.0.1');
  const [[peer]] = await Promise.all([accepted, once(socket, 'connect')]);
  return {
    socket,
    peer,
    [Symbol.dispose]() {
      socket.destroy();
      peer.destroy();
    },
  };
}

test('listeners are given chunks of their own, and after a taker they have the rest', async () => {
  using pair = await connected();
  const { socket, peer } = pair;
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  peer.write('first');
  await once(socket, 'data');
  let taken = '';
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.passTo((chunk) => {
    taken += chunk.toString();
    if (taken !== 'second') return;
    socket.passTo(undefined);
    resolve();
  });
  peer.write('second');
  await promise;
  peer.write('third');
  await once(socket, 'data');
  expect([taken, ...chunks.map(String)]).toEqual(['second', 'first', 'third']);
});

/** As PostgreSQL sends, with a turn after each piece for the reader, who could take it at once. */
async function send(peer: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    peer.write(bytes.subarray(at, at + PIECE_BYTES));
    await setImmediate();
  }
}

/** Keeps what comes; resolves when all is there. */
function gather(socket: BulkSocket, bytes: number, onChunk: (count: number) => void = () => {}): Promise<Buffer[]> {
  const received: Buffer[] = [];
  return new Promise((resolve) => {
    socket.passTo((chunk) => {
      received.push(Buffer.from(chunk));
      onChunk(received.length);
      if (received.reduce((sum, { length }) => sum + length, 0) === bytes) resolve(received);
    });
    socket.resume();
  });
}

const PIECE_BYTES = 8_192;
const SENT = Buffer.from(Uint32Array.from({ length: 2 ** 19 }, (_, index) => index * 2_654_435_761).buffer);

test('a taker has all bytes in their order, in chunks that have gathered', async () => {
  using pair = await connected();
  const received = gather(pair.socket, SENT.length);
  await send(pair.peer, SENT);
  expect(Buffer.concat(await received).equals(SENT)).toBe(true);
  expect((await received).length).toBeLessThan(SENT.length / PIECE_BYTES / 2);
});

test('a taker who pauses is given nothing before he resumes', async () => {
  using pair = await connected();
  const { socket, peer } = pair;
  let count = 0;
  const received = gather(socket, SENT.length, (chunks) => {
    count = chunks;
    if (chunks === 1) socket.pause();
  });
  await send(peer, SENT);
  // Longer than the socket lets things gather.
  await delay(10);
  expect(count).toBe(1);
  socket.resume();
  expect(Buffer.concat(await received).equals(SENT)).toBe(true);
});

test('its end is told, with a taker as well', async () => {
  using pair = await connected();
  const { socket, peer } = pair;
  socket.resume();
  socket.passTo(() => {});
  const closed = once(socket, 'close');
  peer.end('last');
  await closed;
});
