import { Client, type QueryResultRow } from 'pg';

/** A session on a server of the test's own. Where it breaks, its queries say so. */
export async function connectAt(port: number, database = 'postgres'): Promise<Client> {
  const client = new Client({ host: '127.0.0.1', port, user: 'postgres', password: 'unused', database });
  client.on('error', () => {});
  await client.connect();
  return client;
}

/** In a session for that alone. */
export async function sqlAt<Row extends QueryResultRow>(port: number, text: string, database?: string): Promise<Row[]> {
  const client = await connectAt(port, database);
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}
