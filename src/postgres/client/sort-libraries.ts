import type { Session } from './connect.ts';

/** By which libraries a server sorts text: `glibc 2.36`, `musl`, `glibc` alone where its version is not told; ICU’s own number. */
export interface SortLibraries {
  readonly libc?: string;
  readonly icu?: string;
}

export type SortLibrariesRow = {
  /** It names the library that the server was built for. */
  readonly build: string;
  readonly libc: string | null;
  readonly icu: string | null;
};

/** A collation of each library tells its version. One that the library does not know any more is no hindrance. */
export async function readSortLibraries(session: Session): Promise<SortLibraries> {
  const [row] = await session
    .query<SortLibrariesRow>(
      `select version() as build,
         (select pg_collation_actual_version(oid) from pg_collation
           where collprovider = 'c' and collcollate !~ '^(C$|C[.]|POSIX)' limit 1) as libc,
         (select pg_collation_actual_version(oid) from pg_collation where collprovider = 'i' limit 1) as icu`,
    )
    .catch(() => []);
  return row === undefined ? {} : sortLibrariesOf(row);
}

export function sortLibrariesOf({ build, libc, icu }: SortLibrariesRow): SortLibraries {
  const kind = /-linux-musl\b/.test(build) ? 'musl' : /-linux-gnu/.test(build) ? 'glibc' : undefined;
  return {
    ...(kind === undefined ? {} : { libc: kind === 'glibc' && libc !== null ? `glibc ${libc}` : kind }),
    ...(icu === null ? {} : { icu }),
  };
}

/** What programs of this machine sort by, as far as this one knows: it is linked to the same library. */
export function libcHere(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  // Else it looks up names of hosts.
  Object.assign(process.report, { excludeNetwork: true });
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined ? 'musl' : `glibc ${header.glibcVersionRuntime}`;
}

/** Whether text that one has sorted is not sorted for the other. Where too little is known, nothing is said. */
export function sortsOtherwise(recorded: string | undefined, here: string | undefined): boolean {
  const [kind, version] = recorded?.split(' ') ?? [];
  const [kindHere, versionHere] = here?.split(' ') ?? [];
  if (kind === undefined || kindHere === undefined) return false;
  if (kind !== kindHere) return true;
  return version !== undefined && versionHere !== undefined && version !== versionHere;
}
