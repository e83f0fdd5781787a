import { markdownTable, replacePart } from '../support/generated-part.ts';
import { type ArchiveFact, type Fact, type JourneyFact, majorOf, type PairFact } from './facts.ts';

/** Databases of the matrix of archives, as its columns. */
const DATABASES = ['rich', 'sample', 'many tables', 'large objects', 'regression'] as const;
/** The sample database needs this server. */
const SAMPLE_SINCE = 14;

/** The page with its tables made anew of the facts. */
export function compatibilityPage(page: string, versions: readonly Fact[], archives: readonly Fact[]): string {
  const pairs = versions.filter((fact) => fact.kind === 'pair');
  const journeys = versions.filter((fact) => fact.kind === 'journey');
  const inArchives = archives.filter((fact) => fact.kind === 'archive');
  const parts = {
    'compatibility of servers': `${versionsOf(versions)}\n\n${pairTable(pairs)}`,
    'compatibility across servers': journeyTable(journeys),
    'compatibility of archives': `${archiveTable(inArchives)}\n\n${versionsOf(inArchives)}`,
  };
  return Object.entries(parts).reduce((document, [part, text]) => replacePart(document, part, text), page);
}

const CELLS = { yes: 'yes', warned: 'warned', refused: 'refused', no: '**no**' } as const;

function cellOf(fact: Fact | undefined): string {
  return fact === undefined ? '' : CELLS[fact.outcome];
}

/** Each once, in order. */
function distinct(versions: readonly string[]): readonly string[] {
  const [major, minor] = [majorOf, (version: string) => Number(version.split('.')[1] ?? 0)];
  return [...new Set(versions)].sort((a, b) => major(a) - major(b) || minor(a) - minor(b));
}

function majors(versions: readonly string[]): readonly number[] {
  return [...new Set(distinct(versions).map(majorOf))];
}

function versionsOf(facts: readonly Fact[]): string {
  const [servers, clients] = [
    facts.flatMap((fact) => (fact.kind === 'journey' ? [fact.server, fact.target] : [fact.server])),
    facts.map(({ client }) => client),
  ].map((all) => distinct(all).join(', '));
  return `Servers: ${servers}; clients: ${clients}.`;
}

function pairTable(facts: readonly PairFact[]): string {
  const clients = majors(facts.map(({ client }) => client));
  const rows = majors(facts.map(({ server }) => server)).map((server) => [
    String(server),
    ...clients.map((client) => {
      const found = facts.find((fact) => majorOf(fact.server) === server && majorOf(fact.client) === client);
      return `${cellOf(found)}${found?.outcome === 'yes' && client < 14 ? ' ¹' : ''}`;
    }),
  ]);
  return markdownTable(['Server', ...clients.map((client) => `Client ${client}`)], rows);
}

function journeyTable(facts: readonly JourneyFact[]): string {
  const all = majors(facts.flatMap(({ server, target }) => [server, target]));
  const rows = all.flatMap((from) => {
    const ofServer = facts.filter(({ server }) => majorOf(server) === from);
    const clients = majors(ofServer.map(({ client }) => client));
    if (clients.length === 0) return [];
    const cells = all.map((to) => {
      if (to === from) return '=';
      const into = ofServer.filter(({ target }) => majorOf(target) === to);
      return [...new Set(into.map(cellOf))].join(', ');
    });
    return [[`${from} (by ${clients.join(', ')})`, ...cells]];
  });
  return markdownTable(['Backup of →', ...all.map((to, index) => (index === 0 ? `into ${to}` : String(to)))], rows);
}

function archiveTable(facts: readonly ArchiveFact[]): string {
  const rows = majors(facts.map(({ server }) => server)).flatMap((server) => {
    const ofServer = facts.filter((fact) => majorOf(fact.server) === server);
    return majors(ofServer.map(({ client }) => client)).map((client) => {
      const ofClient = ofServer.filter((fact) => majorOf(fact.client) === client);
      const cells = DATABASES.map((database) => {
        if (database === 'sample' && server < SAMPLE_SINCE) return '³';
        return cellOf(ofClient.find((fact) => fact.database === database));
      });
      return [String(server), `${client}${client > server ? ' ²' : ''}`, ...cells];
    });
  });
  return markdownTable(['Server', 'Client', ...DATABASES], rows);
}
