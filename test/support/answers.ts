import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const PATIENCE_MS = 180_000;
const PAUSE_MS = 20;

/** Resolves when somebody takes connections there; rejects when nobody has for longer than a server takes to start. */
export async function answers(port: number): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const socket = connect({ host: '127.0.0.1', port });
    try {
      await once(socket, 'connect');
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(PAUSE_MS);
    } finally {
      socket.destroy();
    }
  }
}
