import { asPgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { type HttpServer, type HttpServerOptions, startHttpServer } from '../http/server.ts';

type Address = Config['server']['listen'];

/** Where health and metrics are served: at one address at a time, from one configuration to the next. */
export class Listening {
  readonly #served: () => Omit<HttpServerOptions, keyof Address>;
  #server: HttpServer | undefined;

  /** Asked for what is served each time that an address is taken. */
  constructor(served: () => Omit<HttpServerOptions, keyof Address>) {
    this.#served = served;
  }

  /** Rejects with `listen-failed`. */
  async begin(address: Address): Promise<void> {
    this.#server = await this.#listen(address);
  }

  /**
   * Listens where it is wanted now; or, if that cannot be, where it was: then it rejects with `listen-failed`. Whether anything
   * was to be done.
   */
  async move(from: Address, to: Address): Promise<boolean> {
    if (from.host === to.host && from.port === to.port) return false;
    const server = this.#server;
    // At another address of this host, or at all of them, the same port is taken: by this daemon itself.
    const isInTheWay = from.port === to.port && to.port !== 0;
    if (isInTheWay) await server?.close();
    try {
      this.#server = await this.#listen(to);
    } catch (error) {
      if (isInTheWay) this.#server = await this.#listenAgain(from);
      throw error;
    }
    await server?.close();
    return true;
  }

  async end(): Promise<void> {
    await this.#server?.close();
  }

  async #listenAgain(address: Address): Promise<HttpServer | undefined> {
    try {
      return await this.#listen(address);
    } catch (error) {
      const { message, hint, code } = asPgarkError(error);
      this.#served().logger.error('http.failed', `health and metrics are not served: ${message}; ${hint}`, { code });
      return undefined;
    }
  }

  #listen({ host, port }: Address): Promise<HttpServer> {
    return startHttpServer({ host, port, ...this.#served() });
  }
}
