import { type RunResult, runPgark } from './cli.ts';

/** `pgark wal receive` in a process of its own. */
export interface ReceiverProcess {
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<RunResult>;
}

/** Resolves once it receives the WAL of the source that the environment names. */
export async function startReceiver(env: Readonly<Record<string, string>>): Promise<ReceiverProcess> {
  const receives = `receiving WAL of ${env['BACKUP_NAME']}`;
  const started = Promise.withResolvers<{ kill(signal: NodeJS.Signals): void }>();
  const streaming = Promise.withResolvers<void>();
  const ended = runPgark(['wal', 'receive'], {
    env,
    onStarted: started.resolve,
    onStderr: (text) => {
      if (text.includes(receives)) streaming.resolve();
    },
  });
  const program = await started.promise;
  const failed = ended.then(({ exitCode, stderr }) => {
    throw new Error(`the receiver ended with ${exitCode}: ${stderr}`);
  });
  await Promise.race([streaming.promise, failed]);
  failed.catch(() => undefined);
  return { kill: (signal) => program.kill(signal), ended };
}
