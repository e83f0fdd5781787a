import { beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { type RecordingTerminal, recordingTerminal } from '../../test/support/cli-world.ts';
import { GIB, MIB } from '../common/bytes.ts';
import type { Progress } from '../operations/context.ts';
import { ProgressLine } from './progress.ts';

const CLEAR = '\r\u001b[K';
const dumping = (bytes: number, rest: Partial<Progress> = {}): Progress => ({
  phase: 'dumping',
  subject: 'shop',
  bytes,
  ...rest,
});

let clock: ManualClock;
beforeEach(() => {
  clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
});

function lineOn(terminal: RecordingTerminal, enabled = true, format: 'text' | 'json' = 'text'): ProgressLine {
  return new ProgressLine(terminal, clock, enabled, { format });
}

describe('progress on a terminal', () => {
  test('is one line, written again and again, with bar, bytes, rate and the time that is left', async () => {
    const terminal = recordingTerminal({ live: true, columns: 120 });
    const line = lineOn(terminal);
    line.update(dumping(0, { bytesTotal: GIB }));
    await clock.advance(4_000);
    line.update(dumping(256 * MIB, { bytesTotal: GIB, bytesStored: 64 * MIB }));
    const bar = `[${'#'.repeat(5)}${'·'.repeat(15)}]`;
    expect(terminal.stderr()).toBe(
      `${CLEAR}dumping shop …` +
        `${CLEAR}dumping shop ${bar} 256.0 MiB of about 1.0 GiB, 64.0 MiB stored, 64.0 MiB/s, 12.0 s left`,
    );
    expect(terminal.stdout()).toBe('');
  });

  test('keeps rate and time left at 80 columns, whatever the name', async () => {
    for (const subject of ['shop', 'a_database_with_quite_a_long_name_2026-11-20T02:00:00Z.sql.gz']) {
      const terminal = recordingTerminal({ live: true, columns: 80 });
      const line = lineOn(terminal);
      line.update(dumping(0, { subject, bytesTotal: GIB }));
      await clock.advance(4_000);
      line.update(dumping(256 * MIB, { subject, bytesTotal: GIB, bytesStored: 64 * MIB }));
      const shown = terminal.stderr().split(CLEAR).at(-1) ?? '';
      expect([...shown].length).toBeLessThan(80);
      expect(shown).toMatch(/^dumping .* 256\.0 MiB of about 1\.0 GiB, .*64\.0 MiB\/s, 12\.0 s left$/);
    }
  });

  test('never fills the last column, where terminals break the line', async () => {
    const terminal = recordingTerminal({ live: true, columns: 30 });
    const line = lineOn(terminal);
    line.update(dumping(0));
    await clock.advance(1_000);
    line.update(dumping(123_456_789, { bytesTotal: GIB }));
    const shown = terminal.stderr().split(CLEAR).at(-1) ?? '';
    expect([...shown]).toHaveLength(29);
    expect(shown.endsWith('…')).toBe(true);
  });

  test('is not written more often than five times a second, but at once for a new phase', async () => {
    const terminal = recordingTerminal({ live: true });
    const line = lineOn(terminal);
    for (let step = 0; step < 100; step += 1) {
      line.update(dumping(step));
      await clock.advance(10);
    }
    expect(terminal.stderr().split(CLEAR).length - 1).toBeLessThanOrEqual(6);
    line.update({ phase: 'verifying', subject: 'x', bytes: 1 });
    expect(terminal.stderr()).toContain('verifying x');
  });

  test('is cleared before other text, once', () => {
    const terminal = recordingTerminal({ live: true });
    const line = lineOn(terminal);
    line.update(dumping(1));
    line.end();
    const before = terminal.stderr();
    expect(before.endsWith(CLEAR)).toBe(true);
    line.end();
    expect(terminal.stderr()).toBe(before);
  });

  test('promises no end once the estimate is passed', async () => {
    const terminal = recordingTerminal({ live: true, columns: 120 });
    const line = lineOn(terminal);
    line.update(dumping(0, { bytesTotal: MIB }));
    await clock.advance(4_000);
    line.update(dumping(2 * MIB, { bytesTotal: MIB }));
    expect(terminal.stderr().split(CLEAR).at(-1)).toBe('dumping shop 2.0 MiB, 512.0 KiB/s');
  });

  test('starts the rate anew with each phase', async () => {
    const terminal = recordingTerminal({ live: true, columns: 120 });
    const line = lineOn(terminal);
    line.update(dumping(0));
    await clock.advance(60_000);
    line.update({ phase: 'loading', subject: 'shop', bytes: 0 });
    await clock.advance(1_000);
    line.update({ phase: 'loading', subject: 'shop', bytes: MIB });
    expect(terminal.stderr().endsWith('loading shop 1.0 MiB, 1.0 MiB/s')).toBe(true);
  });
});

describe('progress elsewhere', () => {
  test('is a plain line every 30 seconds, and none for what is done before', async () => {
    const terminal = recordingTerminal();
    const line = lineOn(terminal);
    for (let second = 0; second < 65; second += 1) {
      line.update(dumping(second * MIB));
      await clock.advance(1_000);
    }
    line.end();
    expect(terminal.stderr()).toBe('dumping shop 30.0 MiB, 1.0 MiB/s\ndumping shop 60.0 MiB, 1.0 MiB/s\n');
  });

  test('is an event of a log that is JSON', async () => {
    const terminal = recordingTerminal();
    const line = lineOn(terminal, true, 'json');
    line.update(dumping(0));
    await clock.advance(30_000);
    line.update(dumping(30 * MIB, { bytesTotal: GIB }));
    const fields = { phase: 'dumping', subject: 'shop', bytes: 30 * MIB, bytes_total: GIB };
    expect(terminal.stderr()).toMatch(/^[^\n]+\n$/);
    expect(JSON.parse(terminal.stderr())).toMatchObject({ level: 'INFO', event: 'progress', ...fields });
  });

  test('that was switched off is silent', async () => {
    for (const live of [true, false]) {
      const terminal = recordingTerminal({ live });
      const line = lineOn(terminal, false);
      await clock.advance(60_000);
      line.update(dumping(5));
      line.end();
      expect(terminal.stderr()).toBe('');
    }
  });
});
