import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GIB, MIB } from '../../common/bytes.ts';
import { BUFFER_BYTES_MAX_DEFAULT, type PartLimits, type PartPlan, planParts } from './part-plan.ts';
import { providerFacts } from './provider.ts';

const TIB = 1024 * GIB;
const aws = providerFacts(undefined);
const r2 = providerFacts('account.r2.cloudflarestorage.com');
const scaleway = providerFacts('s3.fr-par.scw.cloud');

function plan(limits: PartLimits, bytesEstimateMax?: number, partBytes = 8 * MIB): PartPlan {
  return planParts({ limits, bytesEstimateMax, partBytes, partsInFlight: 4, bufferBytesMax: BUFFER_BYTES_MAX_DEFAULT });
}

/** Parts that a body of this length is cut into. */
function cut(parts: PartPlan, bytes: number): number[] {
  const sizes: number[] = [];
  for (let rest = bytes; rest > 0; rest -= sizes.at(-1) ?? rest) {
    sizes.push(Math.min(rest, parts.partBytes(sizes.length + 1)));
  }
  return sizes;
}

describe('a part plan', () => {
  test('begins with parts of 8 MiB, and stays with them for what is small', () => {
    expect(plan(aws).partBytes(1)).toBe(8 * MIB);
    expect(plan(aws, 10 * GIB).partBytes(1)).toBe(8 * MIB);
    expect(new Set(cut(plan(aws, 50 * GIB), 50 * GIB - 1).slice(0, -1))).toEqual(new Set([8 * MIB]));
  });

  test('reaches 5 TiB within the cap, with an estimate, without one, and with one that was far too low', () => {
    for (const estimate of [undefined, 0, 100 * GIB, 5 * TIB]) {
      const sizes = cut(plan(aws, estimate), 5 * TIB);
      expect(sizes.length).toBeLessThanOrEqual(10_000);
    }
  });

  test('cuts into parts of one size where the estimate holds', () => {
    const sizes = cut(plan(aws, TIB), TIB);
    expect(new Set(sizes.slice(0, -1)).size).toBe(1);
  });

  test('cuts into parts of one size always where the store wants it, and says early that they do not reach', () => {
    const parts = plan(r2, 500 * GIB);
    expect(new Set(cut(parts, 500 * GIB).slice(0, -1)).size).toBe(1);
    expect(parts.bytesMax).toBeGreaterThan(550 * GIB);
    expect(() => parts.partBytes(10_001)).toThrow(expect.objectContaining({ code: 'store-failed' }));
    expect(plan(r2).bytesMax).toBeGreaterThan(300 * GIB);
  });

  test('keeps within the 1,000 parts of Scaleway', () => {
    for (const estimate of [GIB, 100 * GIB, TIB]) {
      expect(cut(plan(scaleway, estimate), estimate).length).toBeLessThanOrEqual(1_000);
    }
    expect(plan(scaleway).bytesMax).toBeGreaterThanOrEqual(TIB / 2);
    expect(() => plan(scaleway).partBytes(1_001)).toThrow('1000 parts');
  });

  test('says what helps when the parts have run out: larger ones, and where there are none, what else', () => {
    const failureOf = (parts: PartPlan, partNumber: number): unknown => {
      try {
        return parts.partBytes(partNumber);
      } catch (error) {
        return error;
      }
    };
    const small = plan(r2);
    expect(failureOf(small, 10_001)).toMatchObject({ hint: expect.stringContaining('to 64MiB or more') });
    expect(plan(r2, undefined, 64 * MIB).bytesMax).toBeGreaterThanOrEqual(2 * small.bytesMax);
    expect(failureOf(plan(scaleway, 3 * TIB), 1_001)).toMatchObject({
      hint: expect.stringMatching(/^no part size makes more fit: /),
    });
  });

  test('foresees before the first byte what will not fit, and what may not', () => {
    expect(plan(aws, 5 * TIB).foresee()).toBeUndefined();
    expect(plan(scaleway).foresee()).toBeUndefined();
    expect(plan(scaleway, 1.5 * TIB).foresee()).toBeUndefined();
    // A database of this size makes a dump of a fraction of it.
    expect(plan(scaleway, 3 * TIB).foresee()).toMatch(/1000 parts of an object, 2\.0 TiB in all: .* up to 3\.0 TiB/);
    expect(() => plan(scaleway, 50 * TIB).foresee()).toThrow(expect.objectContaining({ code: 'store-failed' }));
  });

  test('lowers the number of parts in flight as parts grow, never below two', () => {
    const parts = plan(aws);
    expect(parts.partsInFlight(8 * MIB)).toBe(4);
    expect(parts.partsInFlight(30 * MIB)).toBe(3);
    expect(parts.partsInFlight(40 * MIB)).toBe(2);
    expect(parts.partsInFlight(600 * MIB)).toBe(2);
  });

  test('has one part in flight where others share the memory and parts are large', () => {
    const options = { limits: aws, partBytes: 8 * MIB, partsInFlight: 4, isShared: true };
    const inFlight = (bufferBytesMax: number) => planParts({ ...options, bufferBytesMax }).partsInFlight(8 * MIB);
    expect(inFlight(BUFFER_BYTES_MAX_DEFAULT)).toBe(4);
    expect(inFlight(24 * MIB)).toBe(2);
    expect(inFlight(8 * MIB)).toBe(1);
  });

  test('honours a larger part size that is asked for, and never goes below the store’s smallest', () => {
    expect(plan(aws, undefined, 64 * MIB).partBytes(1)).toBe(64 * MIB);
    expect(plan(aws, undefined, MIB).partBytes(1)).toBe(8 * MIB);
    expect(plan({ ...aws, partBytesMin: 20 * MIB }).partBytes(1)).toBe(20 * MIB);
  });

  test('never shrinks a part, never leaves the limits, and holds every body up to its own maximum', () => {
    const limits = fc.record({
      partCountMax: fc.integer({ min: 20, max: 10_000 }),
      partBytesMin: fc.integer({ min: 1, max: 20 * MIB }),
      partBytesMax: fc.integer({ min: 64 * MIB, max: 5 * GIB }).map((size) => Math.floor(size / MIB) * MIB),
      equalParts: fc.boolean(),
    });
    const estimate = fc.option(fc.integer({ min: 0, max: 6 * TIB }), { nil: undefined });
    fc.assert(
      fc.property(limits, estimate, fc.integer({ min: 1, max: 32 * MIB }), (some, bytesEstimateMax, partBytes) => {
        const parts = plan(some, bytesEstimateMax, partBytes);
        const sizes = Array.from({ length: some.partCountMax }, (_, index) => parts.partBytes(index + 1));
        const sum = sizes.reduce((total, size) => total + size, 0);
        const [first = 0] = sizes;
        const last = sizes.at(-1) ?? 0;
        expect(sizes.every((size, index) => index === 0 || size >= (sizes[index - 1] ?? 0))).toBe(true);
        expect(first).toBeGreaterThanOrEqual(Math.min(8 * MIB, some.partBytesMax));
        expect(last).toBeLessThanOrEqual(some.partBytesMax);
        expect(some.equalParts && last !== first).toBe(false);
        expect(parts.bytesMax).toBe(sum);
        expect(() => parts.partBytes(some.partCountMax + 1)).toThrow('parts');
        const reachable = some.partCountMax * Math.min(some.partBytesMax, 2 * GIB - MIB) * 0.9;
        expect(sum).toBeGreaterThanOrEqual(Math.min(bytesEstimateMax ?? 0, reachable));
        for (const size of [first, last]) {
          const inFlight = parts.partsInFlight(size);
          expect(inFlight).toBeGreaterThanOrEqual(2);
          expect(inFlight > 2 && (inFlight + 1) * size > BUFFER_BYTES_MAX_DEFAULT).toBe(false);
        }
      }),
      { numRuns: 60 },
    );
  });
});
