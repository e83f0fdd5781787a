import { createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Certificate, makeCertificate } from '../../test/support/certificate.ts';
import { startReceiver, status } from '../../test/support/http-receiver.ts';
import { sampleMessages, subscribed, watchedContext } from '../../test/support/notifications.ts';
import { startSmtpReceiver } from '../../test/support/smtp-receiver.ts';
import { Secret } from '../common/secret.ts';
import type { Channel, EmailChannel, SmtpServer } from './channel.ts';
import { type Delivery, dispatch, type NotifyContext } from './dispatcher.ts';
import type { NotificationEvent } from './message.ts';
import { emptyNotificationState } from './state.ts';

/** Leads to this machine, but does not say so: what holds for others holds for it. */
const ELSEWHERE = '::ffff:127.0.0.1';
const PASSWORD = 'c0rrect/hörse';
const login = { user: 'bot@example.com', password: PASSWORD };
const signedIn = { user: login.user, password: new Secret(PASSWORD) };

function channelTo(
  port: number,
  smtp: Partial<SmtpServer> = {},
  to: readonly string[] = ['dba@example.com'],
): EmailChannel {
  return {
    ...subscribed('mail'),
    type: 'email',
    smtp: { host: '127.0.0.1', port, tls: false, ...smtp },
    from: 'pgark <backups@example.com>',
    to,
  };
}

async function tell(
  channel: Channel,
  context: NotifyContext = watchedContext(),
  event: NotificationEvent = sampleMessages.failure,
): Promise<Delivery> {
  const { deliveries } = await dispatch([channel], emptyNotificationState, [event], context);
  const [delivery] = deliveries;
  if (delivery === undefined) throw new Error('nothing was sent');
  return delivery;
}

const errorOf = (delivery: Delivery): string => (delivery.outcome === 'failed' ? delivery.error.message : 'none');

let certificate: Certificate;
const authorities = getCACertificates('default');
beforeAll(async () => {
  certificate = await makeCertificate();
});
afterEach(() => setDefaultCACertificates(authorities));
const trust = (): void => setDefaultCACertificates([...authorities, certificate.cert]);

describe('a mail', () => {
  test('has text and HTML, an id that stays, and no line of a hostile name among its headers', async () => {
    await using server = await startSmtpReceiver();
    expect(await tell(channelTo(server.port), watchedContext(), sampleMessages.hostile)).toMatchObject({
      outcome: 'delivered',
      attempts: 1,
    });
    await tell(channelTo(server.port), watchedContext(), sampleMessages.hostile);
    const [mail, again] = server.mails;
    const headersOf = (source = ''): string => source.slice(0, source.indexOf('\r\n\r\n'));
    const headers = headersOf(mail?.source);
    expect(mail).toMatchObject({ from: 'backups@example.com', to: ['dba@example.com'] });
    expect(headers).toMatch(/^Subject: .*pgark/m);
    expect(headers).toMatch(/^Auto-Submitted: auto-generated$/m);
    expect(headers).not.toMatch(/^Bcc:/im);
    expect(mail?.source).toMatch(/Content-Type: text\/plain; charset=utf-8/);
    expect(mail?.source).toMatch(/Content-Type: text\/html; charset=utf-8/);
    const idOf = (source?: string): string | undefined => /^Message-ID: (<.*>)$/m.exec(headersOf(source))?.[1];
    expect(idOf(mail?.source)).toMatch(/^<msg_[\w-]{27}@example\.com>$/);
    expect(idOf(again?.source)).toBe(idOf(mail?.source));
  });

  test('goes over STARTTLS, signed in, where the server offers it and its certificate is trusted', async () => {
    trust();
    await using server = await startSmtpReceiver({ login, server: certificate });
    expect(await tell(channelTo(server.port, { ...signedIn, host: ELSEWHERE }))).toMatchObject({
      outcome: 'delivered',
    });
    expect(server.mails).toMatchObject([{ secure: true, user: login.user }]);
  });

  test('goes over TLS from the first byte', async () => {
    trust();
    await using server = await startSmtpReceiver({ login, server: { secure: true, ...certificate } });
    expect(await tell(channelTo(server.port, { ...signedIn, tls: true, host: 'localhost' }))).toMatchObject({
      outcome: 'delivered',
    });
    expect(server.mails).toMatchObject([{ secure: true, user: login.user }]);
  });

  test.each([true, false])(
    'is not sent to a server whose certificate nobody vouches for (TLS at once: %s)',
    async (tls) => {
      await using server = await startSmtpReceiver({ login, server: { secure: tls, ...certificate } });
      const delivery = await tell(channelTo(server.port, { ...signedIn, tls, host: ELSEWHERE }));
      expect(errorOf(delivery)).toMatch(/^the mail server offers no TLS that can be trusted/);
      expect(delivery.attempts).toBe(1);
      expect([server.logins, server.mails]).toEqual([[], []]);
    },
  );

  test('without a password goes as it can: encrypted where offered, whoever vouches for it', async () => {
    await using server = await startSmtpReceiver({ server: certificate });
    expect(await tell(channelTo(server.port, { host: ELSEWHERE }))).toMatchObject({ outcome: 'delivered' });
    expect(server.mails).toMatchObject([{ secure: true }]);
  });

  test('takes no password to another machine in clear, although the server would take it', async () => {
    await using server = await startSmtpReceiver({
      login,
      server: { disabledCommands: ['STARTTLS'], allowInsecureAuth: true },
    });
    const delivery = await tell(channelTo(server.port, { ...signedIn, host: ELSEWHERE }));
    expect(errorOf(delivery)).toMatch(/^the mail server offers no TLS that can be trusted/);
    expect(server.logins).toEqual([]);
    expect(await tell(channelTo(server.port, signedIn))).toMatchObject({ outcome: 'delivered' });
  });

  test('is not tried again with a wrong password, and the password is told to nobody', async () => {
    trust();
    await using server = await startSmtpReceiver({ login, server: certificate });
    const wrong = 'wr0ng/Pässwort';
    const context = watchedContext();
    const delivery = await tell(channelTo(server.port, { ...signedIn, password: new Secret(wrong) }), context);
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 1 });
    expect(errorOf(delivery)).toMatch(/refuses user and password: 535 no bot@example.com, not with \[redacted\]/);
    expect(server.logins).toEqual([{ user: login.user, secure: true }]);
    expect(JSON.stringify([delivery, context.lines])).not.toContain(wrong);
  });

  test('with a password but without a user is a mistake that is named', async () => {
    const delivery = await tell(channelTo(1, { password: new Secret('x') }));
    expect(errorOf(delivery)).toBe('there is a password for the mail server, but no user');
  });

  test('is tried again when the server has no time (450), not when it refuses for good (550)', async () => {
    await using server = await startSmtpReceiver({ senderAnswers: [450, 450, 550] });
    const delivery = await tell(channelTo(server.port));
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 3 });
    expect(errorOf(delivery)).toBe('the mail server refuses sender or recipients: 550 not now');
    expect(await tell(channelTo(server.port))).toMatchObject({ outcome: 'delivered' });
  });

  test('that reaches some of its recipients is delivered, and says whom it missed', async () => {
    await using server = await startSmtpReceiver({ refusedRecipients: ['gone@example.com'] });
    const context = watchedContext();
    const delivery = await tell(channelTo(server.port, {}, ['dba@example.com', 'gone@example.com']), context);
    const caveat = 'the mail server refuses gone@example.com; the others get the message';
    expect(delivery).toMatchObject({ outcome: 'delivered', attempts: 1, caveat });
    expect(context.lines.join('')).toContain(caveat);
  });

  test('to nobody who exists has failed', async () => {
    await using server = await startSmtpReceiver({ refusedRecipients: ['dba@example.com'] });
    expect(await tell(channelTo(server.port))).toMatchObject({ outcome: 'failed', attempts: 1 });
  });

  test('does not wait for ever for a server that says nothing', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const retry = { retriesMax: 1, delayMs: 1, delayMsMax: 1 };
    const delivery = await tell(channelTo(port), watchedContext({ timeoutMs: 150, retry }));
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 2 });
    expect(errorOf(delivery)).toMatch(/did not take the message within 0.15 s|cannot be reached: ETIMEDOUT/);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  });

  test('ends at once when it is aborted', async () => {
    const controller = new AbortController();
    const silent = createServer(() => controller.abort(new Error('stop')));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const delivery = await tell(channelTo(port), watchedContext({ signal: controller.signal, timeoutMs: 120_000 }));
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 1, error: { code: 'interrupted' } });
    await new Promise((resolve) => silent.close(resolve));
  });
});

describe('a hook over TLS', () => {
  const hook = (origin: string): Channel => ({
    ...subscribed('hook'),
    type: 'webhook',
    url: new Secret(`${origin}/x`),
  });

  test('gets nothing if its certificate is not trusted, and is not tried again', async () => {
    await using receiver = await startReceiver([status(200)], certificate);
    const delivery = await tell(hook(receiver.origin));
    expect(errorOf(delivery)).toBe('the webhook is not to be trusted: DEPTH_ZERO_SELF_SIGNED_CERT');
    expect(delivery.attempts).toBe(1);
    expect(receiver.requests).toEqual([]);
  });
});
