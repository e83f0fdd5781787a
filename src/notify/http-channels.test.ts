import { createHmac } from 'node:crypto';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type Answer, cutConnection, hang, startReceiver, status } from '../../test/support/http-receiver.ts';
import { sampleMessages, subscribed, watchedContext } from '../../test/support/notifications.ts';
import { Secret } from '../common/secret.ts';
import type { Channel, HealthchecksChannel, WebhookChannel } from './channel.ts';
import { type Delivery, dispatch, type NotifyContext, testNotification } from './dispatcher.ts';
import type { NotificationEvent } from './message.ts';
import { signatureHeaders } from './standard-webhook.ts';
import { emptyNotificationState } from './state.ts';

const { failure } = sampleMessages;
const ok = status(200, 'ok');

function webhook(origin: string, more: Partial<WebhookChannel> = {}): WebhookChannel {
  return { ...subscribed('hook'), type: 'webhook', url: new Secret(`${origin}/hooks/pg`), ...more };
}

/** Tells one channel of one event. */
async function tell(channel: Channel, context: NotifyContext, event: NotificationEvent = failure): Promise<Delivery> {
  const { deliveries } = await dispatch([channel], emptyNotificationState, [event], context);
  const [delivery] = deliveries;
  if (delivery === undefined || deliveries.length !== 1) throw new Error(`${deliveries.length} deliveries`);
  return delivery;
}

const errorOf = (delivery: Delivery): string => (delivery.outcome === 'failed' ? delivery.error.message : 'none');

describe('a delivery over HTTP', () => {
  test('is tried again after an answer of 500, with the same id and body, and recorded as delivered', async () => {
    await using receiver = await startReceiver([status(500), status(503), status(204)]);
    const context = watchedContext();
    const delivery = await tell(webhook(receiver.origin), context);
    expect(delivery).toMatchObject({ channel: 'hook', event: 'failure', outcome: 'delivered', attempts: 3 });
    expect(context.pausesMs).toEqual([2_000, 4_000]);
    expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(receiver.requests.map(({ body }) => body)).size).toBe(1);
  });

  test('fails with the status once its retries are used up, and neither rejects nor throws', async () => {
    await using receiver = await startReceiver([status(500)]);
    const context = watchedContext();
    const delivery = await tell(webhook(receiver.origin), context);
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 4, error: { code: 'notification-failed' } });
    expect(errorOf(delivery)).toBe('the webhook refuses the message: 500');
    expect(context.lines.join('')).toContain('failure could not be told to hook');
  });

  test('gives up an attempt that hangs after its time, and tries again', async () => {
    await using receiver = await startReceiver([hang, ok]);
    const delivery = await tell(webhook(receiver.origin), watchedContext({ timeoutMs: 100 }));
    expect(delivery).toMatchObject({ outcome: 'delivered', attempts: 2 });
  });

  test('says that a receiver which always hangs did not answer', async () => {
    await using receiver = await startReceiver([hang]);
    const retry = { retriesMax: 1, delayMs: 1, delayMsMax: 1 };
    const delivery = await tell(webhook(receiver.origin), watchedContext({ timeoutMs: 100, retry }));
    expect(errorOf(delivery)).toBe('the webhook did not answer within 0.1 s');
    expect(receiver.requests).toHaveLength(2);
  });

  test('waits as long as Retry-After says before it tries again', async () => {
    const date = new Date(Date.now() + 30_000).toUTCString();
    await using receiver = await startReceiver([
      status(429, '', { 'retry-after': '7' }),
      status(503, '', { 'retry-after': date }),
      ok,
    ]);
    const context = watchedContext();
    expect(await tell(webhook(receiver.origin), context)).toMatchObject({ outcome: 'delivered', attempts: 3 });
    expect(context.pausesMs[0]).toBe(7_000);
    expect(context.pausesMs[1]).toBeGreaterThan(20_000);
  });

  test('does not wait for an hour because Retry-After says so', async () => {
    await using receiver = await startReceiver([status(429, '', { 'retry-after': '3600' })]);
    const context = watchedContext();
    expect(await tell(webhook(receiver.origin), context)).toMatchObject({ outcome: 'failed', attempts: 1 });
    expect(context.pausesMs).toEqual([]);
  });

  test.each([400, 401, 403, 404, 410])('is not tried again after %i', async (code) => {
    await using receiver = await startReceiver([status(code)]);
    const delivery = await tell(webhook(receiver.origin), watchedContext());
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 1 });
  });

  test.each([301, 302, 307, 308])('does not follow a redirect (%i)', async (code) => {
    await using elsewhere = await startReceiver([ok]);
    await using receiver = await startReceiver([status(code, '', { location: `${elsewhere.origin}/stolen` })]);
    const delivery = await tell(webhook(receiver.origin, { secret: new Secret('key') }), watchedContext());
    expect(errorOf(delivery)).toBe(`the webhook redirects to another address: ${code}`);
    expect(delivery.attempts).toBe(1);
    expect(elsewhere.requests).toEqual([]);
  });

  test('is tried again when the connection is cut', async () => {
    await using receiver = await startReceiver([cutConnection, ok]);
    const delivery = await tell(webhook(receiver.origin), watchedContext());
    expect(delivery).toMatchObject({ outcome: 'delivered', attempts: 2 });
  });

  test('says that nobody listens', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const delivery = await tell(webhook(`http://127.0.0.1:${port}`), watchedContext());
    expect(errorOf(delivery)).toBe('the webhook cannot be reached: the connection is refused');
    expect(delivery.attempts).toBe(4);
  });

  test('ends at once when it is aborted', async () => {
    const controller = new AbortController();
    const abortIt: Answer = () => controller.abort(new Error('stop'));
    await using receiver = await startReceiver([abortIt]);
    const delivery = await tell(
      webhook(receiver.origin),
      watchedContext({ signal: controller.signal, timeoutMs: 120_000 }),
    );
    expect(delivery).toMatchObject({ outcome: 'failed', attempts: 1, error: { code: 'interrupted' } });
  });

  test('is complete with the status: a body that never ends does not count against it', async () => {
    const endless: Answer = (response) => {
      response.writeHead(200);
      response.write('o');
    };
    await using receiver = await startReceiver([endless]);
    const delivery = await tell(webhook(receiver.origin), watchedContext({ timeoutMs: 200 }));
    expect(delivery).toMatchObject({ outcome: 'delivered', attempts: 1 });
  });

  test('carries credentials of the address in the header that they mean', async () => {
    await using receiver = await startReceiver([ok]);
    const url = new Secret(`${receiver.origin.replace('//', '//me:p%40ss@')}/pg`);
    expect(await tell(webhook('', { url }), watchedContext())).toMatchObject({ outcome: 'delivered' });
    expect(receiver.requests[0]?.headers.authorization).toBe(`Basic ${btoa('me:p@ss')}`);
  });

  test('to an address that is none fails without repeating it', async () => {
    const url = new Secret('hooks.example.com/T0PS3CRET');
    const delivery = await tell(webhook('', { url }), watchedContext());
    expect(errorOf(delivery)).toBe('the address of the webhook is no http or https address');
  });
});

describe('a signed webhook', () => {
  test('has the signature that the receiver computes of id, timestamp and the very bytes of the body', async () => {
    await using receiver = await startReceiver([ok]);
    const key = Buffer.alloc(32, 7);
    await tell(webhook(receiver.origin, { secret: new Secret(`whsec_${key.toString('base64')}`) }), watchedContext());
    const [request] = receiver.requests;
    const id = String(request?.headers['webhook-id']);
    const timestamp = String(request?.headers['webhook-timestamp']);
    expect(id).toMatch(/^msg_[\w-]{27}$/);
    expect(Math.abs(Number(timestamp) - Date.now() / 1_000)).toBeLessThan(60);
    const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${request?.body}`).digest('base64');
    expect(request?.headers['webhook-signature']).toBe(`v1,${expected}`);
  });

  test('agrees with a signature that was made with openssl', () => {
    // printf '%s' 'msg_1.1614265330.{"test":1}' |
    //   openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf %s KEY | base64 -d | xxd -p -c 99) -binary | base64
    const secret = new Secret('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
    const headers = signatureHeaders(secret, { id: 'msg_1', at: new Date(1_614_265_330_000), body: '{"test":1}' });
    expect(headers['webhook-signature']).toBe('v1,VPYgn+wQ2NP1bqG0eC4iCt5m54MvUqC0HQWl6aDniOY=');
  });

  test('takes a secret without whsec_ as the key itself', () => {
    const signed = { id: 'msg_1', at: new Date(0), body: '{}' };
    const expected = createHmac('sha256', 'plain key').update('msg_1.0.{}').digest('base64');
    expect(signatureHeaders(new Secret('plain key'), signed)['webhook-signature']).toBe(`v1,${expected}`);
  });

  test('is not sent with a secret that is broken', async () => {
    await using receiver = await startReceiver([ok]);
    const delivery = await tell(webhook(receiver.origin, { secret: new Secret('whsec_n*t base64') }), watchedContext());
    expect(errorOf(delivery)).toBe('the secret of the webhook begins with whsec_, but base64 does not follow');
    expect(receiver.requests).toEqual([]);
  });

  test('has an id and a time but no signature without a secret', () => {
    const headers = signatureHeaders(undefined, { id: 'msg_1', at: new Date(5_000), body: '' });
    expect(headers).toEqual({ 'webhook-id': 'msg_1', 'webhook-timestamp': '5' });
  });
});

describe('each medium', () => {
  test('Discord is asked to wait until the message is kept, in the thread that the address names', async () => {
    await using receiver = await startReceiver([ok]);
    const url = new Secret(`${receiver.origin}/api/webhooks/1/token?thread_id=5`);
    await tell({ ...subscribed('chat'), type: 'discord', url }, watchedContext());
    expect(receiver.requests[0]?.url).toBe('/api/webhooks/1/token?thread_id=5&wait=true');
  });

  test('Discord’s own word for when to come back is followed', async () => {
    await using receiver = await startReceiver([status(429, '{"message":"slow down","retry_after":4.25}'), ok]);
    const context = watchedContext();
    await tell({ ...subscribed('chat'), type: 'discord', url: new Secret(receiver.origin) }, context);
    expect(context.pausesMs).toEqual([4_250]);
  });

  test('Telegram gets the message at the bot’s address, and its own words explain a refusal', async () => {
    await using receiver = await startReceiver([
      status(429, '{"ok":false,"description":"Too Many Requests","parameters":{"retry_after":9}}'),
      status(400, '{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}'),
    ]);
    const context = watchedContext({ telegramApiUrl: receiver.origin });
    const token = new Secret('12345:AAbb-cc_DD');
    const delivery = await tell({ ...subscribed('phone'), type: 'telegram', token, chat: '@pg' }, context);
    expect(receiver.requests[0]?.url).toBe('/bot12345:AAbb-cc_DD/sendMessage');
    expect(context.pausesMs).toEqual([9_000]);
    expect(errorOf(delivery)).toBe('Telegram refuses the message: 400 (Bad Request: chat not found)');
  });

  test('ntfy gets JSON at its root, with the topic of the address and the token', async () => {
    await using receiver = await startReceiver([ok]);
    const url = new Secret(`${receiver.origin}/backups`);
    await tell({ ...subscribed('phone'), type: 'ntfy', url, token: new Secret('tk_1') }, watchedContext());
    const [request] = receiver.requests;
    expect(request).toMatchObject({ method: 'POST', url: '/' });
    expect(request?.headers.authorization).toBe('Bearer tk_1');
    expect(JSON.parse(request?.body ?? '')).toMatchObject({ topic: 'backups' });
  });

  test('ntfy without a topic is a mistake that is named', async () => {
    const url = new Secret('https://ntfy.example.com/');
    const delivery = await tell({ ...subscribed('phone'), type: 'ntfy', url }, watchedContext());
    expect(errorOf(delivery)).toBe('the address of ntfy names no topic');
  });

  test('Slack’s word for a refusal is passed on, a page of HTML is not', async () => {
    await using receiver = await startReceiver([status(404, 'no_service'), status(404, '<html>no_service</html>')]);
    const channel: Channel = { ...subscribed('chat'), type: 'slack', url: new Secret(`${receiver.origin}/services/x`) };
    expect(errorOf(await tell(channel, watchedContext()))).toBe('Slack refuses the message: 404 (no_service)');
    expect(errorOf(await tell(channel, watchedContext()))).toBe('Slack refuses the message: 404');
  });
});

describe('a ping', () => {
  const ping = (origin: string, more: Partial<HealthchecksChannel> = {}): HealthchecksChannel => ({
    ...subscribed('ping'),
    type: 'healthchecks',
    url: new Secret(`${origin}/ping/c0ffee/?key=1`),
    ...more,
  });
  const rid = '019a9ff9-45b2-37b6-1d07-c2f8d4459586';

  test('goes to /start, the URL itself and /fail, with the run’s id as a UUID', async () => {
    await using receiver = await startReceiver([ok]);
    const { start, success } = sampleMessages;
    for (const event of [start, success, failure]) await tell(ping(receiver.origin), watchedContext(), event);
    expect(receiver.requests.map(({ method, url }) => `${method} ${url}`)).toEqual(
      [
        `GET /ping/c0ffee/start?key=1&rid=RID`,
        `POST /ping/c0ffee?key=1&rid=RID`,
        `POST /ping/c0ffee/fail?key=1&rid=RID`,
      ].map((line) => line.replace('RID', rid)),
    );
  });

  test('has no run’s id where there is none that fits', async () => {
    await using receiver = await startReceiver([ok]);
    await tell(ping(receiver.origin), watchedContext(), { ...failure, runId: 'manual' });
    expect(receiver.requests[0]?.url).toBe('/ping/c0ffee/fail?key=1');
  });

  test('carries the last bytes of the log, cut between characters', async () => {
    await using receiver = await startReceiver([ok]);
    const event = { ...failure, log: `${'x'.repeat(100)}äöü\nlast` };
    await tell(ping(receiver.origin, { sendLogBytes: 10 }), watchedContext(), event);
    await tell(ping(receiver.origin, { sendLogBytes: 1_000 }), watchedContext(), event);
    expect(receiver.requests.map(({ body }) => body)).toEqual(['öü\nlast', event.log]);
    expect(receiver.requests[0]?.headers['content-type']).toBe('text/plain; charset=utf-8');
  });

  test('carries the text where the log is not wanted', async () => {
    await using receiver = await startReceiver([ok]);
    await tell(ping(receiver.origin), watchedContext(), { ...failure, log: 'lines' });
    expect(receiver.requests[0]?.body).toMatch(/^✖ shop: backup failed/);
  });

  test('that is answered 200 but thrown away has failed', async () => {
    await using receiver = await startReceiver([status(200, 'OK (not found)')]);
    const delivery = await tell(ping(receiver.origin), watchedContext());
    expect(errorOf(delivery)).toBe('the ping URL throws the ping away: not found');
    expect(delivery.attempts).toBe(1);
  });

  test('that came too soon after others is sent again later', async () => {
    await using receiver = await startReceiver([status(200, 'OK (rate limited)'), ok]);
    const context = watchedContext();
    expect(await tell(ping(receiver.origin), context)).toMatchObject({ outcome: 'delivered', attempts: 2 });
    expect(context.pausesMs).toEqual([15_000]);
  });

  test('for trial leaves the state of the check alone', async () => {
    await using receiver = await startReceiver([ok]);
    await testNotification(ping(receiver.origin), watchedContext());
    expect(receiver.requests[0]?.url).toBe('/ping/c0ffee/log?key=1');
  });
});

describe('a trial message', () => {
  test('is sent once, and says whether it arrived', async () => {
    await using receiver = await startReceiver([status(500), ok]);
    const context = watchedContext();
    expect(await testNotification(webhook(receiver.origin), context)).toMatchObject({ outcome: 'failed', attempts: 1 });
    const delivery = await testNotification(webhook(receiver.origin), context);
    expect(delivery).toMatchObject({ outcome: 'delivered', event: 'test' });
  });
});

describe('a secret of a channel', () => {
  const MARK = 'T0PS3CRETmark';
  /** Repeats everything that it was sent, as proxies like to do. */
  const echo: Answer = (response, { url, headers, body }) => {
    const words = `cannot ${url} ${JSON.stringify(headers)} ${decodeURIComponent(url)} ${body}`;
    response.writeHead(400).end(JSON.stringify({ message: words, description: words, error: words }));
  };
  const channels = (origin: string): readonly Channel[] => [
    { ...subscribed('a'), type: 'slack', url: new Secret(`${origin}/services/${MARK}`) },
    { ...subscribed('b'), type: 'discord', url: new Secret(`${origin}/api/${MARK}%20?q=${MARK}2`) },
    { ...subscribed('c'), type: 'webhook', url: new Secret(`${origin}/${MARK}`), secret: new Secret(MARK) },
    { ...subscribed('d'), type: 'ntfy', url: new Secret(`${origin}/${MARK}`), token: new Secret(`${MARK}3`) },
    { ...subscribed('e'), type: 'healthchecks', url: new Secret(`${origin}/${MARK}`) },
    { ...subscribed('f'), type: 'telegram', token: new Secret(`1:${MARK}`), chat: '1' },
  ];

  test.each([
    ['refuses and repeats everything', echo],
    ['cuts the connection', cutConnection],
    ['hangs', hang],
    ['redirects to an address with the secret', status(302, '', { location: `https://x.example/${MARK}` })],
  ])('is in no outcome, no state and no line of the log when the receiver %s', async (_, answer) => {
    await using receiver = await startReceiver([answer]);
    const context = watchedContext({ telegramApiUrl: receiver.origin, timeoutMs: 200 });
    const all = channels(receiver.origin);
    const result = await dispatch(all, emptyNotificationState, [failure], context);
    expect(result.deliveries).toHaveLength(all.length);
    expect(result.deliveries.every(({ outcome }) => outcome === 'failed')).toBe(true);
    expect(JSON.stringify([result, context.lines])).not.toContain(MARK);
  });
});
