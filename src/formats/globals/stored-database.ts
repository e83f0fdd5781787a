import { sqlStatements } from './sql-statements.ts';
import { Words } from './words.ts';

export interface StoredSetting {
  readonly name: string;
  /** Several for a list of names. */
  readonly values: readonly string[];
}

/** What a database has besides its content. */
export interface StoredDatabase {
  readonly name: string;
  readonly settings: readonly (StoredSetting & { readonly role?: string | undefined })[];
  readonly comment?: string | undefined;
  /** All of it, each with what it gives in a person's words, without any value. */
  readonly statements: readonly { readonly what: string; readonly sql: string }[];
}

/** The statements of a block that does nothing where the database is not there. Undefined for any other text. */
export function readStoredDatabase(block: string): StoredDatabase | undefined {
  const [head, body, rest] = partsOf(block);
  const name = head === undefined ? undefined : namedIn(head);
  if (name === undefined || body === undefined || rest === undefined) return undefined;
  const settings: (StoredSetting & { role?: string })[] = [];
  const statements: { what: string; sql: string }[] = [];
  let comment: string | undefined;
  for (const tokens of sqlStatements(body)) {
    const sql = body.slice(tokens[0]?.start ?? 0, tokens.at(-1)?.end ?? 0);
    const words = new Words(tokens);
    const told = (what: string): void => void statements.push({ what, sql });
    if (words.take('ALTER', 'DATABASE')) {
      if (words.name() !== name) return undefined;
      if (words.take('OWNER', 'TO')) told('the owner');
      else if (words.take('CONNECTION', 'LIMIT')) told('the connection limit');
      else {
        const setting = readSetting(words);
        if (setting === undefined) return undefined;
        settings.push(setting);
        told(`the setting ${setting.name}`);
      }
    } else if (words.take('ALTER', 'ROLE')) {
      const role = words.name();
      const isHere = words.take('IN', 'DATABASE') && words.name() === name;
      const setting = isHere ? readSetting(words) : undefined;
      if (role === undefined || setting === undefined) return undefined;
      settings.push({ role, ...setting });
      told(`the setting ${setting.name} of role ${role}`);
    } else if (words.take('COMMENT', 'ON', 'DATABASE')) {
      if (words.name() !== name || !words.take('IS')) return undefined;
      comment = words.string();
      told('the comment');
    } else if (words.take('REVOKE', 'ALL', 'ON', 'DATABASE') && words.name() === name) told('the revoked rights');
    else if (words.take('GRANT')) {
      const privilege = words.name();
      if (!words.take('ON', 'DATABASE') || words.name() !== name || !words.take('TO')) return undefined;
      told(`the right ${privilege ?? ''} of ${words.name() ?? ''}`);
    } else return undefined;
  }
  return { name, settings, ...(comment === undefined ? {} : { comment }), statements };
}

/** `BEGIN IF EXISTS (…) THEN`, what stands between, and `END IF; END`. */
function partsOf(block: string): readonly string[] {
  const match = /^(\s*BEGIN\s+IF EXISTS \([^]*?\) THEN\n)([^]*)(\n\s*END IF;\s*END\s*)$/.exec(block);
  return match?.slice(1) ?? [];
}

function namedIn(head: string): string | undefined {
  const [tokens = []] = sqlStatements(`${head};`);
  const at = tokens.findIndex(({ value }) => value === 'datname');
  const name = tokens[at + 2];
  return name?.kind === 'string' ? name.value : undefined;
}

/** `SET name TO 'value', …`, to the end of the statement. */
export function readSetting(words: Words): StoredSetting | undefined {
  if (!words.take('SET')) return undefined;
  let name = words.name() ?? '';
  while (words.symbol('.')) name += `.${words.name() ?? ''}`;
  const values: string[] = [];
  if (name === '' || !words.take('TO')) return undefined;
  do {
    const value = words.string();
    if (value === undefined) return undefined;
    values.push(value);
  } while (words.symbol(','));
  return words.atEnd ? { name, values } : undefined;
}
