import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { at, HistoryPlace } from '../../test/support/protection.ts';
import { silentLogger } from '../common/log.ts';
import { buildProtectionState, type ProtectionState } from '../observability/protection-state.ts';
import { startHttpServer } from './server.ts';

async function serve(state: () => ProtectionState | undefined) {
  const server = await startHttpServer({ host: '127.0.0.1', port: 0, state, version: '1.2.3', logger: silentLogger });
  return {
    ...server,
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

async function aState(): Promise<ProtectionState> {
  const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
  await place.backup(at('2026-11-20T02:00:00Z'));
  return buildProtectionState(await place.inputs());
}

/** Sends bytes as they are and returns all that comes back until the server ends the connection. */
async function exchange(port: number, ...parts: readonly string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  for (const part of parts) socket.write(part);
  return textOf(socket);
}

async function textOf(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
  });
  // A connection that is cut while there is more to say may end with a reset.
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

describe('the HTTP server', () => {
  test('answers what monitoring asks, with the headers that it wants', async () => {
    const state = await aState();
    await using server = await serve(() => state);
    const metrics = await fetch(`${server.url}/metrics`);
    expect(metrics.status).toBe(200);
    expect(metrics.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(metrics.headers.get('cache-control')).toBe('no-store');
    expect(await metrics.text()).toContain('pgark_build_info{version="1.2.3"} 1');
    for (const [path, status, text] of [
      ['/healthz', 200, 'ok\n'],
      ['/readyz', 200, 'ready\n'],
      ['/', 404, 'not found\n'],
      ['/metrics/', 404, 'not found\n'],
      ['/../etc/passwd', 404, 'not found\n'],
    ] as const) {
      const answer = await fetch(`${server.url}${path}`);
      expect([path, answer.status, await answer.text()]).toEqual([path, status, text]);
    }
  });

  test('answers HEAD like GET, without the body', async () => {
    const state = await aState();
    await using server = await serve(() => state);
    for (const path of ['/metrics', '/healthz', '/readyz']) {
      const answer = await fetch(`${server.url}${path}`, { method: 'HEAD' });
      expect([answer.status, await answer.text()]).toEqual([200, '']);
    }
  });

  test('says whether all is well, and that it is pgark who says so', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    const fresh = buildProtectionState(await place.inputs());
    const late = buildProtectionState(await place.inputs({ now: at('2026-11-22T12:00:00Z') }));
    let known: ProtectionState | undefined;
    await using server = await serve(() => known);
    for (const [state, status, word] of [
      [undefined, 503, 'starting'],
      [fresh, 200, 'healthy'],
      [late, 503, 'unhealthy'],
    ] as const) {
      known = state;
      const answer = await fetch(`${server.url}/health`);
      expect([answer.status, answer.headers.get('x-pgark-health')]).toEqual([status, word]);
      if (state === late) expect(await answer.text()).toMatch(/overdue since/);
    }
  });

  test('is alive but not ready until the state is known', async () => {
    const known: ProtectionState[] = [];
    await using server = await serve(() => known[0]);
    const statuses = async (): Promise<number[]> =>
      Promise.all(['/healthz', '/readyz', '/metrics'].map(async (path) => (await fetch(server.url + path)).status));
    expect(await statuses()).toEqual([200, 503, 503]);
    known.push(await aState());
    expect(await statuses()).toEqual([200, 200, 200]);
  });

  test('does not say what went wrong inside', async () => {
    await using server = await serve(() => {
      throw new Error('hunter2');
    });
    const answer = await fetch(`${server.url}/metrics`);
    expect([answer.status, await answer.text()]).toEqual([500, 'internal error\n']);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test('takes no other methods and no bodies, and does not wait for them', async () => {
    const state = await aState();
    await using server = await serve(() => state);
    const post = await exchange(server.port, 'POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc');
    expect(post).toMatch(/^HTTP\/1\.1 405 /);
    expect(post.toLowerCase()).toContain('allow: get, head');
    const sized = await exchange(server.port, 'GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc');
    expect(sized).toMatch(/^HTTP\/1\.1 413 /);
    const chunked = 'GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n';
    expect(await exchange(server.port, chunked)).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('refuses headers without end', async () => {
    const state = await aState();
    await using server = await serve(() => state);
    const header = `X: ${'a'.repeat(20 * 1024)}\r\n`;
    expect(await exchange(server.port, 'GET /healthz HTTP/1.1\r\nHost: x\r\n', header)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test('closes while idle connections are kept, and more than once', async () => {
    const server = await serve(() => undefined);
    const socket = connect(server.port, '127.0.0.1');
    socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    const ended = textOf(socket);
    await Promise.all([server.close(), server.close()]);
    await ended;
    await expect(fetch(server.url)).rejects.toThrow();
  });

  test('says which address it cannot have', async () => {
    await using first = await serve(() => undefined);
    const { port } = first;
    const second = startHttpServer({
      host: '127.0.0.1',
      port,
      state: () => undefined,
      version: '1.2.3',
      logger: silentLogger,
    });
    await expect(second).rejects.toMatchObject({
      code: 'listen-failed',
      message: `cannot listen on 127.0.0.1:${port}: another program listens there`,
    });
  });
});
