import { KIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { type BaseFile, dumpBase } from '../formats/physical/base-dump.ts';
import { streamWal } from '../formats/physical/stream-wal.ts';
import { PASSPHRASE_FINGERPRINT } from '../pipeline/encryption/sealer.ts';
import { connect } from '../postgres/client/connect.ts';
import { readDatabaseFacts, readServerFacts, type ServerFacts } from '../postgres/client/preflight.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { checkReplicationLogin, checkReplicationSettings } from '../postgres/replication/preflight.ts';
import { keys } from '../repository/keys.ts';
import { pgarkVersion } from '../version.ts';
import type { BackupFile, BackupFormat } from './backup-format.ts';
import type { BackupRequest } from './backup-request.ts';

/** What the server takes for a rate, in kilobytes in a second. */
const RATE_KILOBYTES = { min: 32, max: 1_048_576 } as const;

/** The files of the whole server, as a base backup over the replication protocol, and the WAL that they need. */
export function physicalFormat(
  request: Pick<
    BackupRequest,
    'source' | 'connection' | 'seal' | 'excludeTableData' | 'checkpoint' | 'rateBytesPerSecondMax'
  >,
): BackupFormat {
  const { source, connection, seal, checkpoint = 'fast' } = request;
  return {
    name: 'physical',
    letter: 'f',
    sender: 'the server',
    check: () => checkRequest(request),
    place({ id }) {
      const folder = keys.basePrefix(source, id);
      return { key: folder, keys: [], prefixes: [folder] };
    },
    async prepare(run, { signal }) {
      const applicationName = `pgark check ${run.id}`;
      const opening = connect(connection, { applicationName, signal });
      const { server, database } = await withSession(opening, signal, async (session) => {
        const facts = await readServerFacts(session);
        await checkReplicationSettings(session);
        return { server: facts, database: await readDatabaseFacts(session, facts) };
      });
      const systemIdentifier = await checkReplicationLogin(connection, { applicationName, signal });
      refuseOtherServer(server, systemIdentifier);
      return {
        preparation: {
          server: { ...server, systemIdentifier },
          database,
          properties: undefined,
          client: { program: 'pgark', version: pgarkVersion },
        },
        async dump({ name, ...work }, sink) {
          const inFolder = (file: BaseFile): BackupFile => ({
            ...file,
            key: `${name.key}${file.name}`,
            isListed: true,
            filesAtOnce: 1,
          });
          const { last, facts } = await dumpBase(
            {
              connection,
              label: `pgark ${name.id}`,
              checkpoint,
              rateKilobytesMax: rateOf(request),
              seal,
              openWal: streamWal({
                source,
                connection,
                sealer: seal.sealer,
                slot: `pgark_${run.id.toLowerCase()}`,
                inRecovery: server.inRecovery,
                archive: sink,
                logger: work.logger,
              }),
              ...work,
            },
            { put: (file) => sink.put(inFolder(file)) },
          );
          return { last: inFolder(last), recorded: facts };
        },
      };
    },
  };
}

/** Errors: `config-conflict`, `config-invalid`. */
function checkRequest(request: Pick<BackupRequest, 'seal' | 'excludeTableData' | 'rateBytesPerSecondMax'>): void {
  const { seal, excludeTableData } = request;
  if (seal.sealer?.record.keyFingerprints.includes(PASSPHRASE_FINGERPRINT) === true) {
    throw new PgarkError(
      'config-conflict',
      'a physical backup goes with many files of write-ahead log, and age asks for the passphrase, and a second of work, for each of them',
      { hint: 'use keys of age (pgark key generate), encryption openssl, or format plain' },
    );
  }
  if (excludeTableData.length > 0) {
    throw new PgarkError(
      'config-invalid',
      'exclude_table_data leaves nothing out of a physical backup, which is of whole files',
      {
        hint: 'take it out of this job; format directory can leave rows out',
      },
    );
  }
  rateOf(request);
}

/** Error: `config-invalid` for a rate that the server does not take. */
function rateOf({ rateBytesPerSecondMax }: Pick<BackupRequest, 'rateBytesPerSecondMax'>): number | undefined {
  if (rateBytesPerSecondMax === undefined) return undefined;
  const kilobytes = Math.floor(rateBytesPerSecondMax / KIB);
  if (kilobytes >= RATE_KILOBYTES.min && kilobytes <= RATE_KILOBYTES.max) return kilobytes;
  throw new PgarkError('config-invalid', `max_rate is out of what the server takes: from 32KiB/s to 1GiB/s`);
}

/** Error: `postgres-pooler` where two connections have led to two servers. */
function refuseOtherServer({ systemIdentifier: known }: ServerFacts, systemIdentifier: string): void {
  if (known === undefined || known === systemIdentifier) return;
  throw new PgarkError(
    'postgres-pooler',
    `the address leads to system ${known} for SQL and to system ${systemIdentifier} for replication`,
    { hint: 'use the host and port of one server itself: whatever is in between chooses among several' },
  );
}
