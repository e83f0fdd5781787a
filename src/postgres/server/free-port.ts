import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { PgarkError, systemCodeOf } from '../../common/errors.ts';

/** Below what systems give to those who ask for any port, as every connection does, and above what services have. */
const PORTS = { from: 20_000, to: 32_768 };
const TRIES_MAX = 100;

/**
 * A port that was free on 127.0.0.1 a moment ago, and that nobody gets in between who does not ask for this very one.
 */
export async function freePort(): Promise<number> {
  for (let tried = 0; tried < TRIES_MAX; tried += 1) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (await isFree(port)) return port;
  }
  throw new PgarkError('internal', `none of ${TRIES_MAX} ports of 127.0.0.1 is free`);
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen(port, '127.0.0.1', resolve);
    });
  } catch (error) {
    if (systemCodeOf(error) !== 'EADDRINUSE') throw error;
    return false;
  }
  await new Promise((resolve) => {
    probe.close(resolve);
  });
  return true;
}
