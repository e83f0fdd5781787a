import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

/** More than the hiccups of a busy machine, in which a living holder could not renew it. */
const TERM_MS = 5_000;

class Holder implements AsyncDisposable {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #events: AsyncIterator<string>;

  constructor(directory: TempDirectory, host: string) {
    const program = fileURLToPath(new URL('lease-holder.ts', import.meta.url));
    this.process = spawn(process.execPath, [program, directory.path, host, String(TERM_MS)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#events = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  async next(): Promise<string> {
    const { value, done } = await this.#events.next();
    return done === true ? 'ended' : value;
  }

  say(line: string): void {
    this.process.stdin.write(`${line}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }
}

async function recordIn(directory: TempDirectory): Promise<unknown> {
  return JSON.parse(await readFile(directory.join('.pgark', 'leases', 'shop.json'), 'utf8'));
}

describe.concurrent('a process that holds a lease', () => {
  test('and is stopped past its term finds out before it can commit, and leaves its successor’s lease alone', async () => {
    await using directory = await makeTempDirectory();
    await using stopped = new Holder(directory, 'alpha');
    expect(await stopped.next()).toBe('held');
    stopped.say('confirm');
    expect(await stopped.next()).toBe('confirmed');
    stopped.process.kill('SIGSTOP');
    await using successor = new Holder(directory, 'beta');
    expect(await successor.next()).toBe('held');
    // Its next step is the look before the commit, taken the moment it goes on.
    stopped.say('confirm');
    stopped.process.kill('SIGCONT');
    expect([await stopped.next(), await stopped.next()]).toEqual(['lost: lease-lost', 'refused: lease-lost']);
    stopped.say('release');
    expect(await stopped.next()).toBe('released');
    expect(await recordIn(directory)).toMatchObject({ holder: { host: 'beta' }, released: false });
    successor.say('confirm');
    expect(await successor.next()).toBe('confirmed');
    successor.say('release');
    expect(await successor.next()).toBe('released');
    expect(await recordIn(directory)).toMatchObject({ holder: { host: 'beta' }, released: true });
  });

  test('and is killed is succeeded after the term; while it lives and works for longer, nobody gets in', async () => {
    await using directory = await makeTempDirectory();
    await using killed = new Holder(directory, 'alpha');
    expect(await killed.next()).toBe('held');
    await killed[Symbol.asyncDispose]();
    await using working = new Holder(directory, 'beta');
    expect(await working.next()).toBe('held');
    await using third = new Holder(directory, 'gamma');
    const waiting = third.next();
    working.say('work');
    working.say('confirm');
    expect([await working.next(), await working.next()]).toEqual(['worked', 'confirmed']);
    working.say('release');
    expect(await working.next()).toBe('released');
    expect(await waiting).toBe('held');
  });
});
