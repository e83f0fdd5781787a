/**
 * Makes a server read its configuration again, pg_hba.conf too. Resolves when new sessions go by it, and all others were
 * told. `ask` asks a query in a session of its own.
 */
export async function reload(ask: (sql: string) => Promise<readonly Record<string, unknown>[]>): Promise<void> {
  const readAt = async (): Promise<unknown> => (await ask('select pg_conf_load_time()::text as at'))[0]?.['at'];
  const before = await readAt();
  await ask('select pg_reload_conf()');
  // A new session is a child of the process that has read it and then told all others.
  while ((await readAt()) === before);
}
