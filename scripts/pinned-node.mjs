import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';

/** The checkout's top folder. */
export const root = path.resolve(import.meta.dirname, '..');

/** Where `npm ci` puts the Node.js that a checkout runs on; there is one for Linux on x64 and arm64. */
export const pinnedNodePath = path.join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');

const NODE_MAJOR_MIN = 24;

/** The Node.js to run the checkout's tools with: the pinned one, or this very one where none is made for this machine. */
export function checkoutNode() {
  if (process.platform === 'linux' && existsSync(pinnedNodePath)) return pinnedNodePath;
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) return process.execPath;
  throw new Error(
    `the Node.js of this checkout is not installed (${pinnedNodePath}), and this one is ${process.version}: run "npm ci" on Linux, or use Node.js ${NODE_MAJOR_MIN} or newer`,
  );
}

/**
 * The environment for the checkout's tools: its Node.js comes first on the PATH, and libuv's thread pool has a thread
 * for each core and two for file writes and name lookups, as bin/pgark sizes it.
 */
export function checkoutEnvironment(extra = {}) {
  const node = checkoutNode();
  return {
    ...process.env,
    PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH ?? ''}`,
    UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? String(availableParallelism() + 2),
    ...extra,
  };
}

/**
 * Runs a program with this terminal and resolves with its exit status. Signals reach it too: those of a terminal go to
 * every process of the foreground, others are passed on, and this process waits for it to clean up.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string }} [options]
 * @returns {Promise<number>}
 */
export function runInForeground(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', env: options.env, cwd: options.cwd });
    const passOn = (signal) => child.kill(signal);
    // Ctrl-C reaches the child by itself; the empty handler only keeps this process alive until the child has ended.
    const ignore = () => {};
    process.on('SIGINT', ignore);
    process.on('SIGTERM', passOn);
    process.on('SIGHUP', passOn);
    const done = () => {
      process.off('SIGINT', ignore);
      process.off('SIGTERM', passOn);
      process.off('SIGHUP', passOn);
    };
    child.once('error', (error) => {
      done();
      reject(error);
    });
    child.once('close', (code, signal) => {
      done();
      resolve(code ?? 128 + (signalNumbers[signal] ?? 0));
    });
  });
}

const signalNumbers = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };
