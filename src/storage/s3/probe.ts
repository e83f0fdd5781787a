import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListObjectsV2Command,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { isPgarkError, type PgarkError } from '../../common/errors.ts';
import { allOf } from '../../common/in-parallel.ts';
import { silentLogger } from '../../common/log.ts';
import type { WriteCondition } from '../object-store.ts';
import { abandonUpload, cleaningUp } from './abandon.ts';
import { ANSWER_MS, patientAbort, type S3Calls } from './calls.ts';
import { failureOf, isConditionFailed, isTransient } from './failures.ts';
import { abortUpload, assertListing } from './listing.ts';
import type { OpenUpload } from './parts.ts';
import { probePrefix, removeProbeLeftovers } from './probe-leftovers.ts';
import type { S3Profile } from './profile.ts';
import type { ProviderFacts } from './provider.ts';
import { deleteObject, headObject, type IfMatchStyle, putObject } from './small-objects.ts';
import { bareEtag, compositeEtag, crc32Base64, md5Base64, md5Hex } from './wire.ts';

export interface ProbeResult {
  readonly profile: S3Profile;
  /** Why the probe's own object could not be deleted, if so. */
  readonly deleteFailure: PgarkError | undefined;
}

const probeBytes = Buffer.from('pgark probes what this store can do; this object may be deleted\n');

/** Rejects unless the bucket is there and its objects may be listed. */
export async function probeReach(calls: S3Calls, prefix: string, signal: AbortSignal | undefined): Promise<void> {
  const page = await calls.run({ action: 's3:ListBucket', signal }, (client, options) =>
    client.send(new ListObjectsV2Command({ Bucket: calls.bucket, Prefix: prefix, MaxKeys: 1 }), options),
  );
  assertListing(calls, page);
}

/** What holds of every store, for those who may only read: nothing is relied on that was not tried. */
export function cautiousProfile(calls: S3Calls, facts: ProviderFacts): S3Profile {
  return {
    conditionalWrites: false,
    partCountMax: facts.partCountMax,
    partBytesMin: facts.partBytesMin,
    partBytesMax: facts.partBytesMax,
    equalParts: facts.equalParts,
    partChecksum: 'length',
    clockSkewMs: calls.storeClock.skewMs ?? 0,
    createsIfAbsent: false,
    ifMatchStyle: undefined,
    completesIfAbsent: false,
    etagIsMd5: false,
    etagIsComposite: false,
  };
}

/**
 * Finds out by trying, on objects of its own below `.pgark/`, which are removed again: whether uploads may be opened
 * and aborted, how the store confirms parts, and which conditions it keeps. A condition that a store ignores looks like
 * success, so that each is tried where it must fail, and raced where two must not both win. What does not depend on one
 * another is tried side by side: with a distant store it is the waiting that a probe takes. What old probes left is
 * removed meanwhile. An abort cuts nothing off for some seconds, in which a store that answers is done: what was cut off
 * might arrive after all has been removed.
 */
export async function probeWrites(
  calls: S3Calls,
  facts: ProviderFacts,
  options: { readonly prefix: string; readonly staleMs: number; readonly signal: AbortSignal | undefined },
): Promise<ProbeResult> {
  const { prefix, staleMs } = options;
  const stop = patientAbort(options.signal, calls.clock, ANSWER_MS);
  const { signal } = stop;
  const newKey = (): string => `${probePrefix(prefix)}${Buffer.from(calls.random.bytes(8)).toString('hex')}`;
  const key = newKey();
  const roundKeys = Array.from({ length: ROUNDS }, newKey);
  const own = [key, ...roundKeys];
  let deleteFailure: PgarkError | undefined;
  let profile: S3Profile;
  try {
    // Outside of what is cleaned up after: who may not even open an upload has written nothing.
    const upload = await openUpload(calls, key, signal);
    const leftovers = removeProbeLeftovers(calls, { prefix, staleMs, own, signal });
    try {
      profile = await tryAll(calls, upload, { facts, roundKeys, signal });
    } finally {
      const what = { event: 'store.probe-left', message: 'an object of the storage probe could not be removed', key };
      await cleaningUp(calls, what, async (cleanUpSignal) => {
        try {
          await allOf(own.map((each) => deleteObject(calls, each, cleanUpSignal)));
        } catch (error) {
          if (isPgarkError(error)) deleteFailure = error;
          throw error;
        }
      });
      await leftovers;
    }
  } finally {
    await stop.end();
  }
  options.signal?.throwIfAborted();
  return { profile, deleteFailure };
}

async function tryAll(
  calls: S3Calls,
  upload: ProbeUpload,
  by: {
    readonly facts: ProviderFacts;
    readonly roundKeys: readonly string[];
    readonly signal: AbortSignal | undefined;
  },
): Promise<S3Profile> {
  const { facts, roundKeys, signal } = by;
  const { key } = upload;
  const [[parts, createsIfAbsent, completes], ifMatchStyle] = await allOf([
    tryWrites(calls, upload, signal),
    tryIfMatch(calls, roundKeys, signal),
    // A right of its own, which every failed backup needs.
    openUpload(calls, key, signal).then((second) => abortUpload(calls, second, signal)),
  ]);
  return {
    ...cautiousProfile(calls, facts),
    ...completes,
    createsIfAbsent,
    ifMatchStyle,
    conditionalWrites: createsIfAbsent && ifMatchStyle !== undefined,
    partChecksum: parts.checksum,
    etagIsMd5: parts.etagIsMd5,
  };
}

/** A part, an object that must not be there yet, and the upload's completion where one is there. */
async function tryWrites(
  calls: S3Calls,
  upload: ProbeUpload,
  signal: AbortSignal | undefined,
): Promise<[PartTrial, boolean, CompleteTrial]> {
  try {
    const [parts, createsIfAbsent] = await allOf([
      tryPart(calls, upload, signal),
      tryCreation(calls, upload.key, signal),
    ]);
    return [parts, createsIfAbsent, await tryComplete(calls, upload, parts, createsIfAbsent, signal)];
  } catch (error) {
    await abandonUpload(calls, upload);
    throw error;
  }
}

interface ProbeUpload extends OpenUpload {
  readonly crc32: boolean;
}

/** Asks for CRC-32 first; a store that does not know it may refuse the header. */
async function openUpload(calls: S3Calls, key: string, signal: AbortSignal | undefined): Promise<ProbeUpload> {
  const open = async (crc32: boolean): Promise<ProbeUpload> => {
    const output = await calls.run({ action: 's3:PutObject', key, signal }, (client, options) =>
      client.send(
        new CreateMultipartUploadCommand({
          Bucket: calls.bucket,
          Key: key,
          ...(crc32 ? { ChecksumAlgorithm: 'CRC32' as const } : {}),
        }),
        options,
      ),
    );
    return { key, uploadId: output.UploadId ?? '', writeId: '', crc32 };
  };
  try {
    return await open(true);
  } catch (error) {
    if (!isPgarkError(error, 'store-failed')) throw error;
    return open(false);
  }
}

interface PartTrial {
  readonly checksum: S3Profile['partChecksum'];
  readonly etagIsMd5: boolean;
  readonly etag: string;
}

async function tryPart(calls: S3Calls, upload: ProbeUpload, signal: AbortSignal | undefined): Promise<PartTrial> {
  const crc32 = crc32Base64(probeBytes);
  const send = (withCrc32: boolean): Promise<{ ETag?: string | undefined; ChecksumCRC32?: string | undefined }> =>
    calls.run({ action: 's3:PutObject', key: upload.key, signal }, (client, options) =>
      client.send(
        new UploadPartCommand({
          Bucket: calls.bucket,
          Key: upload.key,
          UploadId: upload.uploadId,
          PartNumber: 1,
          Body: probeBytes,
          ContentLength: probeBytes.byteLength,
          ...(withCrc32 ? { ChecksumCRC32: crc32 } : { ContentMD5: md5Base64(probeBytes) }),
        }),
        options,
      ),
    );
  const output = await send(upload.crc32).catch((error: unknown) => {
    if (!upload.crc32 || !isPgarkError(error, 'store-failed')) throw error;
    return send(false);
  });
  const etag = bareEtag(output.ETag);
  const etagIsMd5 = etag === md5Hex(probeBytes);
  const checksum = output.ChecksumCRC32 === crc32 ? 'crc32' : etagIsMd5 ? 'md5' : 'length';
  return { checksum, etagIsMd5, etag };
}

/**
 * A store that compares first and writes later lets several win, but not each time: all racers have to come one after
 * the other, in each round, to deceive.
 */
const RACERS = 4;
const ROUNDS = 2;

/**
 * Racing writers make some stores fail for a moment (Ceph 16: 500): here that is expected, and asked about again at once
 * and without a word. Whether the first try won is told by its mark.
 */
const RACE_RETRIES = { retriesMax: 5, delayMs: 50, delayMsMax: 1_000 } as const;

type RacingPut = (key: string, text: string, condition?: WriteCondition, style?: IfMatchStyle) => Promise<string>;

/** Puts a line of text, answers with its ETag, and asks again where the store was only in the way of itself. */
function racingPut(calls: S3Calls, signal: AbortSignal | undefined): RacingPut {
  const racing = calls.with({ policy: RACE_RETRIES, logger: silentLogger });
  return async (key, text, condition, ifMatchStyle = 'quoted') => {
    const body = Buffer.from(`${text}\n`);
    return (await putObject(racing, { key, body, condition, ifMatchStyle, signal })).etag;
  };
}

async function oneWins(
  calls: S3Calls,
  write: (racer: number) => Promise<string>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const puts = Array.from({ length: RACERS }, (_, racer) => write(racer));
  const { winners, losers } = await race(calls, puts, signal);
  return winners === 1 && losers === RACERS - 1;
}

/** Whether of several who create an object one wins. Leaves an object under the key. */
async function tryCreation(calls: S3Calls, key: string, signal: AbortSignal | undefined): Promise<boolean> {
  const put = racingPut(calls, signal);
  return oneWins(calls, (racer) => put(key, `creator ${racer}`, { ifAbsent: true }), signal);
}

/** How `If-Match` has to be written so that of several who replace an object one wins. One round on each key. */
async function tryIfMatch(
  calls: S3Calls,
  roundKeys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<IfMatchStyle | undefined> {
  const put = racingPut(calls, signal);
  for (const style of ['quoted', 'bare'] as const) {
    const works = await allOf(
      roundKeys.map(async (key, round) => {
        const before = await put(key, `before ${style} ${round}`);
        const update = (racer: number): Promise<string> =>
          put(key, `updater ${style} ${round} ${racer}`, { ifMatch: before }, style);
        if (!(await oneWins(calls, update, signal))) return false;
        const stale = await race(calls, [put(key, `stale ${style}`, { ifMatch: before }, style)], signal);
        return stale.losers === 1;
      }),
    );
    if (works.every(Boolean)) return style;
  }
  return undefined;
}

/** Counts who won, and who lost because of the condition; a store that refuses the header counts as neither. */
async function race(
  calls: S3Calls,
  puts: readonly Promise<string>[],
  signal: AbortSignal | undefined,
): Promise<{ readonly winners: number; readonly losers: number }> {
  let winners = 0;
  let losers = 0;
  for (const outcome of await Promise.allSettled(puts)) {
    signal?.throwIfAborted();
    if (outcome.status === 'fulfilled') winners += 1;
    else if (isPgarkError(outcome.reason, 'store-condition-failed')) losers += 1;
    else if (!isPgarkError(outcome.reason, 'store-failed'))
      throw calls.errorOf(outcome.reason, { action: 's3:PutObject' });
  }
  return { winners, losers };
}

interface CompleteTrial {
  readonly completesIfAbsent: boolean;
  readonly etagIsComposite: boolean;
}

/** The key is taken by now: a conditional Complete has to fail, the one after it succeeds. */
async function tryComplete(
  calls: S3Calls,
  upload: ProbeUpload,
  part: PartTrial,
  createsIfAbsent: boolean,
  signal: AbortSignal | undefined,
): Promise<CompleteTrial> {
  const request = { action: 's3:PutObject', key: upload.key, signal } as const;
  const sent = {
    PartNumber: 1,
    ETag: part.etag,
    ...(part.checksum === 'crc32' ? { ChecksumCRC32: crc32Base64(probeBytes) } : {}),
  };
  const complete = async (condition: { IfNoneMatch?: string }): Promise<'done' | 'condition' | 'refused'> => {
    const input = {
      Bucket: calls.bucket,
      Key: upload.key,
      UploadId: upload.uploadId,
      MultipartUpload: { Parts: [sent] },
    };
    try {
      await calls.retrying(request, () =>
        calls.once(request, (client, options) =>
          client.send(new CompleteMultipartUploadCommand({ ...input, ...condition }), options),
        ),
      );
      return 'done';
    } catch (error) {
      signal?.throwIfAborted();
      if (isConditionFailed(error)) return 'condition';
      if (isTransient(error) || failureOf(error).status === undefined) throw calls.errorOf(error, request);
      return 'refused';
    }
  };
  const conditional = createsIfAbsent ? await complete({ IfNoneMatch: '*' }) : 'refused';
  if (conditional !== 'done' && (await complete({})) !== 'done') {
    await abandonUpload(calls, upload);
    return { completesIfAbsent: conditional === 'condition', etagIsComposite: false };
  }
  const head = await headObject(calls, upload.key, signal);
  const expected = part.etagIsMd5 ? compositeEtag([part.etag]) : undefined;
  return {
    completesIfAbsent: conditional === 'condition',
    etagIsComposite: expected !== undefined && head?.etag === expected,
  };
}
