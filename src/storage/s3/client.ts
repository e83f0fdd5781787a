import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { S3Client, type S3ClientConfig, type UploadPartCommand } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { Clock } from '../../common/clock.ts';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import type { S3Credentials, S3StoreOptions } from './options.ts';

/** More than parts, readers and state requests of one process ever need at once. */
const SOCKETS_MAX = 64;
const CONNECT_TIMEOUT_MS = 10_000;
const INACTIVITY_TIMEOUT_MS = 60_000;
const REGION_DEFAULT = 'us-east-1';

/** The store's clock, as the `Date` of its latest response tells it. */
class StoreClock {
  readonly #clock: Clock;
  #latest: { readonly storeMs: number; readonly localMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  observe(dateHeader: string | undefined): void {
    const storeMs = dateHeader === undefined ? Number.NaN : Date.parse(dateHeader);
    if (!Number.isNaN(storeMs)) this.#latest = { storeMs, localMs: this.#clock.now().getTime() };
  }

  /** Date of the latest response. */
  get latest(): Date | undefined {
    return this.#latest && new Date(this.#latest.storeMs);
  }

  /** Store's clock minus this machine's. `Date` counts whole seconds, so that less than one says nothing. */
  get skewMs(): number | undefined {
    if (this.#latest === undefined) return undefined;
    const skewMs = this.#latest.storeMs - this.#latest.localMs;
    return Math.abs(skewMs) < 1_500 ? 0 : skewMs;
  }
}

export interface S3Connection {
  readonly client: S3Client;
  readonly storeClock: StoreClock;
  /** Host and port, for messages. */
  readonly host: string;
  /** Whether bodies of parts are signed, since no TLS guards them. */
  readonly signsBodies: boolean;
  /** Host of the endpoint that was configured; missing for AWS by region. */
  readonly endpointHost: string | undefined;
}

/**
 * The SDK's client as pgark wants it: no retries of its own (each attempt is signed anew by the caller's retry, so that
 * expired credentials and a corrected clock count), no checksums that the store was not asked about, no
 * `Expect: 100-continue` (it costs a connection for each part), and bodies of parts unsigned where TLS guards them.
 */
export function connectS3(options: S3StoreOptions): S3Connection {
  const endpoint = options.endpoint === undefined ? undefined : parseEndpoint(options.endpoint);
  const region = options.region ?? REGION_DEFAULT;
  const storeClock = new StoreClock(options.clock);
  const ca = certificates(options);
  const agent = { keepAlive: true, maxSockets: SOCKETS_MAX };
  const config: S3ClientConfig = {
    region,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      socketTimeout: options.inactivityTimeoutMs ?? INACTIVITY_TIMEOUT_MS,
      httpAgent: agent,
      httpsAgent: ca === undefined ? agent : { ...agent, ca },
    }),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.href }),
    ...credentialConfig(options.credentials),
  };
  const client = new S3Client(config);
  observeDates(client, storeClock);
  const signsBodies = endpoint?.protocol === 'http:';
  if (!signsBodies) leavePartsUnsigned(client);
  const host = endpoint?.host ?? `s3.${region}.amazonaws.com`;
  return { client, storeClock, host, signsBodies, endpointHost: endpoint?.hostname };
}

function parseEndpoint(endpoint: string): URL {
  const url = URL.parse(endpoint);
  if (
    url === null ||
    (url.protocol !== 'http:' && url.protocol !== 'https:') ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw new PgarkError('storage-config-invalid', 'the S3 endpoint is not a URL of the form https://host[:port]', {
      hint: 'give scheme, host and port only; keys have settings of their own',
    });
  }
  return url;
}

function credentialConfig(credentials: S3Credentials): Pick<S3ClientConfig, 'credentials'> {
  if (credentials.kind === 'default-chain') return {};
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  return {
    credentials: {
      accessKeyId: accessKeyId instanceof Secret ? accessKeyId.reveal() : accessKeyId,
      secretAccessKey: secretAccessKey.reveal(),
      ...(sessionToken === undefined ? {} : { sessionToken: sessionToken.reveal() }),
    },
  };
}

/** Own certificates beside the public ones: `ca` alone would replace them. */
function certificates(options: S3StoreOptions): string[] | undefined {
  const own = options.ca === undefined ? [] : [options.ca];
  if (options.caFile !== undefined) {
    try {
      own.push(readFileSync(options.caFile, 'utf8'));
    } catch (error) {
      throw new PgarkError('config-unreadable', `the CA file ${options.caFile} cannot be read: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  return own.length === 0 ? undefined : [...getCACertificates('default'), ...own];
}

function observeDates(client: S3Client, storeClock: StoreClock): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const output = await next(args);
      const headers = headersOf(output.response);
      storeClock.observe(headers?.['date']);
      return output;
    },
    { name: 'pgarkStoreDate', step: 'deserialize', priority: 'low' },
  );
}

/** In the build step: later is after signing, and the signature would not fit. */
function leavePartsUnsigned(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const headers = headersOf(args.request);
      if (context.commandName === 'UploadPartCommand' && headers !== undefined) {
        headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      return next(args);
    },
    { name: 'pgarkUnsignedParts', step: 'build' },
  );
}

/**
 * Over plain http the payload stays signed, for nothing else would tell that it was changed on its way. By the digest that
 * is known already: the signer would make it again, and hold up everything else for some milliseconds with each part.
 */
export function withBodyDigest(command: UploadPartCommand, sha256Hex: string | undefined): UploadPartCommand {
  if (sha256Hex === undefined) return command;
  command.middlewareStack.add(
    (next) => async (args) => {
      const headers = headersOf(args.request);
      if (headers !== undefined) headers['x-amz-content-sha256'] = sha256Hex;
      return next(args);
    },
    { name: 'pgarkBodyDigest', step: 'build' },
  );
  return command;
}

function headersOf(message: unknown): Record<string, string> | undefined {
  if (typeof message !== 'object' || message === null || !('headers' in message)) return undefined;
  return message.headers as Record<string, string>;
}
