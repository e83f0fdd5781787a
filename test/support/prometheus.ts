import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { makeTempDirectory } from './temp.ts';

const deploy = path.resolve(import.meta.dirname, '../../deploy');
const PATIENCE_MS = 200_000;

/** A Prometheus of the test's own that scrapes one port each second. */
export async function startPrometheus(targetPort: number) {
  const directory = await makeTempDirectory();
  const configuration = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [path.join(deploy, 'prometheus/pgark.rules.yaml')],
    scrape_configs: [{ job_name: 'pgark', static_configs: [{ targets: [`127.0.0.1:${targetPort}`] }] }],
  };
  await writeFile(directory.join('prometheus.yml'), JSON.stringify(configuration));
  const child = spawn(
    'prometheus',
    [
      `--config.file=${directory.join('prometheus.yml')}`,
      `--storage.tsdb.path=${directory.join('data')}`,
      '--web.listen-address=127.0.0.1:0',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    await directory[Symbol.asyncDispose]();
  };
  try {
    return { url: `http://${await listeningAddress(child.stderr)}`, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Its log says where it listens; the rest of the log is read to the end, since a program whose log nobody takes stops. */
function listeningAddress(log: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    log.setEncoding('utf8');
    log.on('data', (chunk: string) => {
      text = (text + chunk).slice(-100_000);
      const address = /msg="Listening on" address=(127\.0\.0\.1:\d+)/.exec(text)?.[1];
      if (address !== undefined) resolve(address);
    });
    log.once('end', () => reject(new Error(`Prometheus did not start:\n${text}`)));
  });
}

const answerSchema = z.object({
  status: z.literal('success'),
  data: z.object({
    result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) })),
  }),
});

/** Asks until there is an answer: a scrape takes its time. */
export async function query(url: string, expression: string) {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression }).toString()}`);
    // Until it is ready it says so, in prose.
    if (response.status !== 503) {
      const answer: unknown = await response.json();
      const { success, data } = answerSchema.safeParse(answer);
      if (!success) throw new Error(`${expression}: ${JSON.stringify(answer)}`);
      if (data.data.result.length > 0) return data.data.result;
    }
    if (performance.now() > deadline) throw new Error(`Prometheus has no answer to ${expression}`);
    await delay(200);
  }
}
