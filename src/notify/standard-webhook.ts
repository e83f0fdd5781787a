import { createHmac } from 'node:crypto';
import type { Secret } from '../common/secret.ts';
import { deliveryError } from './delivery-error.ts';

const PREFIX = 'whsec_';

/**
 * The three headers of Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks, spec): the signature is
 * HMAC-SHA256 over `id.timestamp.body`, the timestamp is that of the attempt, in seconds.
 */
export function signatureHeaders(
  secret: Secret | undefined,
  signed: { readonly id: string; readonly at: Date; readonly body: string },
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(signed.at.getTime() / 1_000));
  const headers = { 'webhook-id': signed.id, 'webhook-timestamp': timestamp };
  if (secret === undefined) return headers;
  const signature = createHmac('sha256', keyOf(secret))
    .update(`${signed.id}.${timestamp}.${signed.body}`)
    .digest('base64');
  return { ...headers, 'webhook-signature': `v1,${signature}` };
}

function keyOf(secret: Secret): Buffer {
  const text = secret.reveal().trim();
  if (!text.startsWith(PREFIX)) return Buffer.from(text);
  const encoded = text.slice(PREFIX.length);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) {
    throw deliveryError({
      message: `the secret of the webhook begins with ${PREFIX}, but base64 does not follow`,
      hint: 'copy the secret again; printf "whsec_%s" "$(openssl rand -base64 32)" makes a new one',
      retryable: false,
    });
  }
  return Buffer.from(encoded, 'base64');
}
