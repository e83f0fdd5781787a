import { HEALTH_HEADER } from '../observability/health.ts';

const ASK_MS_MAX = 3_000;
const ANSWER_CHARACTERS_MAX = 64 * 1024;

export interface DaemonAnswer {
  readonly healthy: boolean;
  readonly text: string;
}

/**
 * What the daemon that listens at an address says of its health: from what it knows, without looking at anything anew.
 * Undefined if nobody listens there, or somebody who is no daemon of pgark's.
 */
export async function askDaemon(
  listen: { readonly host: string; readonly port: number },
  signal: AbortSignal,
): Promise<DaemonAnswer | undefined> {
  const host =
    ({ '0.0.0.0': '127.0.0.1', '::': '[::1]' } as Readonly<Record<string, string>>)[listen.host] ?? inUrl(listen.host);
  try {
    const response = await fetch(`http://${host}:${listen.port}/health`, {
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS_MAX)]),
    });
    const said = response.headers.get(HEALTH_HEADER);
    const text = (await response.text()).slice(0, ANSWER_CHARACTERS_MAX);
    return said === null ? undefined : { healthy: said === 'healthy', text };
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
