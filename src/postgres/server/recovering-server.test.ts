import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { optionsOf } from './recovering-server.ts';

const server = { dataDirectory: '/new', binDir: '/bin', account: undefined, port: undefined };

/** What the server gets of what pg_ctl passes on to a shell. */
function argumentsFrom(options: string): readonly string[] {
  return execFileSync('/bin/sh', ['-c', `printf '%s\\n' ${options}`], { encoding: 'utf8' })
    .trimEnd()
    .split('\n');
}

test('a server that recovers uses its own directory, whatever its path and its settings are', () => {
  expect(argumentsFrom(optionsOf({ ...server, dataDirectory: `/it's "new" $HOME` }))).toContain(
    `data_directory=/it's "new" $HOME`,
  );
});

test('only one that lives for a dump does none of the work of the old server', () => {
  const atRest = ['max_logical_replication_workers=0', 'max_worker_processes=0', 'autovacuum=off'];
  expect(argumentsFrom(optionsOf({ ...server, privateIn: '/run' }))).toEqual(expect.arrayContaining(atRest));
  expect(argumentsFrom(optionsOf(server)).filter((each) => atRest.includes(each))).toEqual([]);
});

test('one whose settings say to be silent tells how far it went', () => {
  expect(argumentsFrom(optionsOf(server))).toContain('log_min_messages=warning');
});
