import type { Contender } from './contender.ts';
import type { Place } from './place.ts';
import type { Target } from './targets.ts';

/** What is measured side by side in one run. */
export interface Suite {
  /** As the command line and the marks in the document have it. */
  readonly name: string;
  /** Further lines of the server's postgresql.conf. */
  readonly serverSettings: Readonly<Record<string, string>>;
  /** What figures for each second and each GiB count. */
  readonly measured: 'sql' | 'database';
  /** Makes what all contenders need, once. */
  readonly prepare?: (place: Place) => Promise<void>;
  /** In the order in which they run. `run` is a name of their own for what one round leaves behind. */
  readonly contenders: (place: Place, run: string) => readonly Contender[];
  readonly targets: readonly Target[];
}
