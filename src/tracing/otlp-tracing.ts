import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Context, ROOT_CONTEXT, SpanStatusCode, trace, type Tracer as ApiTracer } from '@opentelemetry/api';
import { type ExportResult, ExportResultCode, parseKeyPairsIntoRecord } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, resourceAttributesEnvDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace';
import { isPgarkError, messageOf, systemCodeOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Secret } from '../common/secret.ts';
import type { Span, SpanFacts, Tracer, Tracing } from '../common/tracer.ts';

/** How long one batch may take, its retries included. */
const EXPORT_MS_MAX = 2_000;
/** When what is still on its way at the end is cut off. */
const CUT_AFTER_MS = 2_500;
/** When nothing is waited for any more at the end. */
const CLOSE_MS_MAX = 3_000;

export interface OtlpOptions {
  /** Receives the spans, as OTLP over HTTP in JSON: `https://collector.example.com:4318/v1/traces`. */
  readonly url: string;
  /** Headers of the requests as `OTEL_EXPORTER_OTLP_HEADERS` has them: `name=value,name=value`, percent-encoded. */
  readonly headers?: Secret | undefined;
  readonly serviceName: string;
  readonly version: string;
  readonly host: string;
  readonly logger: Logger;
}

/**
 * Spans by OpenTelemetry's own library. They leave in batches, every five seconds and at the end; a receiver that is away
 * is told of once until it takes something again, and what it missed is lost.
 */
export function otlpTracing(options: OtlpOptions): Tracing {
  const { url, headers, serviceName, version, host, logger } = options;
  const agent = new (new URL(url).protocol === 'https:' ? HttpsAgent : HttpAgent)({ timeout: EXPORT_MS_MAX });
  const exporter = new OTLPTraceExporter({
    url,
    timeoutMillis: EXPORT_MS_MAX,
    httpAgentOptions: () => agent,
    ...(headers === undefined ? {} : { headers: parseKeyPairsIntoRecord(headers.reveal()) }),
  });
  const provider = new TracerProvider({
    resource: detectResources({ detectors: [resourceAttributesEnvDetector] }).merge(
      resourceFromAttributes({ 'service.name': serviceName, 'service.version': version, 'host.name': host }),
    ),
    spanProcessors: [new BatchSpanProcessor({ exporter: new WatchedExporter(exporter, new URL(url).origin, logger) })],
  });
  return {
    tracer: tracerWithin(provider.getTracer('pgark', version), ROOT_CONTEXT),
    close: async () => {
      // What still waits for an answer then would hold the process.
      const cut = setTimeout(() => agent.destroy(), CUT_AFTER_MS);
      const ended = new AbortController();
      // Why a batch failed was said by the exporter.
      const sent = provider.shutdown().catch(() => undefined);
      const patience = sleep(CLOSE_MS_MAX, undefined, { signal: ended.signal }).catch(() => undefined);
      await Promise.race([sent, patience]);
      ended.abort();
      clearTimeout(cut);
      agent.destroy();
    },
  };
}

/** Says once that spans do not arrive, until some do again. The library itself says nothing. */
class WatchedExporter implements SpanExporter {
  readonly #exporter: SpanExporter;
  readonly #origin: string;
  readonly #logger: Logger;
  #isFailing = false;

  constructor(exporter: SpanExporter, origin: string, logger: Logger) {
    this.#exporter = exporter;
    this.#origin = origin;
    this.#logger = logger;
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#exporter.export(spans, (result) => {
      const isFailure = result.code !== ExportResultCode.SUCCESS;
      if (isFailure && !this.#isFailing) {
        const why = describeFailure(result.error);
        this.#logger.warning('traces.failed', `traces could not be sent to ${this.#origin}: ${why}`, {
          receiver: this.#origin,
        });
      }
      this.#isFailing = isFailure;
      done(result);
    });
  }

  forceFlush(): Promise<void> {
    return this.#exporter.forceFlush?.() ?? Promise.resolve();
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }
}

/** By codes where there are any: sentences of a receiver or a library may repeat what was sent. */
function describeFailure(error: unknown): string {
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  if (typeof code === 'number') return `it answered with HTTP status ${code}`;
  return systemCodeOf(error) ?? messageOf(error);
}

/** Makes spans that are parts of what the context holds. */
function tracerWithin(tracer: ApiTracer, parent: Context): Tracer {
  return {
    async span<T>(name: string, facts: SpanFacts, work: (span: Span) => Promise<T>): Promise<T> {
      const made = tracer.startSpan(name, { attributes: attributesOf(facts) }, parent);
      const fail = (error: unknown): void => {
        const type = errorTypeOf(error);
        // Not its message, which may quote the server's words and with them SQL: that stands in the run's log.
        made.setAttribute('error.type', type).setStatus({ code: SpanStatusCode.ERROR, message: type });
      };
      try {
        return await work({
          ...tracerWithin(tracer, trace.setSpan(parent, made)),
          note: (more) => void made.setAttributes(attributesOf(more)),
          fail,
        });
      } catch (error) {
        fail(error);
        throw error;
      } finally {
        made.end();
      }
    },
  };
}

function attributesOf(facts: SpanFacts) {
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [name, typeof value === 'object' ? [...value] : value]),
  );
}

/** The code of the error table; of anything else, such as an abort, its kind. */
function errorTypeOf(error: unknown): string {
  if (isPgarkError(error)) return error.code;
  return error instanceof Error ? error.name : 'unknown';
}
