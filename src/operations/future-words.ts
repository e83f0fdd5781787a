/**
 * What is said of backups whose names lie ahead of now, wherever they are looked for. Either clock may be the wrong one; the time that
 * the store wrote beside a backup tells which.
 */

/** This machine's clock is behind: the names are right. `told` is what shows it. */
export function wordsOfThisClock(what: string, here: Date, told: string): string {
  return `${what} begins in the future by this machine's clock, which says ${here.toISOString()}, but ${told}: this machine's clock is behind, or the storage's is ahead or was. The newest is taken by the names; set the clock, or say an id`;
}

/** The clock that named it was ahead. `so` is what follows for what is taken. */
export function wordsOfNamingClock(claim: string, storedAt: Date, so: string): string {
  return `${claim} stored at ${storedAt.toISOString()} by the storage's clock: the clock of the machine that named it was ahead, or the storage's behind. ${so}`;
}
