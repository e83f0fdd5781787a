import { formatBytes, GIB, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';

export const PART_BYTES_DEFAULT = 8 * MIB;
export const BUFFER_BYTES_MAX_DEFAULT = 128 * MIB;

/** Largest object of Amazon S3 that version 1 of the layout reckons with: 5 TiB. */
const OBJECT_BYTES_MAX = 5 * 1024 * GIB;
/** Parts of one size where nothing is known of the body and all parts must be equal: 312 GiB in 10,000 parts. */
const EQUAL_PART_BYTES_UNKNOWN = 32 * MIB;
/** What the store's cap would allow (5 GiB) is more than one write to a socket or one digest takes at once. */
const PART_BYTES_CEILING = 2 * GIB - MIB;
/** Share of the parts that an estimate may use up; the others are there for bodies larger than estimated. */
const ESTIMATED_SHARE = 0.7;
/** With equal parts nothing can be made good later, so that only rounding and small errors are allowed for. */
const EQUAL_ESTIMATED_SHARE = 0.9;
/** Of the memory for buffers, where several bodies share it: each of them has blocks on their way besides. */
export const SHARED_SHARE = 3 / 8;
const GROWTH_STEPS = 20;
/** No dump is taken to be smaller than this part of its upper estimate, however well it compresses. */
const ESTIMATE_RATIO_MAX = 20;
/** The cap with which growth reaches the largest object; a smaller one reaches a proportional part of it. */
const PART_COUNT_USUAL = 10_000;

export interface PartLimits {
  readonly partCountMax: number;
  readonly partBytesMin: number;
  readonly partBytesMax: number;
  readonly equalParts: boolean;
}

export interface PartPlanOptions {
  readonly limits: PartLimits;
  /** Smallest part wanted. */
  readonly partBytes: number;
  /** Upper estimate of the body's length. */
  readonly bytesEstimateMax?: number | undefined;
  /** Parts that may be on their way at once, while memory allows it. */
  readonly partsInFlight: number;
  /** Memory for all buffers; kept as long as three parts fit into it. */
  readonly bufferBytesMax: number;
  /**
   * Whether other bodies that are put at the same time share the memory. Each has one part in flight at least, then, and
   * not two, as the others are on their way meanwhile. Default: false.
   */
  readonly isShared?: boolean;
}

export interface PartPlan {
  /** Length of part 1, 2, 3 …; throws `store-failed` for a number beyond the store's cap. */
  partBytes(partNumber: number): number;
  /** Parts in flight while parts have this length: as wanted, less as parts grow, never below 2 of a body by itself. */
  partsInFlight(partBytes: number): number;
  /** Length of the longest body that fits. */
  readonly bytesMax: number;
  /**
   * What the estimate tells before the first byte: a warning if the body may not fit, which, compressed, may also be far
   * smaller than estimated. Throws `store-failed` if it surely does not fit.
   */
  foresee(): string | undefined;
}

/**
 * Decides part sizes so that the store's cap on parts is not met: one size from the estimate, and, where the store takes
 * parts of different sizes, growth in steps for what lies beyond it, or for everything where there is no estimate. The
 * sizes depend on nothing but the options. Memory follows the parts: an object of 5 TiB in 10,000 parts needs parts of
 * half a GiB, whatever the limit says.
 */
export function planParts(options: PartPlanOptions): PartPlan {
  const { bytesEstimateMax, bufferBytesMax, isShared = false } = options;
  const limits = { ...options.limits, partBytesMax: Math.min(options.limits.partBytesMax, PART_BYTES_CEILING) };
  const smallest = roundUp(Math.max(options.partBytes, PART_BYTES_DEFAULT, limits.partBytesMin));
  const share = limits.equalParts ? EQUAL_ESTIMATED_SHARE : ESTIMATED_SHARE;
  const estimatedCount = Math.max(1, Math.floor(limits.partCountMax * share));
  const unknown = limits.equalParts ? Math.max(smallest, EQUAL_PART_BYTES_UNKNOWN) : smallest;
  const wanted =
    bytesEstimateMax === undefined ? unknown : Math.max(smallest, roundUp(bytesEstimateMax / estimatedCount));
  const base = Math.min(wanted, limits.partBytesMax);
  const uniformCount = growthStart(limits, base, bytesEstimateMax === undefined ? 0 : estimatedCount);
  const steps = limits.equalParts ? [] : growthSteps(base, uniformCount, limits);
  const growing = limits.partCountMax - uniformCount;

  const sizeOf = (index: number): number => {
    if (index < uniformCount || steps.length === 0) return base;
    const step = Math.floor(((index - uniformCount) * steps.length) / growing);
    return steps[step] ?? base;
  };
  let bytesMax = 0;
  for (let index = 0; index < limits.partCountMax; index += 1) bytesMax += sizeOf(index);

  return {
    bytesMax,
    foresee() {
      if (bytesEstimateMax === undefined || bytesEstimateMax <= bytesMax) return undefined;
      if (bytesEstimateMax / ESTIMATE_RATIO_MAX > bytesMax) throw outOfParts(limits, base, bytesMax);
      return `the store takes no more than ${limits.partCountMax} parts of an object, ${formatBytes(bytesMax)} in all: this one may have up to ${formatBytes(bytesEstimateMax)}, and is given up if it does not fit`;
    },
    partBytes(partNumber) {
      if (partNumber > limits.partCountMax) throw outOfParts(limits, base, bytesMax);
      return sizeOf(partNumber - 1);
    },
    partsInFlight(partBytes) {
      // One buffer is being filled while the others are on their way.
      const affordable = Math.floor(bufferBytesMax / partBytes) - 1;
      return Math.max(isShared ? 1 : 2, Math.min(options.partsInFlight, affordable));
    },
  };
}

/** Number of parts of the first size before parts begin to grow. */
function growthStart(limits: PartLimits, base: number, estimatedCount: number): number {
  return limits.equalParts || base >= limits.partBytesMax ? limits.partCountMax : estimatedCount;
}

/** Sizes that rise by one ratio, the smallest with which the largest object fits into the parts that are left. */
function growthSteps(base: number, uniformCount: number, limits: PartLimits): readonly number[] {
  const perStep = (limits.partCountMax - uniformCount) / GROWTH_STEPS;
  if (perStep <= 0) return [];
  const sizes = (ratio: number): number[] =>
    Array.from({ length: GROWTH_STEPS }, (_, step) => Math.min(limits.partBytesMax, roundUp(base * ratio ** step)));
  const reach = (ratio: number): number =>
    uniformCount * base + sizes(ratio).reduce((sum, size) => sum + size * perStep, 0);
  const target = OBJECT_BYTES_MAX * Math.min(1, limits.partCountMax / PART_COUNT_USUAL);
  let low = 1;
  let high = 1024;
  if (reach(low) >= target) return sizes(low);
  while (high - low > 1e-4) {
    const middle = (low + high) / 2;
    if (reach(middle) >= target) high = middle;
    else low = middle;
  }
  return sizes(high);
}

function outOfParts(limits: PartLimits, partBytes: number, bytesMax: number): PgarkError {
  const hint =
    partBytes < limits.partBytesMax
      ? `set part_size in the storage’s section of the configuration file to ${Math.min(2 * partBytes, limits.partBytesMax) / MIB}MiB or more, and run the backup again`
      : 'no part size makes more fit: use another storage, a stronger compression, or leave data out (exclude_table_data)';
  return new PgarkError(
    'store-failed',
    `the object is larger than ${formatBytes(bytesMax)}, and the store takes no more than ${limits.partCountMax} parts of it`,
    { hint },
  );
}

/** Whole MiB, so that sizes are easy to recognise in a store's listing of parts. */
function roundUp(bytes: number): number {
  return Math.ceil(bytes / MIB) * MIB;
}
