import type { ProgramSpec } from '../../common/child-process.ts';
import { type ConnectionParameters, libpqEnvironment } from './connection-parameters.ts';
import { type LastServerError, withoutData } from './without-data.ts';

/**
 * What every program has that talks to a server: where to connect, and who sees to it that it tells no rows. `error` is told what psql
 * with VERBOSITY verbose says of errors.
 */
export function clientProgram(
  connection: ConnectionParameters,
  applicationName: string,
  error?: LastServerError,
): Pick<ProgramSpec, 'env' | 'stderrFilter'> {
  return { env: libpqEnvironment(connection, applicationName), stderrFilter: () => withoutData(error) };
}
