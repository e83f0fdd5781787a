import { nearest } from '../common/nearest.ts';
import { environmentNames } from './environment-names.ts';
import type { Environment } from './environment-reader.ts';
import { isForeignName } from './foreign-variables.ts';

/** What Docker and Kubernetes set for each service by its name: `PGARK_SERVICE_HOST`, `PGARK_PORT_8080_TCP_ADDR`. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(ADDR|PORT|PROTO))?)?)$/;

/**
 * A sentence on each variable that is set, begins as pgark's own names do, and is none: a mistyped one would leave the
 * default in force without a word. Names of other tools are not among them. `prefixes`: of those that are read at all.
 */
export function unknownVariables(env: Environment, prefixes: readonly ('BACKUP_' | 'PGARK_')[]): readonly string[] {
  const known = environmentNames.map(({ name }) => name);
  // What hooks are told has names of this kind, and a hook may call pgark.
  const isHook = (env['PGARK_HOOK'] ?? '') !== '';
  return Object.entries(env).flatMap(([variable, value]) => {
    const prefix = prefixes.find((each) => variable.startsWith(each));
    if (prefix === undefined || value === undefined || value === '' || (prefix === 'PGARK_' && isHook)) return [];
    const name = variable.replace(/_FILE$/, '');
    if ([variable, name].some((each) => known.includes(each) || isForeignName(each))) return [];
    if (SERVICE_LINK.test(variable)) return [];
    const near = nearName(name, prefix, known);
    const meant = near === undefined ? '' : `; did you mean ${near}${variable.slice(name.length)}?`;
    return [`${variable} is no setting of pgark and was ignored${meant}`];
  });
}

/** By what follows the prefix, which would make all names look alike. */
function nearName(name: string, prefix: string, known: readonly string[]): string | undefined {
  const ends = known.flatMap((each) => (each.startsWith(prefix) ? each.slice(prefix.length) : []));
  const [end] = nearest(name.slice(prefix.length), ends, 1);
  return end === undefined ? undefined : `${prefix}${end}`;
}
