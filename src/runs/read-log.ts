import { type RunId, timeOfRunId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { readStateBytes } from '../repository/state-object.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { LOG_CUT_EVENT } from './log-tail.ts';

/** An event as it lies in a run's log; what is no event of pgark's comes as a message. */
export interface LogLine {
  readonly time?: string;
  readonly level?: string;
  readonly event?: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The end of a run's log. */
export interface RunLog {
  readonly lines: readonly LogLine[];
  /** Lines before these, which were not kept. */
  readonly linesCut: number;
}

/** Undefined if this store has no log of the run: an old one was deleted, or the run could write none. */
export async function readRunLog(
  store: ObjectStore,
  id: RunId,
  options: CallOptions = {},
): Promise<RunLog | undefined> {
  const found = await readStateBytes(store, keys.runLog(timeOfRunId(id), id), options);
  if (found === undefined) return undefined;
  const text = new TextDecoder().decode(found.bytes);
  const lines = text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
  const [first] = lines;
  const cut = first?.event === LOG_CUT_EVENT ? first.fields['lines'] : undefined;
  if (typeof cut !== 'number') return { lines, linesCut: 0 };
  return { lines: lines.slice(1), linesCut: cut };
}

function parseLine(line: string): LogLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { message: line, fields: {} };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { message: line, fields: {} };
  const { time, level, event, message, service: _service, ...fields } = value as Readonly<Record<string, unknown>>;
  return {
    ...(typeof time === 'string' ? { time } : {}),
    ...(typeof level === 'string' ? { level } : {}),
    ...(typeof event === 'string' ? { event } : {}),
    message: typeof message === 'string' ? message : '',
    fields,
  };
}
