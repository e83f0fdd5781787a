import { z } from 'zod';
import { parseSchedule } from './schedule.ts';
import { didYouMean } from './suggest.ts';
import { parseDurationMs, parsePercentRatio, parseRateBytesPerSecond, parseSizeBytes } from './units.ts';

/** An object that refuses unknown keys; the message has one line for each of them. */
export function strict<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => `unknown key "${key}"${didYouMean(key, Object.keys(shape))}`).join('\n')
        : undefined,
  });
}

export const text = z.string().min(1, 'is empty');
export const texts = z.array(text);

/** `name` and `name_file`: a secret as it stands, or the path of a file that holds it. */
export function secretKeys<const Name extends string>(
  name: Name,
  description: string,
): Record<Name | `${Name}_file`, z.ZodOptional<z.ZodString>> {
  return {
    [name]: text.optional().describe(description),
    [`${name}_file`]: text
      .optional()
      .describe(`Path of a file that holds ${name}, relative to the configuration file.`),
  } as Record<Name | `${Name}_file`, z.ZodOptional<z.ZodString>>;
}

/** A text that `parse` understands; what it does not is reported with an example. */
function parsed<Value>(parse: (source: string) => Value | undefined, complaint: string) {
  return z.string({ error: () => complaint }).transform((source, context): Value => {
    const value = parse(source);
    if (value !== undefined) return value;
    context.issues.push({ code: 'custom', message: `"${source}" ${complaint}`, input: source });
    return z.NEVER;
  });
}

export const durationMs = parsed(parseDurationMs, 'must be a duration with a unit, such as 30s, 10m, 6h or 30d');
export const sizeBytes = parsed(parseSizeBytes, 'must be a size with a unit, such as 50KiB or 10GiB');
export const rateBytesPerSecond = parsed(parseRateBytesPerSecond, 'must be a rate such as 80MiB/s');
export const percentRatio = parsed(parsePercentRatio, 'must be a percentage such as 10%');

export const schedule = z
  .string({ error: () => 'must be a cron expression or an interval, in quotes' })
  .transform((source, context) => {
    const read = parseSchedule(source);
    if (typeof read !== 'string') return read;
    context.issues.push({ code: 'custom', message: read, input: source, params: { code: 'cron-invalid' } });
    return z.NEVER;
  });

/** A whole number, or its digits as text: what `"${PORT}"` leaves behind. */
export function integer(min: number, max: number, complaint = `must be a whole number from ${min} to ${max}`) {
  return z
    .union([z.int().min(min, complaint).max(max, complaint), z.string().regex(/^(\d+|.*\$\{.*)$/, complaint)], {
      error: () => complaint,
    })
    .transform((value, context): number => {
      const number = Number(value);
      if (Number.isInteger(number) && number >= min && number <= max) return number;
      context.issues.push({ code: 'custom', message: complaint, input: value });
      return z.NEVER;
    });
}

/** True or false, or the word as text. */
export const flag = z
  .union([z.boolean(), z.string().regex(/^(true|false|.*\$\{.*)$/, 'must be true or false')], {
    error: () => 'must be true or false',
  })
  .transform((value, context): boolean => {
    if (typeof value === 'boolean') return value;
    if (value === 'true' || value === 'false') return value === 'true';
    context.issues.push({ code: 'custom', message: 'must be true or false', input: value });
    return z.NEVER;
  });

/** `host:port`, `[::1]:8080`, or `:8080` for every interface. */
export const listenAddress = parsed((source) => {
  const match = /^(\[[0-9A-Fa-f:]+\]|[^:[\]\s/]*):(\d{1,5})$/.exec(source);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) return undefined;
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '');
  return { host: host === '' ? '0.0.0.0' : host, port };
}, 'must be host:port, such as 127.0.0.1:8080');
