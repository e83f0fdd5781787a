import { isIP } from 'node:net';
import type { EmailChannel, SmtpServer } from './channel.ts';
import { deliveryError, type DeliveryProblem, isCertificateCode } from './delivery-error.ts';
import { emailBody } from './email-body.ts';
import type { Attempt, Notifier, Outgoing, Receipt } from './notifier.ts';
import { wordsOfReceiver } from './redact.ts';
import { oneLine } from './words.ts';

const RECEIVER = 'the mail server';

/** Mail by SMTP, SMTPS or STARTTLS. A password is only ever sent through TLS that can be trusted, or to this very machine. */
export function emailNotifier(channel: EmailChannel): Notifier {
  return { send: (outgoing, attempt) => send(channel, outgoing, attempt) };
}

async function send(channel: EmailChannel, outgoing: Outgoing, attempt: Attempt): Promise<Receipt> {
  const { smtp, from, to } = channel;
  const { timeoutMs } = attempt;
  const auth = authOf(smtp);
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = attempt.signal === undefined ? timeout : AbortSignal.any([attempt.signal, timeout]);
  attempt.signal?.throwIfAborted();
  // Loaded when the first mail goes out: most commands send none.
  const { createTransport } = await import('nodemailer');
  const isSecretAtStake = auth !== undefined && !isLoopback(smtp.host);
  const transport = createTransport({
    host: smtp.host,
    port: smtp.port,
    secure: smtp.tls,
    requireTLS: !smtp.tls && isSecretAtStake,
    // Where clear text is good enough, so is STARTTLS with a certificate that nobody vouches for.
    tls: { rejectUnauthorized: smtp.tls || isSecretAtStake },
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    dnsTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
    ...(auth === undefined ? {} : { auth }),
  });
  try {
    const info: { readonly rejected: readonly string[] } = await transport.sendMail({
      from,
      to: [...to],
      ...emailBody(outgoing.message, outgoing.note),
      messageId: `<${outgoing.id}@${domainOf(from)}>`,
      // Absence notes and other robots do not answer to it (RFC 3834).
      headers: { 'Auto-Submitted': 'auto-generated' },
      signal,
    });
    if (info.rejected.length === 0) return {};
    return { caveat: oneLine(`${RECEIVER} refuses ${info.rejected.join(', ')}; the others get the message`, 300) };
  } catch (error) {
    attempt.signal?.throwIfAborted();
    throw deliveryError(timeout.aborted ? tooSlow(timeoutMs) : problemOf(error, smtp));
  } finally {
    transport.close();
  }
}

function authOf(smtp: SmtpServer): { readonly user: string; readonly pass: string } | undefined {
  const { user, password } = smtp;
  if (password === undefined) return undefined;
  if (user !== undefined) return { user, pass: password.reveal() };
  throw deliveryError({
    message: `there is a password for ${RECEIVER}, but no user`,
    hint: 'write the user into the address: smtps://USER@HOST:465',
    retryable: false,
  });
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function domainOf(from: string): string {
  return /@([A-Za-z0-9.-]+)>?\s*$/.exec(from)?.[1] ?? 'pgark.invalid';
}

function tooSlow(timeoutMs: number): DeliveryProblem {
  return {
    message: `${RECEIVER} did not take the message within ${timeoutMs / 1_000} s`,
    hint: 'check host and port; 465 is for smtps://, 587 and 25 for smtp://',
    retryable: true,
  };
}

/** Reads what nodemailer throws: `code` of its own, and the server's reply with its three digits where there is one. */
function problemOf(error: unknown, smtp: SmtpServer): DeliveryProblem {
  const { code, responseCode, response, originalCode } = fieldsOf(error);
  const words = wordsOfReceiver(typeof response === 'string' ? response : '', secretsOf(smtp));
  const reply = words === '' ? '' : `: ${words}`;
  // 5yz is for good (RFC 5321, 4.2.1); 503 is about the session, not the message.
  const isPermanent = typeof responseCode === 'number' && responseCode >= 500 && responseCode !== 503;
  const why = typeof originalCode === 'string' ? originalCode : '';
  if (code === 'ETLS' || isCertificateCode(why)) {
    return {
      message: `${RECEIVER} offers no TLS that can be trusted${isCertificateCode(why) ? ` (${why})` : ''}`,
      hint: 'a password is not sent in clear: use smtps://, mend the certificate (NODE_EXTRA_CA_CERTS names further authorities), or leave out user and password',
      retryable: false,
    };
  }
  if (code === 'EAUTH' || code === 'ENOAUTH') {
    return {
      message: `${RECEIVER} refuses user and password${reply}`,
      hint: 'check user and password; large providers want a password made for this program alone',
      retryable: typeof responseCode === 'number' && !isPermanent,
    };
  }
  if (code === 'EENVELOPE') {
    return {
      message: `${RECEIVER} refuses sender or recipients${reply}`,
      hint: 'check from and to of the channel, and that the server relays for this user',
      retryable: !isPermanent,
    };
  }
  if (typeof responseCode === 'number') {
    return { message: `${RECEIVER} refuses the message${reply}`, retryable: !isPermanent };
  }
  const reason = [originalCode, code].find((name) => typeof name === 'string') ?? 'no reason given';
  return {
    message: `${RECEIVER} cannot be reached: ${reason}`,
    hint: 'check host and port; 465 is for smtps://, 587 and 25 for smtp://',
    retryable: true,
  };
}

interface MailErrorFields {
  readonly code?: unknown;
  readonly responseCode?: unknown;
  readonly response?: unknown;
  readonly originalCode?: unknown;
}

function fieldsOf(error: unknown): MailErrorFields {
  return typeof error === 'object' && error !== null ? error : {};
}

/** The password in each form in which the dialogue carries it. */
function secretsOf(smtp: SmtpServer): readonly string[] {
  const password = smtp.password?.reveal();
  if (password === undefined) return [];
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return [password, base64(password), base64(`\u0000${smtp.user ?? ''}\u0000${password}`)];
}
