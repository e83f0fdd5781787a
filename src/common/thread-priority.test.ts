import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

const module = new URL('./thread-priority.ts', import.meta.url).href;

/** In a process of its own, whose threads nobody else needs. Gives the nice values, less that of the process, by names of threads. */
function nicerBy(script: string): ReadonlyMap<string, readonly number[]> {
  const program = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { readFile } from 'node:fs/promises';
    import { getPriority } from 'node:os';
    import { Worker } from 'node:worker_threads';
    import { letPoolGiveWay, letThisThreadGiveWay } from ${JSON.stringify(module)};
    const before = getPriority(0);
    ${script}
    const found = readdirSync('/proc/self/task').map((thread) =>
      [readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim(), getPriority(Number(thread)) - before]);
    console.log(JSON.stringify(found));
    process.exit();`;
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    env: { ...process.env, UV_THREADPOOL_SIZE: '3', NODE_OPTIONS: '' },
  });
  const found = JSON.parse(out) as readonly (readonly [string, number])[];
  return new Map([...Map.groupBy(found, ([name]) => name)].map(([name, each]) => [name, each.map(([, by]) => by)]));
}

const useOfPool = "await readFile('/proc/self/comm');";

test('threads of the pool give way, once, and the main thread does not', () => {
  const threads = nicerBy(`${useOfPool} letPoolGiveWay(); letPoolGiveWay();`);
  expect(threads.get('libuv-worker')).toEqual([5, 5, 5]);
  expect(threads.get('node-MainThread')).toEqual([0]);
});

test('a pool that begins later gives way the next time', () => {
  const threads = nicerBy(`letPoolGiveWay(); ${useOfPool} letPoolGiveWay();`);
  expect(threads.get('libuv-worker')).toEqual([5, 5, 5]);
});

test('a process that is as nice as can be stays so', () => {
  const threads = nicerBy(
    `import { setPriority } from 'node:os'; ${useOfPool} setPriority(0, 17);
     for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), 17); letPoolGiveWay();`,
  );
  expect(new Set(threads.get('libuv-worker')?.map((by) => by - (threads.get('node-MainThread')?.[0] ?? 0)))).toEqual(
    new Set([2]),
  );
});

test('a thread gives way by itself', () => {
  const inThread = `import { parentPort } from 'node:worker_threads';
    import { getPriority } from 'node:os';
    import { letThisThreadGiveWay } from ${JSON.stringify(module)};
    letThisThreadGiveWay();
    parentPort.postMessage(getPriority(0));`;
  const threads = nicerBy(
    `const worker = new Worker(new URL(${JSON.stringify(`data:text/javascript,${encodeURIComponent(inThread)}`)}));
     const nice = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
     if (nice !== before + 5) throw new Error('the thread has ' + nice);`,
  );
  expect(threads.get('node-MainThread')).toEqual([0]);
});
