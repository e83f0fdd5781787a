import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../common/clock.ts';
import { systemRandom } from '../../common/random.ts';
import { bytesText, listKeys, readObject, textBytes, uploadsOf } from '../contract/harness.contract.ts';
import { FileStore } from './file-store.ts';

const KEY = 'leases/appdb.json';

/** The child's program begins with a store in `store`; `say` writes a line at once, `heard` waits for one. */
const prelude = `
  import { writeSync } from 'node:fs';
  import { createInterface } from 'node:readline';
  const { FileStore } = await import(${JSON.stringify(new URL('./file-store.ts', import.meta.url).href)});
  const { systemClock } = await import(${JSON.stringify(new URL('../../common/clock.ts', import.meta.url).href)});
  const { systemRandom } = await import(${JSON.stringify(new URL('../../common/random.ts', import.meta.url).href)});
  const [root, ...args] = process.argv.slice(1);
  const say = (line) => writeSync(1, line + '\\n');
  const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const heard = async () => (await input.next()).value;
  const KEY = ${JSON.stringify(KEY)};
  let clock = systemClock;
  let random = systemRandom;
  const open = () => new FileStore({ root, clock, random });
  const text = async (object) => Buffer.concat(await Array.fromAsync(object.body)).toString();
`;

interface Child {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  readonly lines: Interface;
  readonly next: () => Promise<string>;
  readonly exit: Promise<unknown>;
}

describe('the file store between processes', () => {
  let root = '';
  let store: FileStore;
  const children: Child[] = [];

  beforeEach(async () => {
    root = await mkdtemp(join(await realpath(tmpdir()), 'pgark-processes-'));
    store = new FileStore({ root, clock: systemClock, random: systemRandom, claimStaleMs: 100 });
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.process.kill('SIGKILL');
      await child.exit;
    }
    await rm(root, { recursive: true, force: true });
  });

  const start = (program: string, ...args: string[]): Child => {
    const childProcess = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', prelude + program, root, ...args],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const lines = createInterface({ input: childProcess.stdout });
    const iterator = lines[Symbol.asyncIterator]();
    const child = {
      process: childProcess,
      lines,
      next: async () => {
        const line = await iterator.next();
        return line.done === true ? 'the child ended' : line.value;
      },
      exit: once(childProcess, 'exit'),
    };
    children.push(child);
    return child;
  };

  /** Sends itself a signal at the n-th step of a write that asks for randomness or for the time. */
  const signalAtStep = `
    const [signalName, step, etag] = args;
    let steps = 0;
    const at = () => {
      steps += 1;
      if (steps !== Number(step)) return;
      say('at the step');
      process.kill(process.pid, signalName);
    };
    clock = { ...systemClock, monotonicMs: () => (at(), systemClock.monotonicMs()) };
    random = { ...systemRandom, bytes: (count) => (at(), systemRandom.bytes(count)) };
    const run = open().putSmall(KEY, Buffer.from('from the child'), { condition: { ifMatch: etag } });
    say(await run.then(() => 'written', (error) => error.code));
  `;

  const untilStopped = async (child: Child): Promise<void> => {
    for (;;) {
      const stat = await readFile(`/proc/${child.process.pid}/stat`, 'utf8');
      if (/\) T /.test(stat)) return;
      await delay(2);
    }
  };

  test('loses no update of a counter that four processes raise', async () => {
    await store.putSmall(KEY, textBytes('0'));
    const raising = Array.from({ length: 4 }, () =>
      start(`
        const store = open();
        for (let done = 0; done < 25; ) {
          const object = await store.get(KEY);
          const next = Number(await text(object)) + 1;
          try {
            await store.putSmall(KEY, Buffer.from(String(next)), { condition: { ifMatch: object.info.etag } });
            done += 1;
          } catch (error) {
            if (error.code !== 'store-condition-failed') throw error;
          }
        }
        say('done');
        process.exit();
      `),
    );
    expect(await Promise.all(raising.map((child) => child.next()))).toEqual(['done', 'done', 'done', 'done']);
    expect(bytesText(await readObject(store, KEY))).toBe('100');
    expect(await uploadsOf(store, '')).toEqual([]);
  });

  test('lets one of four processes create an object, and one create and delete it, round after round', async () => {
    const racing = Array.from({ length: 4 }, (_, racer) =>
      start(
        `
        const store = open();
        say('ready');
        for (let key = await heard(); key; key = await heard()) {
          const mine = 'racer ' + args[0];
          const run = store.putSmall(key, Buffer.from(mine), { condition: { ifAbsent: true } });
          say(await run.then(() => mine, (error) => error.code));
        }
        process.exit();
      `,
        String(racer),
      ),
    );
    for (const child of racing) expect(await child.next()).toBe('ready');
    for (let round = 0; round < 30; round += 1) {
      const key = `round-${round % 2}`;
      for (const child of racing) child.process.stdin.write(`${key}\n`);
      const outcomes = await Promise.all(racing.map((child) => child.next()));
      const losers = outcomes.filter((outcome) => outcome === 'store-condition-failed');
      const winners = outcomes.filter((outcome) => outcome.startsWith('racer '));
      expect([losers.length, winners.length]).toEqual([3, 1]);
      expect(bytesText(await readObject(store, key))).toBe(winners[0]);
      await store.delete(key);
    }
  });

  test('does not let a process commit that was stopped, at whatever step, until another took its place', async () => {
    let stops = 0;
    for (let step = 1; ; step += 1) {
      const { etag } = await store.putSmall(KEY, textBytes(`before step ${step}`));
      const child = start(signalAtStep, 'SIGSTOP', String(step), etag);
      if ((await child.next()) !== 'at the step') break;
      await untilStopped(child);
      stops += 1;
      await store.putSmall(KEY, textBytes('from the parent'), { condition: { ifMatch: etag } });
      child.process.kill('SIGCONT');
      expect(await child.next()).toBe('store-condition-failed');
      expect(bytesText(await readObject(store, KEY))).toBe('from the parent');
      expect(await uploadsOf(store, '')).toEqual([]);
    }
    // Names for the upload and the claim, the start of the watch and the look at the rivals.
    expect(stops).toBeGreaterThanOrEqual(4);
  });

  test('keeps the object whole when a writer is killed, at whatever step, and others go on', async () => {
    let kills = 0;
    for (let step = 1; ; step += 1) {
      const { etag } = await store.putSmall(KEY, textBytes('before'));
      const child = start(signalAtStep, 'SIGKILL', String(step), etag);
      if ((await child.next()) !== 'at the step') break;
      await child.exit;
      kills += 1;
      expect(bytesText(await readObject(store, KEY))).toBe('before');
      expect(await listKeys(store, '')).toEqual([KEY]);
      const left = await uploadsOf(store, '');
      expect(left.length).toBeLessThanOrEqual(1);
      await store.putSmall(KEY, textBytes('after'), { condition: { ifMatch: etag } });
      expect(bytesText(await readObject(store, KEY))).toBe('after');
      for (const upload of left) await store.abortUpload(upload);
      expect(await uploadsOf(store, '')).toEqual([]);
    }
    expect(kills).toBeGreaterThanOrEqual(4);
  });

  test('leaves of a killed upload only what is listed as an upload', async () => {
    const child = start(`
      const body = async function* () {
        for (let block = 0; ; block += 1) {
          yield new Uint8Array(1 << 20).fill(block);
          if (block === 8) say('streaming');
        }
      };
      await open().putStream('shop/archive/3347.dat', body(), {
        onUploadOpened: async (upload) => say(JSON.stringify(upload)),
      });
    `);
    const opened: unknown = JSON.parse(await child.next());
    expect(await child.next()).toBe('streaming');
    child.process.kill('SIGKILL');
    await child.exit;
    expect(await listKeys(store, '')).toEqual([]);
    expect(await store.head('shop/archive/3347.dat')).toBeUndefined();
    const uploads = await uploadsOf(store, 'shop/');
    expect(uploads).toEqual([opened]);
    for (const upload of uploads) await store.abortUpload(upload);
    expect(await uploadsOf(store, '')).toEqual([]);
    expect(await readdir(root, { recursive: true })).toEqual(['.pgark-uploads']);
  });
});
