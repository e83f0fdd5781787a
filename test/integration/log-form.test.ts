import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { expectExit, fileStorage, filler, s3Storage } from '../support/backups.ts';
import { runPgark, type RunResult } from '../support/cli.ts';
import { s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

interface Line {
  readonly level?: unknown;
  readonly event?: unknown;
}

function linesOf({ stderr }: RunResult): readonly Line[] {
  return stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

const RUN = expect.stringMatching(/^[0-9A-HJKMNP-TV-Z]{26}$/);

test('a collector gets nothing but JSON of a run that fails in one of two storages, and text is there for people', async () => {
  await using database = await createDatabase({ sql: filler(3) });
  await using bucket = await s3Storage();
  await using folder = await fileStorage();
  await using s3 = await startFaultProxy(s3Facts().endpoint);
  await using directory = await makeTempDirectory();
  const configuration = {
    version: 1,
    storages: {
      bucket: { ...bucket.bucket.inFile(s3.endpoint), retry: { attempts: 1 } },
      folder: { type: 'file', path: folder.path },
    },
    databases: { shop: { url: database.url, jobs: { dump: { format: 'plain', to: ['bucket', 'folder'] } } } },
  };
  await writeFile(directory.join('pgark.yaml'), JSON.stringify(configuration));
  s3.setFaults(({ operation, url }) =>
    /^(PutObject|UploadPart)$/.test(operation) && !url.pathname.includes('.pgark')
      ? { kind: 'answer', status: 403, code: 'AccessDenied' }
      : undefined,
  );
  const run = (argv: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    runPgark(['-c', 'pgark.yaml', ...argv], { cwd: directory.path, env, ownProcess: true });

  for (const result of [await run(['once']), await run(['backup'], { LOG_FORMAT: 'json' })]) {
    expectExit(result, 4);
    const lines = linesOf(result);
    expect(lines.at(-1)).toMatchObject({ level: 'ERROR', event: 'command.failed', code: 'partial', exit_code: 4 });
    const part = lines.find(({ event }) => event === 'command.part_failed');
    expect(part).toMatchObject({
      level: 'ERROR',
      message: expect.stringMatching(/^shop.* to bucket: s3:PutObject /),
      run_id: RUN,
    });
  }

  const forPeople = await run(['backup']);
  expectExit(forPeople, 4);
  expect(forPeople.stderr).toMatch(/\nshop.* to bucket: error {2}.*\n {2}hint .*\n {2}run {2}/);
  expect(forPeople.stderr).toMatch(/\nerror {2}[^\n]*\n {2}hint [^\n]*\n[^{]*$/);
});
