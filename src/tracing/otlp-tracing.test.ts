import { describe, expect, test } from 'vitest';
import { startReceiver, status } from '../../test/support/http-receiver.ts';
import { receivedSpans } from '../../test/support/traces.ts';
import { PgarkError } from '../common/errors.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { Secret } from '../common/secret.ts';
import { lazyTracing } from './lazy-tracing.ts';
import { otlpTracing } from './otlp-tracing.ts';

function listening() {
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warning: (_event, message) => void warnings.push(message) };
  return { warnings, logger };
}

function tracingTo(origin: string, logger = silentLogger) {
  return otlpTracing({
    url: `${origin}/v1/traces`,
    headers: new Secret('x-first=1,x-second=a%20b'),
    serviceName: 'pgark',
    version: '1.2.3',
    host: 'tester',
    logger,
  });
}

describe('spans', () => {
  test('arrive with their parents, facts and headers, and what the work comes to is passed on', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    const { tracer, close } = tracingTo(receiver.origin);
    const made = await tracer.span('backup', { a: 'x', absent: undefined }, async (run) => {
      const [left, right] = await Promise.all([
        run.span('left', {}, async (span) => span.span('inner', {}, () => Promise.resolve(1))),
        run.span('right', { list: ['p', 'q'] }, () => Promise.resolve(2)),
      ]);
      run.note({ sum: left + right });
      return left + right;
    });
    expect(made).toBe(3);
    await close();
    const spans = receivedSpans(receiver);
    expect(spans.map(({ path }) => path)).toEqual([
      'backup',
      'backup > left',
      'backup > left > inner',
      'backup > right',
    ]);
    expect(spans[0]?.attributes).toEqual({ a: 'x', sum: 3 });
    expect(spans[3]?.attributes).toEqual({ list: ['p', 'q'] });
    expect(spans[0]?.resource).toMatchObject({ 'service.name': 'pgark', 'service.version': '1.2.3' });
    expect(receiver.requests[0]?.headers).toMatchObject({ 'x-first': '1', 'x-second': 'a b' });
  });

  test('have failed with the code of an error, and without its message', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    const { tracer, close } = tracingTo(receiver.origin);
    const error = new PgarkError('dump-failed', 'ERROR: near "select secret"');
    await expect(tracer.span('backup', {}, () => Promise.reject(error))).rejects.toBe(error);
    await tracer.span('verify', {}, (span) => Promise.resolve(span.fail(new TypeError('select secret'))));
    await tracer.span('well', {}, () => Promise.resolve());
    await close();
    const spans = receivedSpans(receiver);
    expect(spans.map(({ name, failed, attributes }) => [name, failed, attributes['error.type']])).toEqual([
      ['backup', true, 'dump-failed'],
      ['verify', true, 'TypeError'],
      ['well', false, undefined],
    ]);
    expect(JSON.stringify(receiver.requests)).not.toContain('select secret');
  });
});

describe('a receiver that refuses', () => {
  test('is told of once for each time that it does not take spans, without what it says', async () => {
    let refuses = true;
    let taken = 0;
    await using receiver = await startReceiver([
      (response, request) => {
        if (!refuses) taken += 1;
        status(refuses ? 401 : 200, refuses ? 'you sent: x-first=1' : '{}')(response, request);
      },
    ]);
    const { warnings, logger } = listening();
    const { tracer, close } = tracingTo(receiver.origin, logger);
    // A batch is full with 512 spans, and leaves at once.
    const sendUntil = async (isReached: () => boolean): Promise<void> => {
      for (let n = 0; n < 512; n++) await tracer.span('span', {}, () => Promise.resolve());
      await expect.poll(isReached, { timeout: 200_000 }).toBe(true);
    };
    await sendUntil(() => receiver.requests.length > 0);
    await sendUntil(() => receiver.requests.length > 1);
    refuses = false;
    await sendUntil(() => taken > 0);
    refuses = true;
    await sendUntil(() => warnings.length > 1);
    await close();
    const message = `traces could not be sent to ${receiver.origin}: it answered with HTTP status 401`;
    expect(warnings).toEqual([message, message]);
  });

  test('that is not there does not hold up the end', async () => {
    await using receiver = await startReceiver([status(200)]);
    const { origin } = receiver;
    await receiver[Symbol.asyncDispose]();
    const { warnings, logger } = listening();
    const { tracer, close } = tracingTo(origin, logger);
    await tracer.span('backup', {}, () => Promise.resolve());
    await close();
    expect(warnings).toEqual([`traces could not be sent to ${origin}: ECONNREFUSED`]);
  });
});

describe('a tracing that is loaded when it is needed', () => {
  test('is not loaded without a span', async () => {
    let loads = 0;
    const tracing = lazyTracing(() => {
      loads += 1;
      return Promise.reject(new Error('never'));
    }, silentLogger);
    await tracing.close();
    expect(loads).toBe(0);
  });

  test('and cannot be is a warning that says what to install, and the work goes on', async () => {
    const { warnings, logger } = listening();
    const missing = Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' });
    const { tracer, close } = lazyTracing(() => Promise.reject(missing), logger);
    const work = () => tracer.span('backup', {}, (run) => run.span('dump', {}, () => Promise.resolve('done')));
    expect(await Promise.all([work(), work()])).toEqual(['done', 'done']);
    await close();
    expect(warnings).toEqual([expect.stringContaining('npm install @opentelemetry/api ')]);
  });
});
