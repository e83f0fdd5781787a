/**
 * A process that holds a lease, for lease-stopped.test.ts: `node lease-holder.ts DIRECTORY HOST TERM_MS`. It acquires the
 * lease `shop` of the file store in the directory, waiting for it if need be, and then does what each line of its input
 * says: `work` for two terms without a look at the lease, `confirm`, `release`. Each line of its output is one event.
 */
import { createInterface } from 'node:readline';
import { systemClock } from '../../src/common/clock.ts';
import { isPgarkError } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { Leases } from '../../src/repository/leases.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';

const [root = '', host = '', term = ''] = process.argv.slice(2);
const termMs = Number(term);
const say = (event: string): void => void process.stdout.write(`${event}\n`);
const codeOf = (error: unknown): string => (isPgarkError(error) ? error.code : String(error));

const leases = new Leases(new FileStore({ root, clock: systemClock, random: systemRandom }), {
  clock: systemClock,
  random: systemRandom,
  logger: silentLogger,
  termMs,
  holder: { host, pid: process.pid, runId: `run-of-${host}`, command: 'pgark backup' },
});
const lease = await leases.acquire('shop', { wait: true });
lease.lost.addEventListener('abort', () => say(`lost: ${codeOf(lease.lost.reason)}`));
say('held');
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'work') {
    await systemClock.sleep(2 * termMs);
    say('worked');
  } else if (line === 'release') {
    await lease.release();
    say('released');
  } else {
    await lease.confirm().then(
      () => say('confirmed'),
      (error: unknown) => say(`refused: ${codeOf(error)}`),
    );
  }
}
