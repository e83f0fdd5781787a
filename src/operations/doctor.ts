import { formatBytes } from '../common/bytes.ts';
import { asPgarkError, type PgarkError } from '../common/errors.ts';
import { connect, type Session } from '../postgres/client/connect.ts';
import { type ConnectionParameters, describeConnection } from '../postgres/client/connection-parameters.ts';
import {
  checkReadPrivileges,
  readDatabaseFacts,
  readServerFacts,
  type ServerFacts,
} from '../postgres/client/preflight.ts';
import { describeForeign, readLanguage } from '../postgres/client/in-english.ts';
import { chooseProgram, findPrograms, knowsRestrict } from '../postgres/client/programs.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { examineReplication, whyNotIncremental } from './examine-replication.ts';
import { describeClock, describeConditionalWrites } from './storage-profile.ts';
import { withinStall } from './within-stall.ts';

/** One thing that was looked at: what was found, or what is wrong with it. */
export type Finding =
  | { readonly subject: string; readonly state: 'ok' | 'note'; readonly found: string }
  | { readonly subject: string; readonly state: 'failed'; readonly error: PgarkError };

/** What the jobs of a source do. */
export interface SourceNeeds {
  /** Dumps of databases. */
  readonly dumps: boolean;
  /** Physical backups. */
  readonly bases: boolean;
  /** Incremental ones among them. */
  readonly increments: boolean;
}

const DUMPS: SourceNeeds = { dumps: true, bases: false, increments: false };

/** Of these jobs; of none at all, dumps. */
export function needsOf(jobs: readonly { readonly format: string; readonly incremental: boolean }[]): SourceNeeds {
  const bases = jobs.filter(({ format }) => format === 'physical');
  return {
    dumps: jobs.length === 0 || bases.length < jobs.length,
    bases: bases.length > 0,
    increments: bases.some(({ incremental }) => incremental),
  };
}

/** Looks at a source as a backup and a restore will need it. Never rejects but for an interrupt. */
export async function examineSource(
  connection: ConnectionParameters,
  context: OperationContext,
  needs: SourceNeeds = DUMPS,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  // Found out while the connection is open, told after it.
  const privileges: Finding[] = [];
  const server = await look(findings, `connection ${describeConnection(connection)}`, context, async () => {
    const readFrom = async (session: Session): Promise<readonly [string, ServerFacts]> => {
      const facts = await readServerFacts(session);
      const database = await readDatabaseFacts(session, facts);
      if (needs.dumps)
        await look(privileges, `privileges of ${connection.user}`, context, async () => {
          await checkReadPrivileges(session);
          return ['may read every table, sequence and row', undefined];
        });
      if (needs.dumps) privileges.push(...(await examineLanguage(session)));
      const size = `database ${database.name}: ${formatBytes(database.bytes)}, ${database.encoding}`;
      return [`PostgreSQL ${facts.version}${facts.inRecovery ? ' (standby)' : ''}, ${size}`, facts];
    };
    return withinStall({ ...context, connection }, (signal) =>
      withSession(connect(connection, { applicationName: 'pgark doctor', signal }), signal, readFrom),
    );
  });
  findings.push(...privileges);
  if (server !== undefined && needs.dumps) await examinePrograms(server, findings, context);
  if (server !== undefined && needs.bases) await examineBases(connection, needs, findings, context);
  return findings;
}

/** pg_dump and pg_restore pass on nothing of a server but its words. */
async function examineLanguage(session: Session): Promise<readonly Finding[]> {
  const found = describeForeign(await readLanguage(session), session.parameters);
  return found === undefined ? [] : [{ subject: 'language of the server', state: 'note', found }];
}

async function examineBases(
  connection: ConnectionParameters,
  { increments }: SourceNeeds,
  findings: Finding[],
  context: OperationContext,
): Promise<void> {
  const facts = await look(findings, `replication as ${connection.user}`, context, async () => {
    const found = await withinStall({ ...context, connection }, (signal) => examineReplication(connection, signal));
    return ['physical backups can be made', found];
  });
  const why = facts && increments ? whyNotIncremental(facts) : undefined;
  if (why !== undefined) findings.push({ subject: 'incremental backups', state: 'note', found: why });
}

async function examinePrograms(server: ServerFacts, findings: Finding[], context: OperationContext): Promise<void> {
  await look(findings, 'pg_dump', context, async () => {
    const chosen = chooseProgram('pg_dump', await findPrograms('pg_dump'), server.major);
    return [`${chosen.version} at ${chosen.path}`, undefined];
  });
  await look(findings, 'psql', context, async () => {
    const chosen = chooseProgram('psql', await findPrograms('psql'), server.major);
    if (!knowsRestrict(chosen)) {
      findings.push({
        subject: 'psql',
        state: 'note',
        found: `${chosen.version} is older than the fix of CVE-2025-8714: pgark will not restore with it`,
      });
    }
    return [`${chosen.version} at ${chosen.path}`, undefined];
  });
}

/** Looks at a storage: reachable, writable, deletable where retention needs it, and what it can do. */
export async function examineStore(
  store: ObjectStore,
  needsDelete: boolean,
  context: OperationContext,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const profile = await look(findings, `storage ${store.location}`, context, async () => {
    const probed = await store.probe({ write: true, delete: needsDelete, signal: context.signal });
    return [
      `readable and writable${needsDelete ? ', deletable' : ''}; parts confirmed by ${probed.partChecksum}`,
      probed,
    ];
  });
  if (profile === undefined) return findings;
  const leases = describeConditionalWrites(profile);
  findings.push({ subject: leases.name, state: leases.state, found: leases.meaning });
  const { name: subject, state, meaning } = describeClock(profile);
  if (meaning !== undefined) findings.push({ subject, state, found: meaning });
  await look(findings, 'repository', context, async () => {
    const repository = new Repository(store, context);
    const exists = await repository.checkLayout({ signal: context.signal });
    const { manifests, damaged } = await repository.backups({}, { signal: context.signal });
    if (damaged[0]) throw damaged[0].error;
    const last = manifests.at(-1);
    if (!exists || last === undefined) return ['no backup yet', undefined];
    return [`backups: ${manifests.length}, the newest of ${last.startedAt}`, undefined];
  });
  return findings;
}

async function look<T>(
  findings: Finding[],
  subject: string,
  context: OperationContext,
  examine: () => Promise<readonly [string, T]>,
): Promise<T | undefined> {
  try {
    const [found, value] = await examine();
    findings.push({ subject, state: 'ok', found });
    return value;
  } catch (error) {
    context.signal.throwIfAborted();
    findings.push({ subject, state: 'failed', error: asPgarkError(error) });
    return undefined;
  }
}
