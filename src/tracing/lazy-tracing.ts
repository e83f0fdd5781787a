import { messageOf, systemCodeOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { silentTracing, type Tracing } from '../common/tracer.ts';

const INSTALL =
  'npm install @opentelemetry/api @opentelemetry/core @opentelemetry/exporter-trace-otlp-http @opentelemetry/resources @opentelemetry/sdk-trace';

/**
 * A tracing that is loaded with its first span, since a command that makes none is not to wait for it. Where it cannot be
 * loaded, that is a warning, and the work goes on without.
 */
export function lazyTracing(load: () => Promise<Tracing>, logger: Logger): Tracing {
  let loading: Promise<Tracing> | undefined;
  const loaded = (): Promise<Tracing> => {
    loading ??= load().catch((error: unknown) => {
      const isMissing = systemCodeOf(error) === 'ERR_MODULE_NOT_FOUND';
      const why = isMissing ? `OpenTelemetry is not installed beside pgark (${INSTALL})` : messageOf(error);
      logger.warning('traces.unavailable', `no traces are sent: ${why}`);
      return silentTracing;
    });
    return loading;
  };
  return {
    tracer: { span: async (name, facts, work) => (await loaded()).tracer.span(name, facts, work) },
    close: async () => (await loading)?.close(),
  };
}
