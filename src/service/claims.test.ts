import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { systemRandom } from '../common/random.ts';
import { claimDue, type ClaimRequest, endClaim, lastClaimed } from './claims.ts';

const DUE = new Date('2026-11-20T02:00:00Z');
const HOUR_MS = 3_600_000;

function request(change: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    source: 'shop',
    job: 'nightly',
    dueAt: DUE,
    spacingMs: 1,
    resumes: false,
    now: DUE,
    host: 'one',
    pid: 1,
    random: systemRandom,
    ...change,
  };
}

describe('a due time', () => {
  test('is claimed by one of many hosts that ask at once, and the others are told by whom', async () => {
    const store = new MemoryStore();
    const hosts = Array.from({ length: 8 }, (_, index) => `host${index}`);
    const answers = await Promise.all(hosts.map((host) => claimDue(store, request({ host }))));
    const winner = hosts[answers.findIndex(({ kind }) => kind === 'claimed')];
    expect(answers.filter(({ kind }) => kind === 'claimed')).toHaveLength(1);
    for (const answer of answers)
      if (answer.kind === 'taken') expect(answer).toMatchObject({ host: winner, dueAt: DUE });
  });

  test('that comes after is free again, one that came before is not', async () => {
    const store = new MemoryStore();
    await claimDue(store, request());
    const later = new Date(DUE.getTime() + HOUR_MS);
    expect((await claimDue(store, request({ dueAt: later, now: later }))).kind).toBe('claimed');
    expect((await claimDue(store, request({ now: later }))).kind).toBe('taken');
    expect(await lastClaimed(store, request())).toEqual({ at: later, isOpen: true });
  });

  test('of one job is none of another’s', async () => {
    const store = new MemoryStore();
    await claimDue(store, request());
    expect((await claimDue(store, request({ job: 'weekly' }))).kind).toBe('claimed');
    expect((await claimDue(store, request({ source: 'orders' }))).kind).toBe('claimed');
    expect(await lastClaimed(store, { source: 'orders', job: 'weekly' })).toBeUndefined();
  });

  test('of an interval is the same for hosts that began it at different moments', async () => {
    const store = new MemoryStore();
    const interval = { spacingMs: HOUR_MS };
    await claimDue(store, request(interval));
    const other = new Date(DUE.getTime() + 5_000);
    expect(await claimDue(store, request({ ...interval, dueAt: other, now: other }))).toMatchObject({
      kind: 'taken',
      dueAt: DUE,
    });
    const next = new Date(DUE.getTime() + HOUR_MS);
    expect((await claimDue(store, request({ ...interval, dueAt: next, now: next }))).kind).toBe('claimed');
  });

  test('that a clock which was ahead by years has claimed keeps nobody from working', async () => {
    const store = new MemoryStore();
    const ahead = new Date('2036-01-01T00:00:00Z');
    await claimDue(store, request({ dueAt: ahead, now: ahead }));
    expect((await claimDue(store, request())).kind).toBe('claimed');
  });

  test('that was left open can be taken over by one, but not once it has ended', async () => {
    const store = new MemoryStore();
    const claimed = await claimDue(store, request());
    const resume = request({ host: 'two', resumes: true });
    const taken = await claimDue(store, resume);
    expect(taken.kind).toBe('claimed');
    // The one that was thought dead does not end what is another's now.
    if (claimed.kind === 'claimed') await endClaim(store, { ...request(), token: claimed.token });
    expect(await lastClaimed(store, request())).toMatchObject({ isOpen: true });
    if (taken.kind === 'claimed') await endClaim(store, { ...request(), token: taken.token });
    expect(await lastClaimed(store, request())).toEqual({ at: DUE, isOpen: false });
    expect((await claimDue(store, resume)).kind).toBe('taken');
  });
});
