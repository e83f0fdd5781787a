import { type ChunkFault, type ChunkProxy, startChunkProxy } from '../../support/chunk-proxy.ts';
import { s3Facts } from '../../support/facts.ts';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy.ts';
import { httpCases, injectHttp, isOvercome, type OnRequest } from './http-faults.ts';
import type { FaultCase } from './sweep.ts';

/** What moves no byte for so long is given up by operations that have a limit of their own; it is less than the system's. */
export const STALL_MS = 10_000;
const DEAD_MS = 16_000;
const PAUSE_MS = 400;
export const CHUNK_FAULTS: readonly ChunkFault[] = ['cut', 'reset', 'unheard', 'half-open', 'slow'];

export type WireName = 'HTTP' | 'TCP';

/** The ways to the store and to PostgreSQL, one of which is where faults happen. */
export interface Wires extends AsyncDisposable {
  readonly wire: WireName;
  readonly http: FaultProxy;
  /** Of PostgreSQL, as the operation under test reaches it. */
  readonly port: number;
  /** Nothing happens, and what passes is counted from now on. */
  count(): void;
  /** Of what passed since. */
  cases(): readonly FaultCase[];
  /** `onRequest`: of those to the store, where that is the wire. */
  inject(fault: FaultCase, onRequest?: OnRequest): void;
  /** Nothing happens any more, and every connection of before is over; tells whether the fault has happened. */
  calm(): boolean;
  /** Whether the operation must succeed in spite of it. */
  isOvercome(fault: FaultCase): boolean;
}

export async function openWires(
  wire: WireName,
  postgres: { readonly host: string; readonly port: number },
): Promise<Wires> {
  const stack = new AsyncDisposableStack();
  const http = stack.use(await startFaultProxy(s3Facts().endpoint));
  const dispose = { [Symbol.asyncDispose]: () => stack.disposeAsync() };
  if (wire === 'HTTP') {
    let position = 0;
    return {
      wire,
      http,
      port: postgres.port,
      count: () => http.setFaults(() => undefined),
      cases: () => httpCases(http),
      inject: (fault, onRequest) => {
        ({ position } = fault);
        injectHttp(http, fault, onRequest);
      },
      calm: () => {
        const isReached = http.seen.length > position;
        http.setFaults(() => undefined);
        return isReached;
      },
      isOvercome,
      ...dispose,
    };
  }
  const tcp = stack.use(await startChunkProxy(postgres, { deadMs: DEAD_MS, pauseMs: PAUSE_MS }));
  return {
    wire,
    http,
    port: tcp.port,
    count: () => {
      http.setFaults(() => undefined);
      tcp.setFault();
    },
    cases: () => tcpCases(tcp),
    inject: ({ position, kind }) => {
      http.setFaults(() => undefined);
      tcp.setFault({ index: position, kind: kind as ChunkFault });
    },
    calm: () => {
      const isReached = tcp.hasHappened;
      tcp.setFault();
      return isReached;
    },
    isOvercome: ({ kind }) => kind === 'slow',
    ...dispose,
  };
}

function tcpCases(tcp: ChunkProxy): readonly FaultCase[] {
  return tcp.passed.flatMap((what, position) =>
    CHUNK_FAULTS.map((kind) => ({ position, what: `${what} ${position}`, kind, retriesMax: 0 })),
  );
}
