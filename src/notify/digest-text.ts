import { formatBytes, formatDuration } from '../common/bytes.ts';
import type {
  Digest,
  DigestBackups,
  DigestDatabase,
  DigestFailure,
  DigestRuns,
  DigestStorage,
  DigestWal,
} from './digest.ts';
import { dateAndTime, oneLine, roughly, withoutStop } from './words.ts';

/** A part of a digest, in words of no medium yet: plain text in which nothing is escaped. */
export interface DigestSection {
  readonly title: string;
  readonly items: readonly DigestItem[];
}

interface DigestItem {
  readonly text: string;
  readonly details: readonly string[];
}

/** How much of each is written out. */
interface Limits {
  readonly databases: number;
  readonly standing: number;
  readonly failures: number;
}

const NAME_LENGTH_MAX = 100;
const SENTENCE_LENGTH_MAX = 400;
/** What a chat takes is short, and cut at its end. */
const SHORT: Limits = { databases: 12, standing: 6, failures: 4 };
const LONG: Limits = { databases: 500, standing: 100, failures: 100 };

/** `all 3 databases are protected`, or `1 of 3 databases needs attention: shop`: it is all that some people read. */
export function digestTitle({ databases, standing }: Digest): string {
  const expected = databases.filter(({ state }) => state !== 'unscheduled');
  const wanting = expected.filter(({ state }) => state === 'attention');
  const [first, second] = expected;
  if (standing.length === 0) {
    if (first === undefined) return 'nothing needs attention';
    return second === undefined ? `${nameOf(first)} is protected` : `all ${expected.length} databases are protected`;
  }
  if (wanting.length === 0) {
    const more = standing.length === 1 ? '' : `, and ${standing.length - 1} more`;
    return `attention: ${withoutStop(oneLine(standing[0]?.sentence ?? '', NAME_LENGTH_MAX))}${more}`;
  }
  const verb = wanting.length === 1 ? 'needs' : 'need';
  if (second === undefined) return `${wanting.map(nameOf).join(', ')} needs attention`;
  return `${wanting.length} of ${expected.length} databases ${verb} attention: ${wanting.map(nameOf).join(', ')}`;
}

/** One line each, for media that have no room for a table. */
export function digestLines(digest: Digest): readonly string[] {
  return [
    `${periodOf(digest)}.`,
    ...digestSections(digest, SHORT).flatMap(({ title, items }) => [
      `${title}:`,
      ...items.map(({ text, details }) => `${text}${details.length === 0 ? '' : ` — ${details.join('; ')}`}`),
    ]),
  ];
}

/** `2026-11-13 08:00 UTC to 2026-11-20 08:00 UTC` */
export function periodOf({ since, at }: Digest): string {
  return `${dateAndTime(since)} to ${dateAndTime(at)}`;
}

/** All that a digest says, the most important first. What there is nothing of has no section. */
export function digestSections(digest: Digest, limits: Limits = LONG): readonly DigestSection[] {
  const { at, databases, standing, notes, runs, failures, wal, storages } = digest;
  const order: readonly DigestDatabase['state'][] = ['attention', 'protected', 'unscheduled'];
  const sorted = [...databases].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  return [
    section('Needs attention', standing, limits.standing, ({ sentence, fix }) => ({
      text: `✖ ${textOf(sentence)}`,
      details: fixOf(fix),
    })),
    section('Databases', sorted, limits.databases, (database) => databaseItem(database, at)),
    { title: 'Runs', items: runsItems(runs) },
    section('Failures', failures, limits.failures, failureItem),
    section('WAL', wal, limits.databases, (each) => walItem(each, at)),
    section('Stored', storages, limits.databases, storageItem),
    section('Notes', notes, limits.standing, (note) => ({ text: `! ${textOf(note)}`, details: [] })),
  ].filter(({ items }) => items.length > 0);
}

/** Where a scheduler stands still there are none: that is not to be left out. */
function runsItems(runs: readonly DigestRuns[]): readonly DigestItem[] {
  if (runs.length === 0) return [{ text: 'none ended in this time', details: [] }];
  return runs.map(({ kind, succeeded, failed }) => ({
    text: `${kind}: ${succeeded} done, ${failed} failed`,
    details: [],
  }));
}

function section<T>(
  title: string,
  all: readonly T[],
  itemsMax: number,
  itemOf: (each: T) => DigestItem,
): DigestSection {
  const items = all.slice(0, itemsMax).map(itemOf);
  const left = all.length - items.length;
  return { title, items: left === 0 ? items : [...items, { text: `… and ${left} more`, details: [] }] };
}

const marks: Readonly<Record<DigestDatabase['state'], string>> = { protected: '✔', attention: '✖', unscheduled: '–' };

function databaseItem(database: DigestDatabase, now: Date): DigestItem {
  const { state, backups } = database;
  const remark = state === 'unscheduled' ? ' (not scheduled)' : '';
  return {
    text: `${marks[state]} ${nameOf(database)}${remark}`,
    details: backups.map((each) => backupsLine(each, now)),
  };
}

/** `plain on r2: 6 h ago, 1.2 GiB, 7 kept, next 2026-11-21 02:00 UTC` */
function backupsLine(backups: DigestBackups, now: Date): string {
  const { format, storage, lastGoodAt, lastBytes, count, isOverdue, nextRunAt, lastDrillAt } = backups;
  const last = lastGoodAt === 'never' ? 'no backup' : `last ${dateAndTime(lastGoodAt)} (${ago(lastGoodAt, now)})`;
  const parts = [
    `${last}${isOverdue ? ', overdue' : ''}`,
    ...(lastBytes === undefined ? [] : [formatBytes(lastBytes)]),
    ...(count === 0 ? [] : [`${count} kept`]),
    ...(nextRunAt === undefined ? [] : [`next ${dateAndTime(nextRunAt)}`]),
    ...(lastDrillAt === undefined ? [] : [`drill passed ${ago(lastDrillAt, now)}`]),
  ];
  return `${format} on ${oneLine(storage, NAME_LENGTH_MAX)}: ${parts.join(', ')}`;
}

function failureItem(failure: DigestFailure): DigestItem {
  const { kind, source, database, storages, times, lastAt, isOver, error } = failure;
  const what = source === undefined ? kind : `${kind} of ${nameOf({ source, database })}`;
  const where = storages.length === 0 ? '' : ` in ${storages.map((name) => oneLine(name, NAME_LENGTH_MAX)).join(', ')}`;
  const often = times === 1 ? '' : `${times} times, last `;
  return {
    text: `${isOver ? '!' : '✖'} ${what}${where}, ${often}${dateAndTime(lastAt)}: ${textOf(error.message)}`,
    details: [...(isOver ? ['it has worked since'] : []), ...fixOf(error.hint)],
  };
}

function walItem({ source, isInTime, earliest, latest, lossMs, gaps, storedBytes }: DigestWal, now: Date): DigestItem {
  const reach =
    earliest === undefined || latest === undefined
      ? 'no moment is known that could be recovered to'
      : `any moment from ${dateAndTime(earliest)} to ${dateAndTime(latest)} (${ago(latest, now)})`;
  return {
    text: `${isInTime ? '✔' : '✖'} ${oneLine(source, NAME_LENGTH_MAX)}: ${reach}`,
    details: [
      ...(lossMs === undefined ? [] : [`what would be lost with the server: ${formatDuration(lossMs)}`]),
      ...(gaps === undefined || gaps === 0 ? [] : [`${gaps} gaps`]),
      ...(storedBytes === undefined ? [] : [`${formatBytes(storedBytes)} stored`]),
    ],
  };
}

function storageItem({ storage, storedBytes, grownBytes }: DigestStorage): DigestItem {
  const size = storedBytes === undefined ? 'could not be read' : formatBytes(storedBytes);
  const sign = (grownBytes ?? 0) < 0 ? '−' : '+';
  const grown = grownBytes === undefined ? '' : ` (${sign}${formatBytes(Math.abs(grownBytes))})`;
  return { text: `${oneLine(storage, NAME_LENGTH_MAX)}: ${size}${grown}`, details: [] };
}

function fixOf(fix: string | undefined): readonly string[] {
  const hint = withoutStop(textOf(fix ?? ''));
  return hint === '' ? [] : [`fix: ${hint}`];
}

function ago(time: Date, now: Date): string {
  return `${roughly(Math.max(0, now.getTime() - time.getTime()))} ago`;
}

/** `shop`, or `crm/orders` for a database of another name than its source. */
function nameOf({
  source,
  database = source,
}: {
  readonly source: string;
  readonly database?: string | undefined;
}): string {
  const names = database === source ? [source] : [source, database];
  return names.map((name) => oneLine(name, NAME_LENGTH_MAX)).join('/');
}

function textOf(text: string): string {
  return oneLine(text, SENTENCE_LENGTH_MAX);
}
