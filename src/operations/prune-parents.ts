import type { Logger } from '../common/log.ts';
import { isIncrementalId, kindOfId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import type { RetentionPlan } from '../retention/plan.ts';
import type { CallOptions } from '../storage/object-store.ts';
import { physicalUnderWay } from './under-way.ts';

/**
 * A plan knows nothing of the incremental backups that are begun after it, and to remove what it names takes long. So each
 * physical backup is looked at again right before it goes. The first one of a source that an incremental backup may need
 * keeps those that follow too: among them are its own parents.
 *
 * An incremental backup writes its intent, then confirms that its chain is there, and confirms it again at its end. Looked for
 * are intents first, then manifests: one that ends in between is in one of the two.
 */
export class ParentGuard {
  readonly #repository: Repository;
  readonly #planned: ReadonlySet<string>;
  readonly #logger: Logger;
  readonly #kept = new Set<string>();

  constructor(repository: Repository, { keep, remove }: RetentionPlan, logger: Logger) {
    this.#repository = repository;
    this.#planned = new Set([...keep, ...remove].map(({ id }) => id));
    this.#logger = logger;
  }

  /** Whether nobody needs it; says so otherwise, once of each source. Error: `repository-damaged` for a new manifest. */
  async mayGo(manifest: Manifest, options: CallOptions): Promise<boolean> {
    const { id, source } = manifest;
    if (kindOfId(id) !== 'physical') return true;
    if (this.#kept.has(source)) return false;
    const child = await this.#childOf(manifest, options);
    if (child === undefined) return true;
    this.#kept.add(source);
    this.#logger.warning(
      'prune.parents_kept',
      `no more physical backups of ${source} are removed, from ${id} on, until the next prune: the incremental backup ${child}, which was not there yet when that was planned, may need them`,
      { source, backupId: id, neededBy: child },
    );
    return false;
  }

  /** One of the plan that stays after all: what it may need stays too. */
  stays({ id, source }: Manifest): void {
    if (kindOfId(id) === 'physical') this.#kept.add(source);
  }

  async #childOf({ id, source, database }: Manifest, options: CallOptions): Promise<string | undefined> {
    const underWay = await physicalUnderWay(this.#repository.store, source, options);
    const begun = underWay.find(isIncrementalId);
    if (begun !== undefined) return begun;
    const filter = { source, database: database.name, kind: 'physical' } as const;
    for await (const { key, id: found } of this.#repository.manifestKeys(filter, options)) {
      if (this.#planned.has(found)) continue;
      const added = await this.#repository.manifestAt(key, options);
      if (added?.parents.includes(id) === true) return found;
    }
    return undefined;
  }
}
