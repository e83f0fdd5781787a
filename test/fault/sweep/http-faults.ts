import { type Fault, type FaultProxy, type PassedRequest, type ProxiedRequest } from '../../support/fault-proxy.ts';
import type { FaultCase } from './sweep.ts';

/** Time without a byte after which a request is given up, where one is to get no answer. */
export const INACTIVITY_MS = 2_500;
const PAUSE_MS = 120;

type Passing = Pick<PassedRequest, 'requestBytes' | 'answerBytes'>;

interface HttpKind {
  readonly name: string;
  /** Where it can happen. Default: everywhere. */
  readonly fits?: (passing: Passing) => boolean;
  readonly fault: (request: ProxiedRequest) => Fault;
}

const sends = ({ requestBytes }: Passing): boolean => requestBytes > 0;
const answers = ({ answerBytes }: Passing): boolean => answerBytes > 0;
const refused = (status: number, code: string) => (): Fault => ({ kind: 'answer', status, code });

const KINDS: readonly HttpKind[] = [
  { name: 'cut', fault: () => ({ kind: 'cut-request', afterBytes: 0 }) },
  {
    name: 'cut-body',
    fits: sends,
    fault: ({ headers }) => ({
      kind: 'cut-request',
      afterBytes: Math.ceil(Number(headers['content-length'] ?? 0) / 2),
    }),
  },
  { name: 'reset', fault: () => ({ kind: 'reset' }) },
  { name: 'lost-answer', fault: () => ({ kind: 'lose-answer' }) },
  { name: 'half-open', fault: () => ({ kind: 'silence' }) },
  { name: 'withheld-answer', fault: () => ({ kind: 'withhold-answer' }) },
  { name: 'slow', fault: () => ({ kind: 'slow', pauseMs: PAUSE_MS }) },
  { name: '500', fault: refused(500, 'InternalError') },
  { name: '503', fault: refused(503, 'SlowDown') },
  { name: '403', fault: refused(403, 'AccessDenied') },
  { name: 'cut-answer', fits: answers, fault: () => ({ kind: 'halve-answer', ends: 'cut' }) },
  { name: 'short-answer', fits: answers, fault: () => ({ kind: 'halve-answer', ends: 'well' }) },
  { name: 'damaged-request', fits: sends, fault: () => ({ kind: 'damage', what: 'request' }) },
  { name: 'damaged-answer', fits: answers, fault: () => ({ kind: 'damage', what: 'answer' }) },
];

export const HTTP_KINDS: readonly string[] = KINDS.map(({ name }) => name);

/** Patience that gives up at once, and such as is the default. */
const RETRIES = [0, 3];

export function httpCases(proxy: FaultProxy): readonly FaultCase[] {
  return [...proxy.passed].flatMap(([position, passed]) =>
    KINDS.filter(({ fits = () => true }) => fits(passed)).flatMap(({ name }) =>
      RETRIES.map((retriesMax) => ({
        position,
        what: `request ${position} ${passed.operation}`,
        kind: name,
        retriesMax,
      })),
    ),
  );
}

/** Told of each request on its way. */
export type OnRequest = (request: ProxiedRequest) => void;

/** From now on, the one fault; whatever comes before and after passes. */
export function injectHttp(proxy: FaultProxy, { position, kind: wanted }: FaultCase, onRequest?: OnRequest): void {
  const kind = KINDS.find(({ name }) => name === wanted);
  if (kind === undefined) throw new Error(`there is no fault of a request that is called ${wanted}`);
  proxy.setFaults((request) => {
    onRequest?.(request);
    return request.index === position ? kind.fault(request) : undefined;
  });
}

/** Whether nothing comes, and no end hears of it. */
export function isSilent({ kind }: FaultCase): boolean {
  return kind === 'half-open' || kind === 'withheld-answer';
}

/** Must the operation succeed in spite of it, when each request is sent again that failed? */
export function isOvercome({ kind, retriesMax }: FaultCase): boolean {
  if (kind === 'slow') return true;
  return retriesMax > 0 && !['403', 'short-answer', 'damaged-request', 'damaged-answer'].includes(kind);
}

/** The store says that it is so much later, so that what a run that failed holds has come to its end. */
export function setAhead(proxy: FaultProxy, ms: number): void {
  proxy.setFaults(() => ({ kind: 'headers', headers: { date: new Date(Date.now() + ms).toUTCString() } }));
}
