import { assert, PgarkError } from '../common/errors.ts';
import type { CallOptions, ObjectKey, ObjectStore, StoredObject } from '../storage/object-store.ts';
import { readStateBytes, writeState } from './state-object.ts';

/** What a store has confirmed of an object that was copied into it. */
export type Confirmed = Pick<StoredObject, 'etag' | 'confirmedBy'>;

type Fields = Readonly<Record<string, unknown>>;

/**
 * A manifest, or the record of globals, on its way into another store: as it is, with what later versions write and this one
 * does not know. Only the tag of each object, how it was confirmed, and until when it is locked become those of the store that it
 * goes into.
 */
export class CopiedRecord {
  readonly #key: ObjectKey;
  readonly #fields: Fields;

  private constructor(key: ObjectKey, fields: Fields) {
    this.#key = key;
    this.#fields = fields;
  }

  /** Of one that was read before, and parsed. Errors: `object-not-found`, `repository-damaged`. */
  static async read(store: ObjectStore, key: ObjectKey, call: CallOptions): Promise<CopiedRecord> {
    const found = await readStateBytes(store, key, call);
    if (found === undefined)
      throw new PgarkError('object-not-found', `there is no ${key} in ${store.location} any more`);
    const value: unknown = JSON.parse(Buffer.from(found.bytes).toString());
    assert(isFields(value), `${key} was parsed before`);
    return new CopiedRecord(key, value);
  }

  /** The commit point. Error: `store-condition-failed` if there is another one. */
  async commit(
    store: ObjectStore,
    confirmed: ReadonlyMap<ObjectKey, Confirmed>,
    lockedUntil: Date | undefined,
  ): Promise<void> {
    const { lockedUntil: _lockedWhereItCameFrom, ...fields } = this.#fields;
    const copied = Object.entries(fields).map(([name, field]) => [
      name,
      OF_OBJECTS.has(name) ? withTags(field, confirmed) : field,
    ]);
    const value = {
      ...Object.fromEntries(copied),
      ...(lockedUntil === undefined ? {} : { lockedUntil: lockedUntil.toISOString() }),
    };
    await writeState(store, this.#key, value, { condition: { ifAbsent: true }, isLasting: true });
  }
}

/** Fields in which objects are described. */
const OF_OBJECTS: ReadonlySet<string> = new Set(['objects', 'object', 'companion']);

function withTags(field: unknown, confirmed: ReadonlyMap<ObjectKey, Confirmed>): unknown {
  if (Array.isArray(field)) return field.map((each) => withTags(each, confirmed));
  if (!isFields(field) || typeof field['key'] !== 'string') return field;
  const { etag, confirmedBy } = confirmed.get(field['key']) ?? {};
  const { etag: _etag, confirmedBy: _confirmedBy, ...rest } = field;
  return { ...rest, ...(etag === undefined ? {} : { etag }), ...(confirmedBy === undefined ? {} : { confirmedBy }) };
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
