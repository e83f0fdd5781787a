import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import type { Logger } from '../common/log.ts';
import { messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import { observabilityRoutes } from './observability-routes.ts';

const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 30_000;
/** Longer than scrapers wait between two scrapes, so that they keep their connection. */
const KEEP_ALIVE_MS = 75_000;
const CONNECTIONS_MAX = 256;
/** How long a request that is being answered may go on when the server closes. */
const CLOSE_MS_MAX = 5_000;

export interface HttpServerOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  /** The state at the moment of asking; undefined until the first try to read the storages is over. */
  readonly state: () => ProtectionState | undefined;
  readonly version: string;
  readonly logger: Logger;
}

export interface HttpServer {
  /** The port that is listened on. */
  readonly port: number;
  /** Takes no more connections, lets requests end for some seconds, then cuts. Idempotent. */
  close(): Promise<void>;
}

/**
 * Serves health and metrics. Resolves once connections are accepted; rejects with `listen-failed` if the address cannot be
 * had. Nothing here may be asked to do anything: GET and HEAD only, and no bodies.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { host, port, logger } = options;
  const server = createAdaptorServer({
    fetch: observabilityRoutes(options).fetch,
    overrideGlobalObjects: false,
    serverOptions: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
  }) as Server;
  server.maxConnections = CONNECTIONS_MAX;
  await listen(server, host, port);
  server.on('error', (error) => logger.error('http.failed', `the HTTP server failed: ${messageOf(error)}`));
  const address = server.address();
  const listening = typeof address === 'object' && address !== null ? address.port : port;
  logger.info('http.listening', `health and metrics on http://${inUrl(host)}:${listening}`, { host, port: listening });
  let closing: Promise<void> | undefined;
  return {
    port: listening,
    close: () => {
      closing ??= close(server);
      return closing;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(listenError(error, host, port));
    server.once('error', fail);
    server.listen({ host, port }, () => {
      server.removeListener('error', fail);
      resolve();
    });
  });
}

function listenError(error: unknown, host: string, port: number): PgarkError {
  const code = systemCodeOf(error);
  const why = code === 'EADDRINUSE' ? 'another program listens there' : messageOf(error);
  return new PgarkError('listen-failed', `cannot listen on ${inUrl(host)}:${port}: ${why}`, { cause: error });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), CLOSE_MS_MAX);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });
}

function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
