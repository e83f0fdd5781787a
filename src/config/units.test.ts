import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatDurationSetting,
  formatSizeSetting,
  parseDurationMs,
  parsePercentRatio,
  parseRateBytesPerSecond,
  parseSizeBytes,
} from './units.ts';

describe('durations, sizes, rates and percentages', () => {
  test.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['10m', 600_000],
    ['6h', 21_600_000],
    ['30d', 2_592_000_000],
    ['2w', 1_209_600_000],
    ['1h30m', 5_400_000],
    ['0s', 0],
  ])('the duration %s is %i ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  test.each(['', '10', 's', '-1s', '1.5h', '10 m', '10M', '1y', '9999999999d', '1h 30m', 'ten minutes'])(
    '%j is no duration',
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined();
    },
  );

  test.each([
    ['0B', 0],
    ['50KiB', 51_200],
    ['1.5GiB', 1_610_612_736],
    ['10 GiB', 10_737_418_240],
    ['20GB', 20_000_000_000],
  ])('the size %s is %i bytes', (text, bytes) => {
    expect(parseSizeBytes(text)).toBe(bytes);
  });

  test.each(['', '10', '10K', '10Gi', '-1MiB', 'GiB', '1e3MiB', '99999999999PiB'])('%j is no size', (text) => {
    expect(parseSizeBytes(text)).toBeUndefined();
  });

  test('a rate is a size per second, and nothing per second is none', () => {
    expect(parseRateBytesPerSecond('80MiB/s')).toBe(83_886_080);
    for (const text of ['80MiB', '0B/s', '80/s', '/s']) expect(parseRateBytesPerSecond(text)).toBeUndefined();
  });

  test('a percentage has its sign', () => {
    expect(parsePercentRatio('10%')).toBe(0.1);
    expect(parsePercentRatio('2.5%')).toBe(0.025);
    for (const text of ['10', '%', '-1%', 'ten%']) expect(parsePercentRatio(text)).toBeUndefined();
  });

  test('what is shown can be read back', () => {
    fc.assert(
      fc.property(fc.nat({ max: 10 ** 12 }), (number) => {
        expect(parseDurationMs(formatDurationSetting(number))).toBe(number);
        expect(parseSizeBytes(formatSizeSetting(number))).toBe(number);
      }),
    );
  });
});
