import { assert } from '../../common/errors.ts';

/** A moment by a server's clock: microseconds since 1970-01-01 UTC, as exact as commits are stamped. */
export type ServerTime = bigint;

/** From 1970 to 2000, where PostgreSQL's own count of microseconds begins. */
const POSTGRES_EPOCH: ServerTime = 946_684_800_000_000n;
const US_PER_MS = 1_000n;

/** From the protocol's count, microseconds since 2000-01-01 UTC. */
export function serverTimeOf(protocolUs: bigint): ServerTime {
  return protocolUs + POSTGRES_EPOCH;
}

/** A time of our own clock as the protocol counts it. */
export function protocolTimeOf(date: Date): bigint {
  return serverTimeOfDate(date) - POSTGRES_EPOCH;
}

export function serverTimeOfDate(date: Date): ServerTime {
  return BigInt(date.getTime()) * US_PER_MS;
}

/** To the millisecond; what is below is cut off. */
export function dateOf(time: ServerTime): Date {
  return new Date(Number(time / US_PER_MS));
}

/** `2026-11-20T02:00:00.123456Z`; as text it sorts by time. */
export function formatServerTime(time: ServerTime): string {
  const us = String(time % 1_000_000n).padStart(6, '0');
  return `${dateOf(time).toISOString().slice(0, 19)}.${us}Z`;
}

/** The inverse of `formatServerTime`. */
export function parseServerTime(text: string): ServerTime {
  const [, second, us] = /^(.{19})\.(\d{6})Z$/.exec(text) ?? [];
  assert(second !== undefined && us !== undefined, 'a server’s time is written with microseconds');
  return serverTimeOfDate(new Date(`${second}Z`)) + BigInt(us);
}
