import { asPgarkError, type PgarkError } from '../common/errors.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore, ProviderProfile } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { describeProfile, type StorageTrait } from './storage-profile.ts';

/** One thing that was found out of a storage, or why it could not be. */
export type ProbedTrait =
  | StorageTrait
  | { readonly name: string; readonly value: 'no'; readonly state: 'failed'; readonly error: PgarkError };

export interface ProbedStorage {
  /** Undefined where the storage could not be written. */
  readonly profile: ProviderProfile | undefined;
  readonly traits: readonly ProbedTrait[];
}

const ABORT = 's3:AbortMultipartUpload';

/**
 * Finds out by trying what a storage can do and what this key may, and leaves nothing behind. What may not be deleted is an
 * error only where something has to be. Never rejects but for an interrupt.
 */
export async function probeStorage(
  store: ObjectStore,
  { needsDelete }: { readonly needsDelete: boolean },
  context: OperationContext,
): Promise<ProbedStorage> {
  const { signal } = context;
  const attempt = async <T>(
    action: () => Promise<T>,
  ): Promise<{ readonly value: T } | { readonly error: PgarkError }> => {
    try {
      return { value: await action() };
    } catch (error) {
      signal.throwIfAborted();
      return { error: asPgarkError(error) };
    }
  };
  // Writes come first: a directory that is not there yet is made by them.
  const written = await attempt(() => store.probe({ write: true, protection: true, signal }));
  const reached = 'value' in written ? written : await attempt(() => store.probe({ signal }));
  if ('error' in reached) return { profile: undefined, traits: [failed('list', reached.error)] };
  const read = await attempt(() => new Repository(store, context).checkLayout({ signal }));
  const traits: ProbedTrait[] = [
    able('list'),
    'error' in read ? failed('read', read.error) : able('read', read.value ? undefined : 'yes, nothing yet'),
  ];
  if ('error' in written) {
    const isAbort = written.error.details['action'] === ABORT;
    if (isAbort) traits.push(able('write'));
    traits.push(failed(isAbort ? 'abort uploads' : 'write', written.error));
    return { profile: undefined, traits };
  }
  const deleted = await attempt(() => store.probe({ delete: true, asKnown: true, signal }));
  traits.push(able('write'), able('abort uploads'));
  if ('value' in deleted) traits.push(able('delete'));
  else traits.push(needsDelete ? failed('delete', deleted.error) : undeletable(deleted.error));
  const profile = written.value;
  return { profile, traits: [...traits, ...describeProfile(profile)] };
}

function able(name: string, value = 'yes'): ProbedTrait {
  return { name, value, state: 'ok' };
}

function failed(name: string, error: PgarkError): ProbedTrait {
  return { name, value: 'no', state: 'failed', error };
}

function undeletable({ message, hint }: PgarkError): ProbedTrait {
  const meaning = `retention cannot be carried out with this key, and no job of the configuration wants it: ${message}; ${hint}`;
  return { name: 'delete', value: 'no', state: 'note', meaning };
}
