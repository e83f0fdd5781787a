import { freePort } from '../../src/postgres/server/free-port.ts';

const ATTEMPTS_MAX = 5;
/** What PostgreSQL says of a port that somebody took between our asking for it and the server's. */
const TAKEN = /could not bind|could not create any TCP\/IP sockets/;

/** Starts a server of PostgreSQL, at another port if one is taken; fails with what its log says. Returns the port. */
export async function atFreePort(
  start: (port: number) => Promise<unknown>,
  logOf: (port: number) => Promise<string>,
): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      await start(port);
      return port;
    } catch (error) {
      const log = await logOf(port).catch(() => 'no log');
      if (attempt === ATTEMPTS_MAX || !TAKEN.test(log)) throw new Error(log, { cause: error });
    }
  }
}
