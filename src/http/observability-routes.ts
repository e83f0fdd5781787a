import { Hono, type MiddlewareHandler } from 'hono';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { HEALTH_HEADER, healthcheckReport } from '../observability/health.ts';
import { METRICS_CONTENT_TYPE, renderMetrics } from '../observability/metrics.ts';
import type { ProtectionState } from '../observability/protection-state.ts';

export interface ObservabilityRoutesOptions {
  /** The state at the moment of asking; undefined until the first try to read the storages is over. */
  readonly state: () => ProtectionState | undefined;
  readonly version: string;
  readonly logger: Logger;
}

/** `/healthz`: the process answers. `/readyz`: it knows what it has to. `/health`: whether all is well. `/metrics`: what it knows. */
export function observabilityRoutes({ state, version, logger }: ObservabilityRoutesOptions): Hono {
  const app = new Hono();
  app.use(plainHeaders);
  app.use(noBodies);
  app.get('/healthz', (context) => context.text('ok\n'));
  app.get('/readyz', (context) =>
    state() === undefined ? context.text('not ready: the storages are being read\n', 503) : context.text('ready\n'),
  );
  app.get('/health', (context) => {
    const known = state();
    if (known === undefined) {
      return context.text('unhealthy: the storages are being read\n', 503, { [HEALTH_HEADER]: 'starting' });
    }
    const { text, exit } = healthcheckReport(known, known.at);
    return exit === 0
      ? context.text(text, 200, { [HEALTH_HEADER]: 'healthy' })
      : context.text(text, 503, { [HEALTH_HEADER]: 'unhealthy' });
  });
  app.get('/metrics', async (context) => {
    const known = state();
    // Half a scrape would look as if the rest had vanished.
    if (known === undefined) return context.text('not ready: the storages are being read\n', 503);
    return context.body(await renderMetrics(known, version), 200, { 'content-type': METRICS_CONTENT_TYPE });
  });
  app.notFound((context) => context.text('not found\n', 404));
  app.onError((error, context) => {
    // What went wrong is for the log; who asks learns that it did.
    logger.error('http.request_failed', `${context.req.path} could not be answered: ${messageOf(error)}`);
    return context.text('internal error\n', 500);
  });
  return app;
}

const plainHeaders: MiddlewareHandler = async (context, next) => {
  await next();
  context.header('cache-control', 'no-store');
  context.header('x-content-type-options', 'nosniff');
};

/** Everything here is only read. A body that nobody reads is not waited for: the connection ends with the answer. */
const noBodies: MiddlewareHandler = async (context, next) => {
  const { method } = context.req;
  if (method !== 'GET' && method !== 'HEAD') {
    return context.text('method not allowed\n', 405, { allow: 'GET, HEAD', connection: 'close' });
  }
  const length = context.req.header('content-length');
  if ((length !== undefined && length !== '0') || context.req.header('transfer-encoding') !== undefined) {
    return context.text('a body is not expected\n', 413, { connection: 'close' });
  }
  return next();
};
