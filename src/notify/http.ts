import type { Clock } from '../common/clock.ts';
import { systemCodeOf } from '../common/errors.ts';
import type { Secret } from '../common/secret.ts';
import { deliveryError, type DeliveryProblem, isCertificateCode } from './delivery-error.ts';
import type { Attempt } from './notifier.ts';
import { secretPartsOf, wordsOfReceiver } from './redact.ts';

/** What a receiver says of its refusal, read out of the body of its answer. */
export interface Explanation {
  readonly words?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

export interface HttpRequest {
  /** Who is asked, for messages: `Slack`. */
  readonly receiver: string;
  readonly address: URL;
  readonly method: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** Secrets beside the address that an answer could repeat. */
  readonly secrets?: readonly string[];
  readonly explain?: (body: string) => Explanation;
  readonly clock: Clock;
}

const ANSWER_BYTES_MAX = 4_096;
const RETRYABLE = new Set([408, 425, 429]);

/** The address of a channel, made ready to be changed. A setting that is none is a `notification-failed`. */
export function addressOf(url: Secret, receiver: string): URL {
  const text = url.reveal().trim();
  if (URL.canParse(text)) {
    const parsed = new URL(text);
    if (['http:', 'https:'].includes(parsed.protocol)) return parsed;
  }
  throw deliveryError({
    message: `the address of ${receiver} is no http or https address`,
    hint: 'correct the url of the channel',
    retryable: false,
  });
}

/**
 * One request; returns the beginning of a 2xx answer's body. Redirects are not followed: what was written for one address
 * is not handed to another. Rejects as `Notifier.send` does.
 */
export async function request(call: HttpRequest, attempt: Attempt): Promise<string> {
  const { receiver } = call;
  const timeout = AbortSignal.timeout(attempt.timeoutMs);
  const signal = attempt.signal === undefined ? timeout : AbortSignal.any([attempt.signal, timeout]);
  attempt.signal?.throwIfAborted();
  let response: Response;
  let body: string;
  try {
    const { address, headers } = withoutCredentials(call);
    response = await fetch(address, {
      method: call.method,
      headers: { 'user-agent': 'pgark', ...headers },
      redirect: 'manual',
      signal,
      ...(call.body === undefined ? {} : { body: call.body }),
    });
    body = await beginningOf(response);
  } catch (error) {
    attempt.signal?.throwIfAborted();
    if (timeout.aborted) {
      throw deliveryError({
        message: `${receiver} did not answer within ${attempt.timeoutMs / 1_000} s`,
        hint: 'check that the address can be reached from here',
        retryable: true,
      });
    }
    throw deliveryError({ ...networkProblem(receiver, error) });
  }
  if (response.ok) return body;
  throw deliveryError(refusal(call, response, body));
}

/** fetch refuses addresses with credentials, and repeats them in its error; they go into the header that they mean. */
function withoutCredentials(call: HttpRequest): { readonly address: URL; readonly headers: Record<string, string> } {
  const address = new URL(call.address);
  const { username, password } = address;
  address.username = '';
  address.password = '';
  if (username === '' && password === '') return { address, headers: { ...call.headers } };
  const pair = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  return { address, headers: { authorization: `Basic ${pair.toString('base64')}`, ...call.headers } };
}

/** The beginning of an answer; what does not arrive or is not text is nothing: the status has been said already. */
async function beginningOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk);
      length += chunk.length;
      // Leaving the loop cancels the rest.
      if (length >= ANSWER_BYTES_MAX) break;
    }
  } catch {
    return '';
  }
  return Buffer.concat(chunks).subarray(0, ANSWER_BYTES_MAX).toString();
}

function refusal(call: HttpRequest, response: Response, body: string): DeliveryProblem {
  const { receiver } = call;
  const { status } = response;
  if (status >= 300 && status < 400) {
    return {
      message: `${receiver} redirects to another address: ${status}`,
      hint: 'set the address that it redirects to as the url of the channel; https instead of http, perhaps',
      retryable: false,
    };
  }
  const explanation = call.explain?.(body) ?? {};
  const secrets = [...secretPartsOf(call.address.href), ...(call.secrets ?? [])];
  const words = wordsOfReceiver(explanation.words ?? '', secrets);
  const retryAfterMs = explanation.retryAfterMs ?? retryAfterOf(response, call.clock);
  return {
    message: `${receiver} refuses the message: ${status}${words === '' ? '' : ` (${words})`}`,
    hint: hintOf(status),
    retryable: status >= 500 || RETRYABLE.has(status),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

function hintOf(status: number): string {
  if (status === 401 || status === 403) return 'check the token or the secret part of the address';
  if (status === 404 || status === 410) return 'check the address; the hook, topic or chat may have been removed';
  if (status === 429) return 'the receiver takes no more for now; send fewer kinds of events to this channel';
  if (status >= 500) return 'the receiver has a fault; nothing is to be done here unless it lasts';
  return 'check the address and the settings of the channel';
}

/** `Retry-After: 30`, or a date (RFC 9110, 10.2.3). */
function retryAfterOf(response: Response, clock: Clock): number | undefined {
  const text = response.headers.get('retry-after')?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1_000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - clock.now().getTime());
}

const networkWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection is refused',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  ENOTFOUND: 'the name of its host is not known',
  EAI_AGAIN: 'the name server does not answer',
  EHOSTUNREACH: 'there is no way to its host',
  ENETUNREACH: 'there is no network',
  ETIMEDOUT: 'its host does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'its host does not answer',
};

/** By its code alone: the library's own sentences name addresses. */
function networkProblem(receiver: string, error: unknown): DeliveryProblem {
  const code = codeOf(error);
  if (code !== undefined && isCertificateCode(code)) {
    return {
      message: `${receiver} is not to be trusted: ${code}`,
      hint: 'its certificate must be valid for its host name; NODE_EXTRA_CA_CERTS names a file of further authorities',
      retryable: false,
    };
  }
  const words = code === undefined ? 'the connection failed' : networkWords[code];
  return {
    message: `${receiver} cannot be reached: ${words ?? code ?? ''}`,
    hint: 'check the host of the channel, the network and the proxy',
    retryable: true,
  };
}

function codeOf(error: unknown): string | undefined {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  const code = systemCodeOf(error);
  if (code !== undefined) return code;
  return error instanceof Error && error.cause !== undefined ? codeOf(error.cause) : undefined;
}
