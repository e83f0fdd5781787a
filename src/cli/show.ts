import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { newestProofs, type Proof, type Proofs } from '../operations/proofs.ts';
import { globalsOf, showBackup } from '../operations/show.ts';
import type { GlobalsRecord } from '../repository/globals.ts';
import { readAcceptedSizes } from '../repository/accepted-sizes.ts';
import { describeSuspicions, type Manifest, type ManifestObject } from '../repository/manifest.ts';
import { describeUnread } from '../repository/unread-tables.ts';
import { commandsByHand, stockCommand } from './by-hand.ts';
import { finding, ruleOf } from '../operations/find-across.ts';
import { action, type CliWorld } from './command.ts';
import { storageWith } from './find-storage.ts';
import { describeHolder, type Pinned, pinOf } from '../operations/pin.ts';
import { globalsJson, manifestJson, pinJson, proofsJson } from './json.ts';
import { filterFor } from './list.ts';
import { formatFacts, formatTime } from './table.ts';

export function registerShow(program: Command, world: CliWorld): void {
  const command = program
    .command('show')
    .summary('show one backup')
    .description('Shows what is known of a backup, and how to restore it with stock tools alone.')
    .argument('<backup>', 'latest, an id or a file name')
    .option('--database <name>', 'of this source or database, where the storage holds several')
    .option('--storage <name>', 'the storage to look in (default: the one of all that has it, or the newest)');
  action(command, world, async (run, [name], options) => {
    if (name === undefined)
      throw new PgarkError('usage', 'show needs to know which backup: latest, an id or a file name');
    const config = await run.config(['storage']);
    const selector = name === 'latest' ? ({ kind: 'latest' } as const) : ({ kind: 'name', name } as const);
    const filter = filterFor(config, typeof options.database === 'string' ? options.database : undefined);
    const { store, json } = await storageWith(run, config, options, {
      find: finding(selector, filter),
      rule: ruleOf(selector),
    });
    const manifest = await showBackup({ store, selector, filter }, run.context(config));
    const globals = await globalsOf(store, manifest, { signal: world.signal });
    const accepted = manifest.suspicions && (await readAcceptedSizes(store, { signal: world.signal })).has(manifest.id);
    const proofs = (await newestProofs(store, [manifest], run.context(config))).get(manifest.id) ?? {};
    const pinned = await pinOf(store, manifest.id, run.context(config));
    run.result(
      {
        ...json,
        backup: {
          ...manifestJson(manifest),
          ...(accepted === undefined ? {} : { suspicious: !accepted }),
          pinned: pinned.isPinned,
          ...(pinned.pin && { pin: pinJson(pinned.pin) }),
          proofs: proofsJson(proofs),
        },
        ...(globals && { globals: globalsJson(globals) }),
      },
      () =>
        describe(manifest, { proofs, accepted, pinned }, store.location) +
        (globals === undefined ? '' : describeGlobals(globals)),
    );
  });
}

/** What was found out of a backup since it was made. */
interface Found {
  readonly proofs: Proofs;
  /** Undefined for one that was never suspicious. */
  readonly accepted: boolean | undefined;
  readonly pinned: Pinned;
}

function describe(manifest: Manifest, { proofs, accepted, pinned }: Found, location: string): string {
  const { database, server, encryption, compression } = manifest;
  const unread = describeUnread(manifest);
  const facts = formatFacts([
    ['id', manifest.id],
    ['format', manifest.format],
    ['source', manifest.source],
    [
      manifest.format === 'physical' ? 'taken by' : 'database',
      `${database.name} (owner ${database.owner}, ${database.encoding}, ${database.locale ?? database.collation})`,
    ],
    [
      'server',
      `PostgreSQL ${server.version} at ${server.host}:${server.port}${server.inRecovery ? ', a standby' : ''}`,
    ],
    ['system identifier', server.systemIdentifier],
    ['client', `${manifest.client.program} ${manifest.client.version}`],
    ['taken', formatTime(manifest.startedAt)],
    ['took', formatDuration(Date.parse(manifest.endedAt) - Date.parse(manifest.startedAt))],
    [
      'holds',
      manifest.totals === undefined
        ? undefined
        : `${manifest.totals.objects} files, ${formatBytes(manifest.totals.storedBytes)} stored, ${formatBytes(manifest.totals.plainBytes)} plain`,
    ],
    ['compression', compression.algorithm === 'none' ? 'none' : `${compression.algorithm}, level ${compression.level}`],
    ['encryption', encryption ? `${encryption.scheme}, key ${encryption.keyFingerprints.join(', ')}` : 'none'],
    ['changes since', manifest.parents.length === 0 ? undefined : `${manifest.parents.join(', ')}, which it needs`],
    ['timeline', manifest.timeline === undefined ? undefined : String(manifest.timeline)],
    [
      'WAL needed',
      manifest.walNeeded &&
        `${manifest.startLsn} to ${manifest.stopLsn}, ${manifest.walNeeded.from} to ${manifest.walNeeded.to}`,
    ],
    [
      'tablespaces',
      manifest.tablespaces?.map(({ oid, location: place }) => `${oid} at ${place}`).join(', ') || undefined,
    ],
    ['suspicious', describeSize(manifest, accepted)],
    ['pinned', describePinned(pinned)],
    ['verified', describeProof(proofs.verify)],
    ['drilled', describeProof(proofs.drill)],
    ['left out', manifest.excluded.length > 0 ? manifest.excluded.join(', ') : undefined],
    ['has no rows of', unread && `${unread} (unlogged, and it was taken from a standby)`],
    ['run', manifest.runId],
    ['written by', `pgark ${manifest.pgarkVersion}`],
    ['storage', location],
  ]);
  const byHand = commandsByHand(manifest, location);
  const objects = manifest.objects.map(
    (object) =>
      `\n${object.key}\n${formatFacts([
        [
          '  stored',
          `${formatBytes(object.storedBytes)} (${object.storedBytes} bytes), SHA-256 ${object.storedSha256}`,
        ],
        ['  plain', describePlain(object)],
        ['  confirmed', object.confirmedBy],
        ['  by hand', byHand === undefined ? stockCommand(manifest, object) : undefined],
      ])}`,
  );
  const sequence =
    byHand === undefined ? '' : `\nby hand, with stock tools\n${byHand.map((line) => `  ${line}\n`).join('')}`;
  return facts + objects.join('') + sequence;
}

function describeSize(manifest: Manifest, accepted: boolean | undefined): string | undefined {
  const why = describeSuspicions(manifest);
  if (why === undefined) return undefined;
  return accepted === true ? `no longer: its size was accepted (${why})` : why;
}

function describePinned({ isPinned, pin }: Pinned): string | undefined {
  if (pin === undefined) return isPinned ? 'yes' : undefined;
  return `${formatTime(pin.pinnedAt)} by ${describeHolder(pin)}${pin.reason === undefined ? '' : `: ${pin.reason}`}`;
}

function describePlain({ plainBytes, plainSha256 }: ManifestObject): string {
  const size = `${formatBytes(plainBytes)} (${plainBytes} bytes)`;
  return plainSha256 === undefined
    ? `${size}; its files have their SHA-256 in the backup_manifest`
    : `${size}, SHA-256 ${plainSha256}`;
}

function describeProof(proof: Proof | undefined): string | undefined {
  if (proof === undefined) return undefined;
  if (proof.passed === 'unknown')
    return `${formatTime(proof.at)}, which cannot be read: it is damaged, or of a newer pgark`;
  if (proof.passed === 'stored') return `${formatTime(proof.at)}, as it is stored: no key opened it`;
  return `${formatTime(proof.at)}${proof.passed ? '' : ', and FAILED'}`;
}

function describeGlobals({ counts, leftOut, object, startedAt, ...globals }: GlobalsRecord): string {
  const missing = [
    ...(leftOut.passwords ? ['passwords'] : []),
    ...(leftOut.hiddenRoles > 0 ? [`${leftOut.hiddenRoles} roles that the server does not show`] : []),
  ];
  return `\n${object.key}\n${formatFacts([
    ['  holds', `${counts.roles} roles, ${counts.tablespaces} tablespaces, and the settings of databases`],
    ['  left out', missing.length > 0 ? missing.join(', ') : undefined],
    ['  taken', formatTime(startedAt)],
    ['  stored', `${formatBytes(object.storedBytes)} (${object.storedBytes} bytes), SHA-256 ${object.storedSha256}`],
    ['  restore', `pgark restore ${globals.id} --globals --to-url URL`],
    ['  by hand', stockCommand(globals, object, 'psql -X -d postgres')],
  ])}`;
}
