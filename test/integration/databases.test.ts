import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import type { LogFields } from '../../src/common/log.ts';
import { silentLogger } from '../../src/common/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { SourceConfig } from '../../src/config/model.ts';
import type { OperationContext } from '../../src/operations/context.ts';
import { resolveDatabases } from '../../src/service/databases.ts';
import { urlOf } from '../support/backups.ts';
import { createDatabase, createRole, type Login, runAsSuperuser } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

interface Warning {
  readonly event: string;
  readonly fields: LogFields | undefined;
}

/** A context whose warnings are kept. */
function listening(): Pick<OperationContext, 'clock' | 'logger' | 'signal'> & { readonly warnings: Warning[] } {
  const warnings: Warning[] = [];
  const logger = {
    ...silentLogger,
    warning: (event: string, _: string, fields?: LogFields) => void warnings.push({ event, fields }),
  };
  return { clock: systemClock, logger, signal: new AbortController().signal, warnings };
}

/** The source of a configuration file with these patterns. */
async function sourceOf(
  patterns: readonly string[] | undefined,
  options: { readonly url?: string; readonly filename?: string } = {},
): Promise<SourceConfig> {
  await using directory = await makeTempDirectory();
  const job = options.filename === undefined ? {} : { filename: options.filename };
  const text = JSON.stringify({
    version: 1,
    storages: { local: { type: 'file', path: directory.path } },
    databases: {
      main: { url: options.url ?? urlOf('postgres'), ...(patterns && { databases: patterns }), jobs: { nightly: job } },
    },
  });
  const file = directory.join('pgark.yaml');
  await writeFile(file, text);
  const config = await loadConfig({ file, env: {}, cwd: directory.path, needs: ['database'] });
  const source = config.databases.get('main');
  if (source === undefined) throw new Error('the configuration has no source');
  return source;
}

/** The prefix that the databases of one test share, as a pattern and as a name. */
function ownPrefix(): string {
  return `many ${randomBytes(4).toString('hex')}`;
}

async function names(source: SourceConfig): Promise<string[]> {
  const found = await resolveDatabases(source, listening());
  return found.map(({ name }) => name);
}

describe('the databases of a source', () => {
  test('without patterns are the one of its connection, and the server is not asked', async () => {
    const source = await sourceOf(undefined, { url: urlOf('only this', { port: 1 }) });
    expect(await names(source)).toEqual(['only this']);
  });

  test('are found anew at each run, with names of every kind, each with its own connection', async () => {
    const prefix = ownPrefix();
    const source = await sourceOf([`${prefix}*`, '!*left out*']);
    await using first = await createDatabase({ name: `${prefix} we"ird/na me-Ü'\\%` });
    await using leftOut = await createDatabase({ name: `${prefix} left out` });
    const found = await resolveDatabases(source, listening());
    expect(found).toEqual([{ name: first.name, connection: { ...source.connection, database: first.name } }]);
    await using second = await createDatabase({ name: `${prefix} second` });
    expect(await names(source)).toEqual([first.name, second.name].sort());
    expect(leftOut.name).toContain('left out');
  });

  test('are neither templates nor closed to connections, unless a name says so', async () => {
    const prefix = ownPrefix();
    await using plain = await createDatabase({ name: prefix });
    await using template = await createDatabase({ name: prefix, createOptions: 'IS_TEMPLATE true' });
    await using closed = await createDatabase({ name: prefix, createOptions: 'ALLOW_CONNECTIONS false' });
    expect(await names(await sourceOf([`${prefix}*`]))).toEqual([plain.name]);
    expect(await names(await sourceOf([template.name, closed.name]))).toEqual([template.name, closed.name].sort());
    await runAsSuperuser(`ALTER DATABASE ${escapeIdentifier(template.name)} IS_TEMPLATE false`);
  });

  test('that the role may not connect to are named in a warning', async () => {
    const prefix = ownPrefix();
    await using role = await createRole();
    await using open = await createDatabase({ name: prefix });
    await using closed = await createDatabase({ name: prefix });
    await runAsSuperuser(`REVOKE CONNECT ON DATABASE ${escapeIdentifier(closed.name)} FROM PUBLIC`);
    const context = listening();
    const source = await sourceOf([`${prefix}*`], { url: urlOf('postgres', role) });
    const found = await resolveDatabases(source, context);
    expect(found.map(({ name }) => name)).toEqual([open.name]);
    expect(context.warnings).toEqual([
      { event: 'databases.not_permitted', fields: { source: 'main', databases: [closed.name] } },
    ]);
    const none = sourceOf([closed.name.replaceAll(' ', '?')], { url: urlOf('postgres', role) });
    await expect(none.then((each) => resolveDatabases(each, listening()))).rejects.toMatchObject({
      code: 'postgres-privileges',
      message: expect.stringContaining('may connect to none'),
    });
  });

  test('are listed through another database where the own one is missing or closed to the role', async () => {
    const prefix = ownPrefix();
    await using database = await createDatabase({ name: prefix });
    await using role: Login & AsyncDisposable = await createRole();
    await using closed = await createDatabase({ name: 'closed' });
    await runAsSuperuser(`REVOKE CONNECT ON DATABASE ${escapeIdentifier(closed.name)} FROM PUBLIC`);
    for (const url of [urlOf('is not there', role), urlOf(closed.name, role)]) {
      expect(await names(await sourceOf([`${prefix}*`], { url }))).toEqual([database.name]);
    }
  });

  test('that match nothing are an error that says what there is; a wildcard beside others is a warning', async () => {
    const prefix = ownPrefix();
    await using database = await createDatabase({ name: prefix });
    const source = await sourceOf([`${prefix.toUpperCase()}*`]);
    await expect(resolveDatabases(source, listening())).rejects.toMatchObject({
      code: 'postgres-database-missing',
      message: expect.stringContaining(`matches "${prefix.toUpperCase()}*"`),
      hint: expect.stringContaining('"postgres"'),
    });
    const context = listening();
    expect(await resolveDatabases(await sourceOf([`${prefix}*`, 'no such*']), context)).toHaveLength(1);
    expect(context.warnings).toEqual([
      { event: 'databases.unmatched', fields: { source: 'main', pattern: 'no such*' } },
    ]);
    expect(database.name).toContain(prefix);
  });

  test('need {database} in the name of their backups as soon as they may be several', async () => {
    const filename = '{source}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz';
    const source = await sourceOf(['*'], { filename, url: urlOf('postgres', { port: 1 }) });
    await expect(resolveDatabases(source, listening())).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('no {database}'),
    });
    const single = await sourceOf(['postgres'], { filename });
    expect(await names(single)).toEqual(['postgres']);
  });
});
