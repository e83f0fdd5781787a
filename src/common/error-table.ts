/**
 * Every error that pgark reports, in one table: the code's name, the exit status it leads to, what it means and what to
 * do about it. The CLI's help, docs/errors.md and a test that holds them together are made from it.
 */
interface ErrorKind {
  /** Exit status of the process when a command fails with this error. */
  readonly exit: number;
  /** One sentence for the documentation: what happened. */
  readonly meaning: string;
  /** One sentence for the documentation, and the hint where the place of failure knows no better one. */
  readonly remedy: string;
}

export const exitCodes = {
  0: 'done',
  1: 'failed; or a required setting is missing, unknown or has an invalid value',
  2: 'wrong usage, or an invalid cron expression',
  3: 'invalid storage configuration',
  4: 'partial: some databases, backups or destinations failed',
  10: 'not found',
  11: 'locked by another run',
  12: 'wrong key or passphrase',
  20: 'verification or drill failed, or a restore met corruption',
  21: 'outside the recovery window',
  22: 'overdue',
  130: 'interrupted',
} as const;

export const errorTable = {
  internal: {
    exit: 1,
    meaning: 'pgark met a state that it should never be in.',
    remedy: 'run again with -v and report the stack trace',
  },
  interrupted: {
    exit: 130,
    meaning: 'The command was ended by a signal; nothing half-done was kept.',
    remedy: 'run the command again',
  },
  usage: {
    exit: 2,
    meaning: 'The command line is wrong.',
    remedy: 'run pgark help COMMAND for its arguments and options',
  },
  'cron-invalid': {
    exit: 2,
    meaning: 'A schedule is not a valid cron expression or interval.',
    remedy: 'use five fields such as "0 2 * * *", a nickname such as @daily, or an interval such as 6h',
  },
  'config-missing': {
    exit: 1,
    meaning: 'Required settings are missing; all of them are named at once.',
    remedy: 'set the variables named, or write them in the configuration file',
  },
  'config-invalid': {
    exit: 1,
    meaning: 'A setting is unknown or has an invalid value.',
    remedy: 'see docs/configuration.md; pgark config show --origin says where each value comes from',
  },
  'config-conflict': {
    exit: 1,
    meaning: 'Two groups of settings contradict each other.',
    remedy: 'keep one of the two groups',
  },
  'config-unreadable': {
    exit: 1,
    meaning: 'The configuration file, or a file that a setting names, cannot be read.',
    remedy: 'check the path and its permissions',
  },
  'storage-config-invalid': {
    exit: 3,
    meaning: 'The storage settings are incomplete or contradict each other.',
    remedy: 'see docs/configuration.md, section Storage',
  },
  'store-bucket-missing': {
    exit: 3,
    meaning: 'The bucket does not exist, or the directory of the file storage cannot be made.',
    remedy: 'create the bucket, or correct its name; pgark never creates buckets',
  },
  'store-credentials-rejected': {
    exit: 3,
    meaning: 'The store does not accept the access key or the secret key.',
    remedy: 'check the access key, the secret key, the region and the clock of this machine',
  },
  'store-access-denied': {
    exit: 3,
    meaning: 'The store knows the key but does not allow the operation.',
    remedy: 'grant the operation named to this key; docs/security.md lists the rights that pgark needs',
  },
  'store-unreachable': {
    exit: 1,
    meaning: 'The store could not be reached, or kept failing after all retries.',
    remedy: 'check the endpoint and the network, then run the command again',
  },
  'store-full': {
    exit: 1,
    meaning: 'The store has no room left.',
    remedy: 'free space or raise the quota; the backups that were there are untouched',
  },
  'store-unsupported': {
    exit: 3,
    meaning: 'The store does not offer something that is needed.',
    remedy: 'pgark storage probe shows what the store can do',
  },
  'store-integrity': {
    exit: 1,
    meaning: 'The store confirmed other bytes than were sent.',
    remedy: 'run the backup again; if it repeats, a proxy or the store damages data',
  },
  'store-condition-failed': {
    exit: 1,
    meaning: 'An object was changed by somebody else in between.',
    remedy: 'run the command again',
  },
  'store-failed': {
    exit: 1,
    meaning: 'The store refused a request for a reason that pgark does not know.',
    remedy: 'the message carries the store’s own code; look it up in its documentation',
  },
  'object-not-found': {
    exit: 10,
    meaning: 'An object that should be in the store is not there.',
    remedy: 'pgark verify shows which backups are whole',
  },
  'object-exists': {
    exit: 1,
    meaning: 'An object of that name is already in the store; pgark never overwrites one.',
    remedy: 'put a time with seconds into the file name template',
  },
  'backup-not-found': {
    exit: 10,
    meaning: 'No backup has that name, id or time.',
    remedy: 'pgark list shows what there is',
  },
  'repository-unknown-layout': {
    exit: 1,
    meaning: 'The storage was written by a newer version of pgark.',
    remedy: 'use the version of pgark that the message names, or a newer one',
  },
  'repository-damaged': {
    exit: 20,
    meaning: 'An object of pgark’s own in the storage cannot be read.',
    remedy: 'restore the object named from a copy of the bucket; the data objects can still be restored by name',
  },
  locked: {
    exit: 11,
    meaning: 'Another run works on the same database.',
    remedy: 'wait for it to end',
  },
  'lease-lost': {
    exit: 11,
    meaning: 'This run was paused or cut off for so long that another could take its place; it committed nothing.',
    remedy: 'run the command again',
  },
  'postgres-unreachable': {
    exit: 1,
    meaning: 'The PostgreSQL server cannot be reached.',
    remedy: 'check host, port and that the server runs and accepts connections from here',
  },
  'postgres-auth-failed': {
    exit: 1,
    meaning: 'The PostgreSQL server refuses the user or the password.',
    remedy: 'check user and password, and the server’s pg_hba.conf',
  },
  'postgres-database-missing': {
    exit: 1,
    meaning: 'The database does not exist on the server.',
    remedy: 'check the database’s name; it is case-sensitive',
  },
  'postgres-privileges': {
    exit: 1,
    meaning: 'The role may not read everything that the backup needs, or not write what the restore needs.',
    remedy: 'grant pg_read_all_data to the role, and BYPASSRLS where row-level security is in use',
  },
  'postgres-failed': {
    exit: 1,
    meaning: 'PostgreSQL refused a command, or ended the connection.',
    remedy: 'the message carries the server’s own words and its SQLSTATE',
  },
  'postgres-settings': {
    exit: 1,
    meaning: 'A setting of the PostgreSQL server does not allow what was asked for.',
    remedy: 'change the setting that the message names; some want a restart of the server',
  },
  'client-missing': {
    exit: 1,
    meaning: 'A PostgreSQL client program is not installed, or is too old for the server or the dump.',
    remedy: 'install the postgresql-client package of the server’s major version or a newer one',
  },
  'dump-failed': {
    exit: 1,
    meaning: 'pg_dump ended with an error or was killed; nothing was committed.',
    remedy: 'the message carries pg_dump’s own last words',
  },
  'restore-failed': {
    exit: 1,
    meaning: 'A stage of the restore failed; the target is as it was before.',
    remedy: 'the message names the stage and carries psql’s own words',
  },
  'target-not-empty': {
    exit: 1,
    meaning: 'The database to restore into already holds something.',
    remedy: 'restore into a new database, or say --in-place --yes NAME, or --clean',
  },
  'confirmation-needed': {
    exit: 2,
    meaning: 'The command replaces something and wants to be told that this is meant.',
    remedy: 'repeat it as the hint says, with --yes NAME or --from-other-server',
  },
  'wrong-key': {
    exit: 12,
    meaning: 'The key or passphrase given does not open the backup.',
    remedy: 'use the identity or passphrase of the key whose fingerprint pgark show names',
  },
  'key-invalid': {
    exit: 1,
    meaning: 'An encryption key, recipient or passphrase is not usable.',
    remedy: 'pgark key generate makes a new one',
  },
  'key-missing': {
    exit: 12,
    meaning: 'The backup is encrypted and no key was given.',
    remedy: 'give the identity or passphrase (BACKUP_ENCRYPTION_KEY, or --identity FILE)',
  },
  corrupt: {
    exit: 20,
    meaning: 'A backup’s stored bytes are not the bytes that were written: damaged, truncated or replaced.',
    remedy: 'restore another backup; pgark list shows them, pgark verify tries them',
  },
  'prune-refused': {
    exit: 1,
    meaning:
      'A prune would delete more than half of a database’s backups; none of these was deleted, other databases were pruned.',
    remedy: 'look at pgark prune --dry-run, then repeat with --force',
  },
  'object-key-invalid': {
    exit: 1,
    meaning: 'A name cannot be the name of an object in the store.',
    remedy: 'use a relative name without "..", empty parts or control characters, of 1000 bytes at the most',
  },
  partial: {
    exit: 4,
    meaning:
      'Some databases, backups or destinations failed, the others are done; what says of damage is never hidden by it.',
    remedy: 'the lines above say which failed and why',
  },
  'encryption-unsupported': {
    exit: 1,
    meaning: 'The data is encrypted in a form that pgark does not read, or that asks for unreasonable work.',
    remedy: 'decrypt it with the tool that wrote it, then restore the result',
  },
  'notification-failed': {
    exit: 1,
    meaning: 'A notification could not be delivered; the run that it tells of is not affected.',
    remedy: 'check the address, the token and the network of the channel named',
  },
  'listen-failed': {
    exit: 1,
    meaning: 'The address for health and metrics cannot be listened on.',
    remedy: 'end the program that listens there, or set another host:port (PGARK_LISTEN, server.listen)',
  },
  stalled: {
    exit: 1,
    meaning:
      'For a long time no byte came from pg_dump, or none was taken by a storage; the backup into it was given up.',
    remedy: 'check the network, the server and the storage named, then run the backup again',
  },
  'run-not-found': {
    exit: 10,
    meaning: 'No run has that id, or its log is not kept any more.',
    remedy: 'pgark runs shows what ran',
  },
  overdue: {
    exit: 22,
    meaning: 'The newest backup is older than its schedule or the age allowed lets it be.',
    remedy: 'make one now with pgark backup; the lines above say what is overdue and why',
  },
  'proof-failed': {
    exit: 20,
    meaning: 'The last verification or drill of a newest backup failed, and nothing has proven it since.',
    remedy: 'make a new backup now with pgark backup; pgark verify and pgark drill say what is wrong with this one',
  },
  'hook-failed': {
    exit: 1,
    meaning: 'A program that is configured to run before or after a backup or a restore failed, or took too long.',
    remedy: 'run the program by hand; with on_error: warn its failure stops nothing',
  },
  'archive-unsupported': {
    exit: 1,
    meaning: 'An archive of pg_dump is of a version or format that pgark does not read, or its contents are too long.',
    remedy: 'restore it with pg_restore of the version that wrote it',
  },
  'postgres-pooler': {
    exit: 1,
    meaning: 'The address is that of a connection pooler, which does not keep a session for one client.',
    remedy: 'use the host and port of the server itself: as a rule 5432, where the pooler has 6432 or 6543',
  },
  'wal-gap': {
    exit: 21,
    meaning: 'WAL between what is archived and what follows is missing, and the server does not have it any more.',
    remedy:
      'make a new base backup: no recovery goes through the gap, but every moment after that backup can be reached',
  },
  'wal-lag': {
    exit: 22,
    meaning: 'WAL that the server wrote a while ago is not archived.',
    remedy:
      'see that a receiver runs (pgark daemon, or pgark wal receive) and that its log names no storage that refuses; pgark wal status shows how far it is',
  },
  'wal-slot': {
    exit: 1,
    meaning: 'The replication slot makes the server keep more WAL than it may.',
    remedy:
      'see why WAL is not stored: the log of the receiver names the storage that refuses; wal.slot_budget says how much the slot may hold back',
  },
  'wal-slot-kept': {
    exit: 1,
    meaning: 'A replication slot that makes the server keep more WAL than it may could not be dropped.',
    remedy: 'it is tried again; if the disk of the server is about to fill, drop it by hand: pg_drop_replication_slot',
  },
  'wal-unknown': {
    exit: 10,
    meaning: 'The storage holds no WAL of the server that is asked for.',
    remedy: 'check the storage, its prefix and the source’s name; pgark wal status shows what is archived',
  },
  'wal-conflict': {
    exit: 1,
    meaning: 'The archive holds another content under the name of a WAL file; it was not replaced.',
    remedy:
      'two servers with the same system identifier write into one archive, such as a copy and its original, or one that was put back to an earlier state: give one of them a source name or a prefix of its own',
  },
  'drill-failed': {
    exit: 20,
    meaning:
      'A backup was restored to try it, and did not load, or is not what it should be: an assertion does not hold.',
    remedy: 'pgark logs shows the run; make a new backup now, and restore an older one to see since when it is so',
  },
  'drill-too-slow': {
    exit: 20,
    meaning: 'A backup was restored to try it, and that took longer than it may.',
    remedy: 'see whether the machine is as fast as the one you would restore on; then raise drill.max_restore_time',
  },
  'drill-impossible': {
    exit: 1,
    meaning:
      'A backup could not be tried here, which says nothing of the backup: something is missing on this machine, or the storage gave no WAL to a server that recovered.',
    remedy: 'install what the message names, or drill into a scratch server with --to-url',
  },
  'outside-window': {
    exit: 21,
    meaning:
      'What is archived does not reach to the moment that a recovery is to end at, or which timeline it lies on has to be said.',
    remedy: 'pgark timeline shows to which moments a server can be brought back',
  },
  'tablespace-path': {
    exit: 1,
    meaning:
      'A recovery would make a tablespace at the path that it had on the old server, which may still use what lies there.',
    remedy: 'begin with a base backup made behind it, or stop before it',
  },
  'recovery-failed': {
    exit: 20,
    meaning: 'A server that was started on a restored directory did not recover up to where it should.',
    remedy: 'the message carries the server’s own words; its log has all of them',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorTable;
