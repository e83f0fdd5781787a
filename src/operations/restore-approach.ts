import { PgarkError } from '../common/errors.ts';
import type { LoadSource, PreparedLoad } from '../formats/load-source.ts';
import type { LeftOut } from '../formats/plain/left-out.ts';
import { findObject } from '../postgres/client/empty-database.ts';
import { findExtensionRows } from '../postgres/client/extension-rows.ts';
import { connect, type Session } from '../postgres/client/connect.ts';
import { actingRole, type ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { quoteIdentifier } from '../postgres/client/quote.ts';
import { readServerFacts, type ServerFacts } from '../postgres/client/preflight.ts';
import { connectForMaintenance, databaseExists, mayCreateDatabases } from '../postgres/client/target-database.ts';
import type { Run } from '../runs/run.ts';
import type { OperationContext } from './context.ts';
import { areOtherServers, describeServer } from './other-server.ts';
import { applicationNameOf } from './restore-sessions.ts';

/** Where a restore goes. None of them destroys anything that was not named. */
export type RestoreTarget =
  /** A database of that name on the server: a new one, or one that is there and empty (or may be emptied: `clean`). */
  | { readonly kind: 'database'; readonly connection: ConnectionParameters; readonly clean: boolean }
  /** The database itself: loaded beside it and put into its place in one step; the old one is kept under another name. */
  | {
      readonly kind: 'in-place';
      readonly connection: ConnectionParameters;
      readonly clean: boolean;
      readonly dropOld: boolean;
      /** A backup that was taken from another server may be put in place. Default: it is refused. */
      readonly fromOtherServer?: boolean;
    };

/** What to load, into what, and how. */
export interface LoadOrder {
  readonly source: LoadSource;
  readonly target: RestoreTarget;
  readonly leaveOut: LeftOut | undefined;
  /** Connections at once, for formats that are loaded by several. Default: one a processor, at most 8. */
  readonly jobs?: number | undefined;
  /** A folder where psql and pg_restore are looked for besides. */
  readonly clientDir?: string | undefined;
  /** Compare all rows with what was recorded, for a source that has evidence. */
  readonly verifyRows: boolean;
  readonly analyse: boolean;
  readonly planOnly: boolean;
  /** Nothing of the server is kept, and so it is of no matter what a load that failed leaves in it. Default: it stays. */
  readonly isServerThrownAway?: boolean;
  /**
   * Called when every check has passed and nothing has been changed yet. `isUndone`: whatever fails from then on is undone by the
   * server, or happens in a database that nobody has.
   */
  readonly beforeTouching: (isUndone: boolean) => Promise<void>;
  /** Called when all is loaded, of which the comparison took so many milliseconds. Default: nobody is told. */
  readonly onLoaded?: (comparedMs: number) => void;
}

/** What loads the dump, and into which server. */
interface Means {
  readonly prepared: PreparedLoad;
  readonly server: ServerFacts;
}

/** A database of its own, made for the load and renamed when it is whole. */
export interface BesideApproach extends Means {
  readonly kind: 'beside';
  readonly replaces: boolean;
  readonly maintenance: Session;
}

/** A database that is there: in one transaction, or, where the backup cannot, one that is empty, and empty again if it fails. */
export interface WithinApproach extends Means {
  readonly kind: 'within';
  readonly empties: boolean;
}

/** How the target will be filled, found out before anything is touched. */
export type Approach = BesideApproach | WithinApproach;

/**
 * Every check of the target and of what fills it, before anything of the backup is loaded and anything is made. Errors:
 * `client-missing`, `target-not-empty`, `postgres-…`, `restore-failed`.
 */
export async function chooseApproach(order: LoadOrder, run: Run, context: OperationContext): Promise<Approach> {
  const { target } = order;
  const { connection } = target;
  const options = { applicationName: applicationNameOf(run), signal: context.signal };
  const maintenance = await connectForMaintenance(connection, options);
  let keep = false;
  let means: Means;
  try {
    const server = await readServerFacts(maintenance);
    means = { prepared: await order.source.prepare(server.major, order.clientDir), server };
    const exists = await databaseExists(maintenance, connection.database);
    const mayCreate = await mayCreateDatabases(maintenance);
    if (!exists && !mayCreate) {
      throw new PgarkError(
        'postgres-privileges',
        `database "${connection.database}" does not exist, and role ${actingRole(connection)} may not create it`,
        {
          hint: `ALTER ROLE ${quoteIdentifier(actingRole(connection))} CREATEDB, or create the database, empty, with a role that may; then restore again`,
        },
      );
    }
    if (!exists || (target.kind === 'in-place' && mayCreate && !target.clean)) {
      keep = true;
      return { kind: 'beside', replaces: exists, maintenance, ...means };
    }
    if (target.kind === 'in-place' && !target.clean) {
      throw new PgarkError(
        'postgres-privileges',
        `role ${actingRole(connection)} may not create databases, so nothing can be loaded beside "${connection.database}" and take its place`,
        {
          hint: 'restore with a role that has CREATEDB; or say --clean as well, to drop the content of the database and load the backup in one transaction',
        },
      );
    }
  } finally {
    if (!keep) await maintenance.close();
  }
  const session = await connect(connection, options);
  try {
    const object = await findObject(session);
    const rows = object === undefined ? await findExtensionRows(session) : undefined;
    if (object === undefined && rows === undefined) return { kind: 'within', empties: false, ...means };
    if (target.clean) {
      refuseCleanArchive(order);
      return { kind: 'within', empties: true, ...means };
    }
    const what =
      rows === undefined
        ? `it has ${object ?? ''}`
        : `${rows.relation}, a table of extension ${rows.extension}, holds rows`;
    throw new PgarkError(
      'target-not-empty',
      `database "${connection.database}" on ${connection.host} is not empty: ${what}`,
      {
        hint: 'restore into a new one with --to-db NAME, replace the configured one with --in-place --yes NAME, or drop what this one holds with --clean',
      },
    );
  } finally {
    await session.close();
  }
}

/** What empties a database is SQL that runs in the transaction of the load; pg_restore takes no SQL. */
function refuseCleanArchive({ source }: LoadOrder): void {
  if (source.oneTransaction === 'sql-and-load') return;
  throw new PgarkError(
    'restore-failed',
    `${source.name} is an archive of pg_dump, which cannot be combined with --clean`,
    { hint: 'restore it into a new database with --to-db NAME' },
  );
}

/** Of which server the backup is and which it would go to, if these are known to be two. */
function otherServers({ source, target }: LoadOrder, { server }: Approach): { from: string; to: string } | undefined {
  if (source.server === undefined || !areOtherServers(source.server, server)) return undefined;
  const { host, port } = target.connection;
  return {
    from: describeServer(source.server),
    to: describeServer({ host, port, systemIdentifier: server.systemIdentifier }),
  };
}

function needsConfirmation(target: RestoreTarget): boolean {
  return target.kind === 'in-place' && target.fromOtherServer !== true;
}

/**
 * Two servers that share a name share a history: what is the latest there may be the other's. Nobody puts it in place
 * without having been told. Error: `confirmation-needed`.
 */
export function confirmServer(order: LoadOrder, approach: Approach): void {
  const { source, target } = order;
  const others = otherServers(order, approach);
  if (others === undefined || !needsConfirmation(target)) return;
  throw new PgarkError(
    'confirmation-needed',
    `${source.name} is of another server, ${others.from}, and would take the place of "${target.connection.database}" on ${others.to}`,
    {
      hint: 'pgark list shows of which server each backup is; if this is the one, because the server was upgraded, moved or made anew, repeat it with --from-other-server',
    },
  );
}

/** What would be done, a line for each step. */
export function describePlan(order: LoadOrder, approach: Approach, keepAs: string): string[] {
  const others = otherServers(order, approach);
  if (others === undefined) return describeSteps(order, approach, keepAs);
  const wanted = needsConfirmation(order.target) ? ' (wants --from-other-server)' : '';
  return [
    `take ${order.source.name}, a backup of ${others.from}, to another server, ${others.to}${wanted}`,
    ...describeSteps(order, approach, keepAs),
  ];
}

function describeSteps(order: LoadOrder, approach: Approach, keepAs: string): string[] {
  const { source, target } = order;
  const { database } = target.connection;
  const comparison = order.verifyRows ? ['read all rows once more and compare them with what is recorded'] : [];
  const where = `on ${target.connection.host}:${target.connection.port}`;
  if (approach.kind === 'within') {
    return [
      ...(approach.empties
        ? [
            `drop everything that database "${database}" ${where} holds (extensions stay), in one transaction with the load`,
          ]
        : []),
      source.oneTransaction === 'none'
        ? `load ${source.name} into database "${database}" ${where} on several connections; if that fails, drop all of it again`
        : `load ${source.name} into database "${database}" ${where} in one transaction`,
      ...comparison,
    ];
  }
  return [
    `create a database beside it ${where} and load ${source.name} into it`,
    ...comparison,
    ...(approach.replaces
      ? [
          `give it the owner, grants and settings of "${database}"`,
          `end the sessions that use "${database}" and rename both in one transaction: the old one becomes "${keepAs}"`,
          ...(target.kind === 'in-place' && target.dropOld ? [`drop "${keepAs}"`] : []),
        ]
      : [`rename it to "${database}"`]),
  ];
}
