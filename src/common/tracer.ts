/**
 * Facts of a span, by names of lower-case words with dots and underscores (`pgark.source`). Never a secret, SQL, or an
 * address with credentials in it.
 */
export type SpanFacts = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface Tracer {
  /**
   * Carries out work in a span, which begins and ends with it and has failed if it rejects. Comes to what the work comes
   * to: nothing that goes wrong with the span itself is the work's.
   */
  span<T>(name: string, facts: SpanFacts, work: (span: Span) => Promise<T>): Promise<T>;
}

/** Work while it goes on. Spans that are made of it are parts of it. */
export interface Span extends Tracer {
  /** What was found out meanwhile. */
  note(facts: SpanFacts): void;
  /** Says that it failed, of work that goes on and tells of its error otherwise. */
  fail(error: unknown): void;
}

/** A tracer whose spans go somewhere. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what has not been sent yet, within a few seconds whatever happens. Never rejects. */
  readonly close: () => Promise<void>;
}

const nothing = (): void => {};

/** Tells nobody: the default. */
export const silentTracer: Span = { span: (_name, _facts, work) => work(silentTracer), note: nothing, fail: nothing };

export const silentTracing: Tracing = { tracer: silentTracer, close: () => Promise.resolve() };
