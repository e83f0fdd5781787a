import type { HttpReceiver } from './http-receiver.ts';

/** A value as OTLP writes it in JSON: opentelemetry/proto/common/v1/common.proto. */
interface AnyValue {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly intValue?: number | string;
  readonly arrayValue?: { readonly values: readonly AnyValue[] };
}
interface KeyValue {
  readonly key: string;
  readonly value: AnyValue;
}
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly KeyValue[];
  readonly status: { readonly code: number; readonly message?: string };
}
interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

export interface ReceivedSpan {
  readonly name: string;
  readonly traceId: string;
  /** Names from the root to this one: `backup > dump > upload`. */
  readonly path: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly resource: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
  readonly startedNs: bigint;
  readonly endedNs: bigint;
}

const STATUS_ERROR = 2;

/** All spans that have arrived, in the order of their paths. */
export function receivedSpans({ requests }: HttpReceiver): readonly ReceivedSpan[] {
  const all = requests.flatMap(({ body }) =>
    (JSON.parse(body) as ExportRequest).resourceSpans.flatMap(({ resource, scopeSpans }) =>
      scopeSpans.flatMap(({ spans }) => spans.map((span) => ({ span, resource: recordOf(resource.attributes) }))),
    ),
  );
  const byId = new Map(all.map(({ span }) => [span.spanId, span]));
  const pathOf = ({ name, parentSpanId = '' }: OtlpSpan): string => {
    if (parentSpanId === '') return name;
    const parent = byId.get(parentSpanId);
    return `${parent === undefined ? '?' : pathOf(parent)} > ${name}`;
  };
  return all
    .map(({ span, resource }) => ({
      name: span.name,
      traceId: span.traceId,
      path: pathOf(span),
      attributes: recordOf(span.attributes),
      resource,
      failed: span.status.code === STATUS_ERROR,
      startedNs: BigInt(span.startTimeUnixNano),
      endedNs: BigInt(span.endTimeUnixNano),
    }))
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : Number(a.startedNs - b.startedNs)));
}

function recordOf(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, valueOf(value)]));
}

function valueOf({ stringValue, boolValue, intValue, arrayValue }: AnyValue): unknown {
  if (arrayValue !== undefined) return arrayValue.values.map(valueOf);
  return intValue === undefined ? (stringValue ?? boolValue) : Number(intValue);
}
