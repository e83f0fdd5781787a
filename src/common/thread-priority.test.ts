import { execFileSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { expect, test } from 'vitest';

const module = new URL('./thread-priority.ts', import.meta.url).href;

/** In a process of its own, whose threads nobody else needs. Gives the nice values, less that of the process, by names of threads. */
function nicerBy(script: string): ReadonlyMap<string, readonly number[]> {
  const program = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { readFile } from 'node:fs/promises';
    import { getPriority } from 'node:os';
    import { Worker } from 'node:worker_threads';
    import { letPoolGiveWay, poolMayGiveWay } from ${JSON.stringify(module)};
    const before = getPriority(0);
    ${script}
    const found = readdirSync('/proc/self/task').flatMap((thread) => {
      try {
        return [[readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim(), getPriority(Number(thread)) - before]];
      } catch {
        return []; // It has ended.
      }
    });
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
/** What a process can still add to its own nice value, which threads have at their start. */
const nicer = Math.min(5, 19 - getPriority(0));

test('threads of the pool give way, once, and the main thread does not', () => {
  const threads = nicerBy(`poolMayGiveWay(); ${useOfPool} letPoolGiveWay(); letPoolGiveWay();`);
  expect(threads.get('libuv-worker')).toEqual([nicer, nicer, nicer]);
  expect(threads.get('node-MainThread')).toEqual([0]);
});

test('a pool that begins later gives way the next time', () => {
  const threads = nicerBy(`poolMayGiveWay(); letPoolGiveWay(); ${useOfPool} letPoolGiveWay();`);
  expect(threads.get('libuv-worker')).toEqual([nicer, nicer, nicer]);
});

test('a pool of a process that is not pgark is left alone', () => {
  const threads = nicerBy(`${useOfPool} letPoolGiveWay();`);
  expect(threads.get('libuv-worker')).toEqual([0, 0, 0]);
});

test('a thread that is nearly as nice as can be gives way as far as it can', () => {
  const threads = nicerBy(
    `import { setPriority } from 'node:os';
     poolMayGiveWay(); ${useOfPool}
     for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), Math.max(before, 17));
     letPoolGiveWay();`,
  );
  const most = 19 - getPriority(0);
  expect(threads.get('libuv-worker')).toEqual([most, most, most]);
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
     if (nice !== before + ${nicer}) throw new Error('the thread has ' + nice);`,
  );
  expect(threads.get('node-MainThread')).toEqual([0]);
});
