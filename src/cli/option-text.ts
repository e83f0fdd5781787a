/** The value of an option that takes one, as commander gives it; undefined where the command line has not named it. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
