/** Steps from the root of the configuration to a value: `['storages', 'r2', 'bucket']`. */
export type Path = readonly (string | number)[];

interface Place {
  /** As `pgark config show --origin` prints it: `environment: S3_BUCKET`, `file: pgark.yaml:12`, `flag: --log-level`. */
  readonly origin: string;
  /** As an error begins: `S3_BUCKET`, `pgark.yaml:12:5`. */
  readonly where: string;
  /** Whether all that lies below the path was written here: a value, not a map whose entries stand on their own. */
  readonly isWhole: boolean;
}

/** `databases.shop.jobs.full`; a segment with anything but letters, digits, `_` and `-` is quoted. */
export function pathText(path: Path): string {
  return path.map((segment) => (/^[\w-]+$/.test(String(segment)) ? segment : JSON.stringify(segment))).join('.');
}

/** Where each value of the configuration was written. A value that is not here is a default. */
export class Origins {
  readonly #places = new Map<string, Place>();
  readonly #references = new Map<string, string>();

  set(path: Path, place: Place): void {
    this.#places.set(pathText(path), place);
    this.#references.delete(pathText(path));
  }

  /** Says that the text at `path` was made from this one, which has references to variables. */
  setReference(path: Path, text: string): void {
    this.#references.set(pathText(path), text);
  }

  /** The text at `path` with its references to variables; undefined if it has none. */
  referenceAt(path: Path): string | undefined {
    return this.#references.get(pathText(path));
  }

  setVariable(path: Path, variable: string): void {
    this.set(path, { origin: `environment: ${variable}`, where: variable, isWhole: true });
  }

  /** The place of the value at `path`, or of the nearest value around it. */
  get(path: Path): Place | undefined {
    for (let length = path.length; length > 0; length--) {
      const place = this.#places.get(pathText(path.slice(0, length)));
      if (place !== undefined) return place;
    }
    return undefined;
  }

  /** What `pgark config show --origin` prints for the value at `path`. */
  originOf(path: Path): string {
    return this.#written(path)?.origin ?? 'default';
  }

  /** Whether nobody has written the value at `path`. */
  isDefault(path: Path): boolean {
    return this.#written(path) === undefined;
  }

  #written(path: Path): Place | undefined {
    for (let length = path.length; length > 0; length--) {
      const place = this.#places.get(pathText(path.slice(0, length)));
      if (place !== undefined && (place.isWhole || length === path.length)) return place;
    }
    return undefined;
  }

  /** Says that the value at `path` was made from the one at `from`. */
  copy(path: Path, from: Path): void {
    const place = this.get(from);
    if (place !== undefined) this.set(path, place);
  }

  /** The same for a value that may have a place of its own, or neither. */
  copyIfAbsent(path: Path, from: Path): void {
    const place = this.#places.get(pathText(from));
    if (place !== undefined && !this.#places.has(pathText(path))) this.set(path, place);
  }
}
