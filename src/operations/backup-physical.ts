import { KIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { type BaseFile, dumpBase, type EarlierBase } from '../formats/physical/base-dump.ts';
import { streamWal } from '../formats/physical/stream-wal.ts';
import { connect } from '../postgres/client/connect.ts';
import { readDatabaseFacts, readServerFacts } from '../postgres/client/preflight.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { type IncrementalFacts, readIncrementalFacts } from '../postgres/replication/incremental-facts.ts';
import {
  checkReplicationLogin,
  checkReplicationSettings,
  checkSameServer,
  checkTablespaces,
} from '../postgres/replication/preflight.ts';
import { keys } from '../repository/keys.ts';
import { pgarkVersion } from '../version.ts';
import type { BackupFile, BackupFormat } from './backup-format.ts';
import type { BackupRequest } from './backup-request.ts';
import { confirmChain, confirmSameLog, findIncrementalBase, type IncrementalBase } from './incremental-base.ts';

/** What the server takes for a rate, in kilobytes in a second. */
const RATE_KILOBYTES = { min: 32, max: 1_048_576 } as const;

/** The files of the whole server, as a base backup over the replication protocol, and the WAL that they need. */
export function physicalFormat(
  request: Pick<
    BackupRequest,
    | 'source'
    | 'connection'
    | 'destinations'
    | 'seal'
    | 'excludeTableData'
    | 'checkpoint'
    | 'rateBytesPerSecondMax'
    | 'incremental'
  >,
): BackupFormat {
  const { source, connection, seal, checkpoint = 'fast' } = request;
  let base: IncrementalBase | undefined;
  return {
    name: 'physical',
    get letter() {
      return base === undefined ? 'f' : 'i';
    },
    sender: 'the server',
    check: () => checkRequest(request),
    place({ id }) {
      const folder = keys.basePrefix(source, id);
      return { key: folder, keys: [], prefixes: [folder] };
    },
    async prepare(run, context) {
      const { signal } = context;
      const applicationName = `pgark check ${run.id}`;
      const opening = connect(connection, { applicationName, signal });
      const { server, database, facts } = await withSession(opening, signal, async (session) => {
        const found = await readServerFacts(session);
        await checkReplicationSettings(session);
        await checkTablespaces(session, found);
        return {
          server: found,
          database: await readDatabaseFacts(session, found),
          facts: await readIncrementalFacts(session),
        };
      });
      const identity = await checkReplicationLogin(connection, { applicationName, signal });
      const { systemIdentifier } = identity;
      checkSameServer(server, systemIdentifier);
      if (request.incremental !== undefined) {
        const search = {
          request: request.incremental,
          source,
          database: database.name,
          connection,
          stores: request.destinations.map(({ store }) => store),
          server: { ...facts, ...identity, major: server.major },
          applicationName,
          logger: run.logger,
        };
        base = await findIncrementalBase(search, context);
      }
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
            digestsInThread: true,
          });
          const relativeTo = base && earlierBase(base, facts, { connection, applicationName });
          // A storage may have come back since the search.
          const confirm = async (): Promise<void> => {
            const { manifest } = base ?? {};
            if (manifest !== undefined) await sink.each((store, stop) => confirmChain(store, manifest, stop));
          };
          await confirm();
          const { last, facts: recorded } = await dumpBase(
            {
              connection,
              relativeTo,
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
          // Nobody has deleted it meanwhile either.
          await confirm();
          const parents = base && [base.manifest.id, ...base.manifest.parents];
          return { last: inFolder(last), recorded: { ...recorded, ...(parents && { parents }) } };
        },
      };
    },
  };
}

function earlierBase(
  base: IncrementalBase,
  { blockBytes }: IncrementalFacts,
  server: Parameters<typeof confirmSameLog>[1],
): EarlierBase {
  const { objects } = base;
  return {
    readManifest: (signal) => objects.read(objects.named('backup_manifest'), { signal }),
    confirm: (signal) => confirmSameLog(base, server, signal),
    blockBytes,
  };
}

/** Error: `config-invalid`. */
function checkRequest(request: Pick<BackupRequest, 'excludeTableData' | 'rateBytesPerSecondMax'>): void {
  const { excludeTableData } = request;
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
