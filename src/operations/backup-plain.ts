import { dumpPlain } from '../formats/plain/dump.ts';
import { compressionSuffix } from '../pipeline/compression.ts';
import type { DatabaseFacts } from '../postgres/client/preflight.ts';
import { checkPlainNameTemplate, plainName } from '../repository/plain-name.ts';
import type { Seal } from '../formats/sealed-object.ts';
import { checkForDump } from './backup-checks.ts';
import type { BackupFormat } from './backup-format.ts';
import type { BackupRequest } from './backup-request.ts';

/** SQL text of the whole database, in one object that the user's template names. */
export function plainFormat(
  request: Pick<BackupRequest, 'source' | 'connection' | 'seal' | 'nameTemplate' | 'excludeTableData'>,
): BackupFormat {
  const { source, seal, nameTemplate, excludeTableData } = request;
  return {
    name: 'plain',
    letter: 'p',
    sender: 'pg_dump',
    check: () => checkPlainNameTemplate(nameTemplate, { severalDatabases: false }),
    place(facts) {
      const endings = [compressionSuffix(seal.compression.algorithm), seal.sealer?.suffix ?? ''];
      const key = plainName(nameTemplate, { source, ...facts }, endings);
      return { key, keys: [key], prefixes: [] };
    },
    async prepare(run, context) {
      const preparation = await checkForDump(request.connection, run, context);
      const { pgDump, server, database, connection } = preparation;
      return {
        preparation,
        dump: async ({ name, ...work }) => ({
          recorded: {},
          last: {
            key: name.key,
            role: 'dump',
            seal,
            bytesEstimateMax: storedBytesMax(database, seal),
            isListed: true,
            filesAtOnce: 1,
            source: dumpPlain({ connection, pgDump, serverMajor: server.major, excludeTableData, ...work }),
          },
        }),
      };
    },
  };
}

/**
 * An upper estimate of the stored size, which decides the size of parts. Text of a database without its indexes is
 * rarely larger than the database itself; compressed columns may unfold, so uncompressed dumps get more room.
 */
function storedBytesMax(database: DatabaseFacts, seal: Seal): number {
  return database.bytes * (seal.compression.algorithm === 'none' ? 4 : 1);
}
