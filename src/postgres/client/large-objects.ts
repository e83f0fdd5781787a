import { PgarkError } from '../../common/errors.ts';
import type { Session } from './connect.ts';

/** From here on `pg_read_all_data` reads large objects too; before, each of them is granted by itself. */
const READ_ALL_DATA_MAJOR = 19;
const SHOWN_MAX = 5;

/**
 * Finds out whether the role may read every large object of the database, as pg_dump reads them all. By the catalogue
 * that all may read (`pg_largeobject_metadata`), rights counted as the server counts them: those of a membership that
 * inherits, and none of them if `lo_compat_privileges` is on. Not to be asked for superusers. Error: `postgres-privileges`.
 */
export async function checkLargeObjects(session: Session, role: string): Promise<void> {
  const [server] = await session.query<{ major: number; unchecked: boolean }>(
    `select current_setting('server_version_num')::int / 10000 as major,
            current_setting('lo_compat_privileges')::boolean as unchecked`,
  );
  if (server === undefined || server.unchecked) return;
  const readsAll = server.major >= READ_ALL_DATA_MAJOR ? `pg_has_role('pg_read_all_data', 'USAGE')` : 'false';
  // Many share few owners and lists of rights: each of these is looked at once, however many objects there are.
  const [found] = await session.query<{ number: string; oids: string }>(
    `select coalesce(sum(number), 0)::text as number, string_agg(first::text, ', ' order by first) as oids
       from (select lomowner, lomacl::text as acl, count(*) as number, min(oid::bigint) as first
               from pg_largeobject_metadata group by 1, 2) as alike
      where not ${readsAll}
        and not exists (select from aclexplode(coalesce(acl::aclitem[], acldefault('L', lomowner))) as rights
                         where rights.privilege_type = 'SELECT'
                           and case when rights.grantee = 0 then true else pg_has_role(rights.grantee, 'USAGE') end)`,
  );
  const number = Number(found?.number ?? 0);
  if (found === undefined || number === 0) return;
  const shown = found.oids.split(', ').slice(0, SHOWN_MAX);
  const [first] = shown;
  throw new PgarkError(
    'postgres-privileges',
    `role ${role} may not read ${number === 1 ? '1 large object' : `${number} large objects`}: ${shown.join(', ')}${number > shown.length ? ' and others' : ''}`,
    { hint: largeObjectHint(first ?? 'OID', role) },
  );
}

export function largeObjectHint(oid: string, role: string): string {
  return `GRANT SELECT ON LARGE OBJECT ${oid} TO ${role}, and so for each (docs/security.md has the SQL for all of them), or back up with a member of the role that owns them or a superuser; pg_read_all_data opens large objects only from PostgreSQL ${READ_ALL_DATA_MAJOR} on`;
}
