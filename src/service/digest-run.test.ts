import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { configIn, startDaemonHere } from '../../test/support/daemon-here.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { HistoryPlace, HOUR_MS } from '../../test/support/protection.ts';
import { type SmtpReceiver, type SmtpReceiverOptions, startSmtpReceiver } from '../../test/support/smtp-receiver.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { keys } from '../repository/keys.ts';

vi.setConfig({ testTimeout: 120_000 });

const MINUTE_MS = 60_000;
/** A Monday; 08:00 in Berlin is 07:00 in UTC then. */
const DUE = new Date('2026-11-23T07:00:00Z');
const before = (ms: number): Date => new Date(DUE.getTime() - ms);
const WEEK_MS = 7 * 24 * HOUR_MS;

/** A mailbox, a storage with a history, and a configuration with one database whose server is away. */
async function open(options: SmtpReceiverOptions & { readonly wal?: string } = {}) {
  const smtp = await startSmtpReceiver(options);
  const folder = await makeTempDirectory();
  const history = new HistoryPlace(before(WEEK_MS));
  const configure = (port: number): Promise<void> =>
    writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
timezone: Europe/Berlin
server: { listen: "127.0.0.1:0" }
storages: { near: { type: file, path: /nonexistent/near } }
notifications: { mail: { type: email, smtp: "smtp://127.0.0.1:${port}", to: [dba@example.com], on: [], digest: "0 8 * * 1" } }
defaults: { notify: [mail] }
databases: { shop: { url: "postgres://u@127.0.0.1:1/shop", jobs: { nightly: { format: plain, to: [near] } }${options.wal ?? ''} } }
`,
    );
  await configure(smtp.port);
  return {
    smtp,
    history,
    configure,
    /** A daemon from this moment on, with a clock of its own. */
    start: (at: Date) => {
      const clock = new ManualClock(at);
      const openStore = () => Promise.resolve(history.store);
      const daemon = startDaemonHere({ readConfig: configIn(folder.path), clock, openStore });
      const started = () => vi.waitFor(() => expect(daemon.events).toContain('schedule.next'), { timeout: 20_000 });
      return { ...daemon, clock, started };
    },
    async [Symbol.asyncDispose]() {
      await smtp[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

type Daemon = ReturnType<Awaited<ReturnType<typeof open>>['start']>;

/** Time passes minute by minute, and what goes over real sockets has the time to. */
async function pass({ clock }: Daemon, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += MINUTE_MS) {
    await clock.advance(Math.min(MINUTE_MS, ms - passed));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Time passes far slower than what goes over real sockets, and as far as pauses want, until it is so. */
async function until(daemon: Daemon, assertion: () => void): Promise<void> {
  await vi.waitFor(
    async () => {
      await daemon.clock.advance(500);
      assertion();
    },
    { timeout: 60_000, interval: 100 },
  );
}

async function mailsAre(smtp: SmtpReceiver, count: number, daemon: Daemon): Promise<void> {
  await until(daemon, () => expect(smtp.mails).toHaveLength(count));
}

const textOf = (smtp: SmtpReceiver, index: number): string =>
  (smtp.mails[index]?.source ?? '').replaceAll(/=\r\n/g, '').replaceAll('\r\n', '\n');

describe('a digest', () => {
  test('is sent at its time in the time zone of the configuration, and tells of the time since the one before', async () => {
    await using place = await open();
    await place.history.backup(before(3 * HOUR_MS), { bytes: 4_096 });
    await place.history.run('failed', before(26 * HOUR_MS), before(26 * HOUR_MS - MINUTE_MS));
    const daemon = place.start(before(10 * MINUTE_MS));
    await daemon.started();
    await pass(daemon, 9 * MINUTE_MS);
    expect(place.smtp.mails).toEqual([]);
    await pass(daemon, MINUTE_MS);
    await mailsAre(place.smtp, 1, daemon);
    expect(textOf(place.smtp, 0)).toContain('2026-11-16 07:00 UTC to 2026-11-23 07:00 UTC');
    expect(textOf(place.smtp, 0)).toContain('backup: 1 done, 1 failed');
    expect(textOf(place.smtp, 0)).toContain('database shop: ');

    await place.history.backup(new Date(DUE.getTime() + 2 * HOUR_MS), { bytes: 8_192 });
    await daemon.stop();
    const next = place.start(new Date(DUE.getTime() + WEEK_MS - 5 * MINUTE_MS));
    await next.started();
    await pass(next, 5 * MINUTE_MS);
    await mailsAre(place.smtp, 2, next);
    expect(textOf(place.smtp, 1)).toMatch(/2026-11-23 07:0\d UTC to 2026-11-30 07:0\d UTC/);
    expect(textOf(place.smtp, 1)).toContain('backup: 1 done, 0 failed');
    expect(textOf(place.smtp, 1)).toContain('12.0 KiB (+8.0 KiB)');
    await next.stop();
  });

  test('that was missed is sent once when there is a daemon again, however many were missed', async () => {
    await using place = await open();
    const first = place.start(before(5 * MINUTE_MS));
    await first.started();
    await pass(first, 5 * MINUTE_MS);
    await mailsAre(place.smtp, 1, first);
    await first.stop();

    const later = place.start(new Date(DUE.getTime() + 3 * WEEK_MS + HOUR_MS));
    await later.started();
    await mailsAre(place.smtp, 2, later);
    expect(textOf(place.smtp, 1)).toMatch(/2026-11-23 07:0\d UTC to 2026-12-14 08:0\d UTC/);
    await pass(later, 2 * HOUR_MS);
    await later.stop();

    const again = place.start(new Date(DUE.getTime() + 3 * WEEK_MS + 4 * HOUR_MS));
    await again.started();
    await pass(again, 10 * MINUTE_MS);
    await again.stop();
    expect(place.smtp.mails).toHaveLength(2);
  });

  test('that is due just after a start waits until WAL is judged and servers were tried', async () => {
    await using place = await open({ wal: ', wal: { to: [near] }' });
    await place.history.backup(before(3 * HOUR_MS));
    const daemon = place.start(before(MINUTE_MS));
    await daemon.started();
    await pass(daemon, 4.5 * MINUTE_MS);
    expect(place.smtp.mails).toEqual([]);
    await pass(daemon, MINUTE_MS);
    await mailsAre(place.smtp, 1, daemon);
    expect(textOf(place.smtp, 0)).toContain('shop needs attention');
    await daemon.stop();
  });

  test('is sent by one of two daemons that share a storage', async () => {
    await using place = await open();
    const daemons = [place.start(before(2 * MINUTE_MS)), place.start(before(2 * MINUTE_MS))];
    for (const daemon of daemons) await daemon.started();
    await Promise.all(daemons.map((daemon) => pass(daemon, 2 * MINUTE_MS)));
    const skipped = (): number =>
      daemons.flatMap(({ events }) => events).filter((event) => event === 'job.skipped').length;
    for (const daemon of daemons)
      await until(daemon, () => expect([place.smtp.mails.length, skipped()]).toEqual([1, 1]));
    await Promise.all(daemons.map((daemon) => pass(daemon, 10 * MINUTE_MS)));
    expect(place.smtp.mails).toHaveLength(1);
    expect(skipped()).toBe(1);
    await Promise.all(daemons.map((daemon) => daemon.stop()));
  });

  test('that is refused is tried again, with the address that a reload has put right', async () => {
    await using place = await open();
    await place.configure(1);
    const daemon = place.start(before(2 * MINUTE_MS));
    await daemon.started();
    await pass(daemon, 2 * MINUTE_MS);
    await until(daemon, () => expect(daemon.events).toContain('notification.failed'));
    await place.configure(place.smtp.port);
    daemon.reload();
    await vi.waitFor(() => expect(daemon.events).toContain('daemon.reloaded'), { timeout: 20_000 });
    await pass(daemon, 2 * MINUTE_MS);
    expect(place.smtp.mails).toEqual([]);
    // The pause before the next try has its chance in it; a try that is on its way is given the time for its sockets.
    for (let step = 0; step < 90 && !daemon.events.includes('digest.sent'); step += 1) {
      await daemon.clock.advance(10_000);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    expect(daemon.events).toContain('digest.sent');
    await pass(daemon, 2 * HOUR_MS);
    expect(place.smtp.mails).toHaveLength(1);
    await daemon.stop();
  });

  test('that was not sent before the daemon ended is sent by the next one', async () => {
    await using place = await open({ senderAnswers: [550] });
    const daemon = place.start(before(2 * MINUTE_MS));
    await daemon.started();
    await pass(daemon, 2 * MINUTE_MS);
    await until(daemon, () => expect(daemon.events).toContain('notification.failed'));
    await pass(daemon, MINUTE_MS);
    await daemon.stop();
    expect(daemon.of('daemon.stopping')).toMatchObject([{ message: 'stopping: nothing is running' }]);
    expect(place.smtp.mails).toEqual([]);
    const next = place.start(new Date(DUE.getTime() + HOUR_MS));
    await next.started();
    // It may be that the one that began it is still at it: nobody takes over before its claim is old.
    await pass(next, MINUTE_MS);
    expect(place.smtp.mails).toEqual([]);
    await mailsAre(place.smtp, 1, next);
    await next.stop();
  });

  test('survives an earlier version that has written the state without it', async () => {
    await using place = await open();
    const first = place.start(before(2 * MINUTE_MS));
    await first.started();
    await pass(first, 2 * MINUTE_MS);
    await mailsAre(place.smtp, 1, first);
    await first.stop();
    const { store } = place.history;
    const kept = store.objects.get(keys.notifications);
    const { digests, ...earlier } = JSON.parse(Buffer.from(kept?.bytes ?? []).toString()) as Record<string, unknown>;
    expect(digests).toEqual([expect.objectContaining({ channel: 'mail' })]);
    await store.putSmall(keys.notifications, Buffer.from(JSON.stringify(earlier)));
    const next = place.start(new Date(DUE.getTime() + HOUR_MS));
    await next.started();
    await pass(next, 5 * MINUTE_MS);
    expect(place.smtp.mails).toHaveLength(1);
    await next.stop();
  });
});
