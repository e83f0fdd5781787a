import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { DemoOptions } from './demo.ts';

/** What commands of the demonstration see of the user's environment: nothing that pgark would take for a setting. */
const KEPT = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TERM', 'COLUMNS', 'NO_COLOR', 'CI', 'TZ', 'TMPDIR'];

/** Runs `pgarkPath` as its user would, on the same terminal. When the signal is aborted it gets SIGTERM. */
export function pgarkSpawner(pgarkPath: string, signal?: AbortSignal): DemoOptions['runPgark'] {
  return (args, env) =>
    new Promise((resolve, reject) => {
      const kept = Object.fromEntries(KEPT.flatMap((name) => (name in process.env ? [[name, process.env[name]]] : [])));
      const child = spawn(pgarkPath, args, { env: { ...kept, ...env }, stdio: ['ignore', 'inherit', 'inherit'] });
      const end = () => child.kill('SIGTERM');
      signal?.addEventListener('abort', end, { once: true });
      if (signal?.aborted) end();
      child.once('error', reject);
      child.once('close', (code, ended) => {
        signal?.removeEventListener('abort', end);
        resolve(code ?? 128 + (ended === null ? 0 : constants.signals[ended]));
      });
    });
}
