import { expect, test } from 'vitest';
import { RequirementsReader } from './server-requirements.ts';

function namesIn(...lines: readonly string[]): Record<string, readonly string[]> {
  const reader = new RequirementsReader();
  for (const line of lines) reader.read(line);
  const { roles, extensions, tablespaces } = reader;
  return { roles: [...roles].sort(), extensions: [...extensions].sort(), tablespaces: [...tablespaces].sort() };
}

test('the roles of owners, grants, policies and default privileges are needed, and none that every server has', () => {
  const { roles } = namesIn(
    'ALTER TABLE public.orders OWNER TO "role ""Ü"" 1";',
    'GRANT SELECT ON TABLE public.orders TO reader;',
    'GRANT SELECT ON TABLE public."to be" TO granted WITH GRANT OPTION;',
    'REVOKE ALL ON SCHEMA public FROM PUBLIC;',
    'REVOKE ALL ON TABLE public.t FROM former;',
    'GRANT ALL ON TABLE public.t TO pg_monitor;',
    'ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA public GRANT SELECT ON TABLES  TO taker;',
    'CREATE POLICY p ON public.t FOR SELECT TO one, "two 2" USING (true);',
    'CREATE SCHEMA s AUTHORIZATION keeper;',
    'CREATE USER MAPPING FOR mapped SERVER s;',
    'CREATE USER MAPPING FOR public SERVER s;',
    `CREATE POLICY "a TO b" ON public."c TO d" AS RESTRICTIVE FOR UPDATE TO three USING ((note = 'give TO bob'::text));`,
    `CREATE POLICY p ON public.t USING ((note = 'give TO bob'::text));`,
    'a row\tOWNER TO nobody;',
  );
  expect(roles).toEqual(
    ['former', 'granted', 'keeper', 'maker', 'mapped', 'one', 'reader', 'role "Ü" 1', 'taker', 'three', 'two 2'].sort(),
  );
});

test('extensions and tablespaces are needed', () => {
  expect(
    namesIn(
      'CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA public;',
      'CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;',
      "SET default_tablespace = '';",
      'SET default_tablespace = fast;',
      'SET default_tablespace = "a b";',
    ),
  ).toMatchObject({ extensions: ['citext', 'uuid-ossp'], tablespaces: ['a b', 'fast'] });
});
