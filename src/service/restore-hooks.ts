import { messageOf, type PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig } from '../config/model.ts';
import type { AroundRestore, RestoreFacts } from '../operations/restore-around.ts';
import { type HookContext, type HookFacts, runHooks } from './hooks.ts';

export interface RestoreHooksRequest {
  readonly config: Pick<Config, 'databases'>;
  /** Name of the storage that is restored from. */
  readonly storage: string;
  /** Whose hooks are called for a dump of another tool: the source on whose server it is loaded. */
  readonly sourceOfForeign: SourceConfig | undefined;
}

/** The hooks that the configuration has for restores of the source that a backup is of; of one that it does not have, none. */
export function restoreHooks(
  { config, storage, sourceOfForeign }: RestoreHooksRequest,
  context: HookContext,
): AroundRestore {
  const sourceOf = ({ source }: RestoreFacts): SourceConfig | undefined =>
    source === undefined ? sourceOfForeign : config.databases.get(source);
  return {
    async before(facts) {
      const source = sourceOf(facts);
      if (source?.hooks === undefined) return;
      await runHooks(source.hooks.beforeRestore, 'before_restore', hookFacts(source, storage, facts), context);
    },
    async after(facts, error) {
      const source = sourceOf(facts);
      if (source?.hooks === undefined) return;
      const told = { ...hookFacts(source, storage, facts), result: resultOf(error), error };
      try {
        await runHooks(source.hooks.afterRestore, 'after_restore', told, context);
      } catch (failure) {
        // What is restored is restored, whatever a program made of it.
        if (!context.signal.aborted)
          context.logger.error('hook.failed', `${messageOf(failure)}; the restore is not touched by that`);
      }
    },
  };
}

function hookFacts(source: SourceConfig, storage: string, facts: RestoreFacts): HookFacts {
  const { runId, backupId, database, target } = facts;
  return { source: source.name, storages: [storage], database, runId, backupId, target };
}

function resultOf(error: PgarkError | undefined): HookFacts['result'] {
  if (error === undefined) return 'succeeded';
  return error.code === 'interrupted' ? 'interrupted' : 'failed';
}
