import { appendFile, chmod, readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { download } from '../../src/operations/download.ts';
import { fileDestination } from '../support/destinations.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { NO_KEYS, startWitnessed } from '../support/wal-receiving.ts';

test('what download says makes of a standby’s backup a primary of its own, which archives nothing and waits for nobody', async () => {
  await using witnessed = await startWitnessed();
  const { cluster: primary, witness } = witnessed;
  await using standby = await primary.standby({
    archive_mode: 'always',
    archive_command: `cp %p ${witness}/%f`,
    synchronous_standby_names: 'nobody',
  });
  await using folder = await ServerFolder.make(primary.binDir);
  await using disk = await fileDestination('disk');
  await primary.sql('create table here as select n from generate_series(1, 1000) n');
  await standby.until(`pg_last_wal_replay_lsn() >= '${await primary.value('select pg_current_wal_lsn()')}'`);
  // Of a recovery long ago.
  await appendFile(path.join(standby.dataDirectory, 'postgresql.conf'), `recovery_target_xid = '1000000'\n`);
  await backUpServer(standby, [disk]);
  await standby.stop();
  const files = folder.join('files');
  const { command } = await download(
    { store: disk.store, filter: {}, selector: { kind: 'latest' }, keys: NO_KEYS, compression: 'none', folder: files },
    operationContext(),
  );
  await chmod(files, 0o755);
  for (const name of await readdir(files)) await chmod(path.join(files, name), 0o644);
  await folder.run('sh', ['-euc', command], '/bin');

  const server = await folder.start(folder.join('DATA'));
  await primary.sql('insert into here values (0)');
  expect(await server.value('select count(*) from here')).toBe('1000');
  expect(await server.value('select timeline_id from pg_control_checkpoint()')).toBe('2');
  expect(await server.value(`select current_setting('archive_mode')`)).toBe('off');
  // Nobody confirms it.
  await server.sql('create table own ()');
  await server.sql('select pg_switch_wal()');
  await server.sql('checkpoint');
  expect((await readdir(witness)).filter((name) => name.startsWith('00000002'))).toEqual([]);
  await folder.stop(folder.join('DATA'));
});
