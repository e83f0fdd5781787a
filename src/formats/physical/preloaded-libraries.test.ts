import { expect, test } from 'vitest';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { workingLibraries } from './preloaded-libraries.ts';

test.each<[string, readonly string[], readonly string[]]>([
  ['nothing is preloaded', ['port = 5432\n', ''], []],
  ['it is a comment', ["#shared_preload_libraries = 'pglogical'\n"], []],
  ['what only watches', ["shared_preload_libraries = 'pg_stat_statements, pgaudit,auto_explain'"], []],
  [
    'one of several',
    ["port = 1\n  Shared_Preload_Libraries='pg_stat_statements, timescaledb' # all\n"],
    ['timescaledb'],
  ],
  ['without quotes', ['shared_preload_libraries pg_cron # jobs'], ['pg_cron']],
  ['by paths', [`shared_preload_libraries = '"$libdir/pglogical", /opt/pg_net.so'`], ['pglogical', 'pg_net']],
  ['the last file counts', ["shared_preload_libraries = 'pg_cron'", "shared_preload_libraries = ''"], []],
  [
    'the last line counts',
    ["shared_preload_libraries = ''\nshared_preload_libraries = 'citus,pg_cron,citus'\n", 'port = 1'],
    ['citus', 'pg_cron'],
  ],
])('libraries that may work by themselves, where %s', (_, files, libraries) => {
  expect(workingLibraries(files.map(toByteString))).toEqual(libraries);
});
