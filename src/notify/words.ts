const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Marks that turn the direction of writing: in a name they could make a message read as another one. */
const DIRECTION_MARKS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const BREAKS_AND_CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\s]+/gu;

/** Text of others (names, errors) as one line of well-formed Unicode, no longer than the given number of characters. */
export function oneLine(text: string, lengthMax: number): string {
  const line = text.toWellFormed().replace(DIRECTION_MARKS, '').replace(BREAKS_AND_CONTROLS, ' ').trim();
  return fit(line, { lengthMax });
}

export interface FitOptions {
  /** Of the escaped text, the ellipsis included. */
  readonly lengthMax: number;
  /** Escapes one character of the medium's markup. */
  readonly escape?: (character: string) => string;
  /** UTF-16 units by default. */
  readonly lengthOf?: (text: string) => number;
}

/** Escapes a text for its medium and cuts it where the medium would refuse it, never within an escape or a character. */
export function fit(text: string, options: FitOptions): string {
  const { lengthMax, escape = (character) => character, lengthOf = (part) => part.length } = options;
  const ellipsis = '…';
  const room = lengthMax - lengthOf(ellipsis);
  let fitted = '';
  let length = 0;
  let whenCut = '';
  for (const character of text) {
    const escaped = escape(character);
    length += lengthOf(escaped);
    if (length <= room) whenCut = fitted + escaped;
    if (length > lengthMax) return `${whenCut}${ellipsis}`;
    fitted += escaped;
  }
  return fitted;
}

/** Without the full stops at its end, to be followed by other words. */
export function withoutStop(text: string): string {
  return text.replace(/[\s.]+$/, '');
}

/** A rough length of time for people: `less than a minute`, `12 min`, `26 h`, `3 days`. */
export function roughly(ms: number): string {
  if (ms < MINUTE_MS) return 'less than a minute';
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < 2 * DAY_MS) return `${Math.floor(ms / HOUR_MS)} h`;
  return `${Math.floor(ms / DAY_MS)} days`;
}

/** `2026-11-20 02:10 UTC` */
export function dateAndTime(time: Date): string {
  return `${time.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** `02:10 UTC` if that is within a day after the given time, else with the date. */
export function timeSeenFrom(now: Date, time: Date): string {
  const aheadMs = time.getTime() - now.getTime();
  return aheadMs >= 0 && aheadMs < DAY_MS ? dateAndTime(time).slice(11) : dateAndTime(time);
}
