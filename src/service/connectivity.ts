import { examineSource, examineStore, type Finding, needsOf } from '../operations/doctor.ts';
import { asPgarkError } from '../common/errors.ts';
import type { Generation } from './generation.ts';
import { Slots } from './slots.ts';

/** Servers and storages that are tried at once. */
const TRIES_MAX = 4;

/**
 * Tries every server and storage of a configuration and logs what is found, so that a mistake shows at the start and not
 * at the first run. Changes nothing and never rejects: what cannot be reached now may be there when it is needed.
 */
export async function logConnectivity(generation: Generation): Promise<void> {
  const { config, context, stores, jobs } = generation;
  const slots = new Slots(TRIES_MAX);
  const look = async (name: string, examine: () => Promise<readonly Finding[]>): Promise<void> => {
    try {
      for (const finding of await slots.within(context.signal, examine)) logFinding(generation, name, finding);
    } catch (error) {
      if (context.signal.aborted) return;
      logFinding(generation, name, { subject: name, state: 'failed', error: asPgarkError(error) });
    }
  };
  const needsDelete = (storage: string): boolean =>
    jobs.some(({ settings, storages }) => settings.retention && storages.some(({ name }) => name === storage));
  await generation.use(() =>
    Promise.all([
      ...[...config.databases.values()].map(({ name, connection, jobs: own }) =>
        look(name, () => examineSource(connection, context, needsOf([...own.values()]))),
      ),
      ...[...config.storages.values()].map((storage) =>
        look(storage.name, async () => examineStore(await stores.open(storage), needsDelete(storage.name), context)),
      ),
    ]),
  );
}

function logFinding({ logger }: Generation, name: string, finding: Finding): void {
  const { subject } = finding;
  if (finding.state === 'failed') {
    const { message, hint, code } = finding.error;
    logger.error('connectivity.failed', `${name}: ${subject}: ${message}; ${hint}`, { name, subject, code, hint });
  } else {
    const { found, state } = finding;
    if (state === 'note') logger.warning('connectivity.note', `${name}: ${subject}: ${found}`, { name, subject });
    else logger.info('connectivity.ok', `${name}: ${subject}: ${found}`, { name, subject });
  }
}
