import { z } from 'zod';
import { MIB } from '../common/bytes.ts';
import { defined } from './defined.ts';
import {
  durationMs,
  flag,
  integer,
  listenAddress,
  percentRatio,
  schedule,
  secretKeys,
  sizeBytes,
  strict,
  text,
  texts,
} from './schema-parts.ts';

/** What is told where nothing else is said: what is wrong, and its end. */
export const defaultEventNames = [
  'failure',
  'recovery',
  'overdue',
  'verify_failed',
  'drill_failed',
  'wal_gap',
  'wal_lag',
  'wal_slot',
] as const;
export const eventNames = ['start', 'success', ...defaultEventNames] as const;

const events = z.array(z.enum([...eventNames, '*'])).optional();
const common = {
  on: events.describe(
    'Events to tell of; "*" for all. Default: failure, recovery, overdue, verify_failed, drill_failed, wal_gap, wal_lag, wal_slot.',
  ),
  remind_every: durationMs.optional().describe('Repeat a failure that lasts, this often. Default: never.'),
};

/** A ping has nobody to read it. */
const readable = {
  ...common,
  digest: schedule
    .optional()
    .describe('Send a summary at these times: what is protected, what was done, what is to be done. Default: never.'),
};

export const notificationSection = z.discriminatedUnion('type', [
  strict({ type: z.literal('slack'), ...secretKeys('url', 'Incoming webhook of Slack.'), ...readable }),
  strict({ type: z.literal('discord'), ...secretKeys('url', 'Webhook of Discord.'), ...readable }),
  strict({
    type: z.literal('webhook'),
    ...secretKeys('url', 'Receives a JSON body; Slack’s and Discord’s addresses get theirs.'),
    ...secretKeys('secret', 'Signs the body as Standard Webhooks defines it: whsec_ and base64.'),
    ...readable,
  }),
  strict({
    type: z.literal('ntfy'),
    ...secretKeys('url', 'Topic of an ntfy server.'),
    ...secretKeys('token', 'Access token of ntfy.'),
    ...readable,
  }),
  strict({
    type: z.literal('healthchecks'),
    ...secretKeys('url', 'Ping URL; /start and /fail are appended.'),
    send_log: sizeBytes.optional().describe('Send the last part of the log with the ping.'),
    ...common,
    on: events.describe('Events to ping for; "*" for all. Default: start, success, failure.'),
  }),
  strict({
    type: z.literal('telegram'),
    ...secretKeys('token', 'Token of the bot.'),
    chat: text.describe('Chat id.'),
    ...readable,
  }),
  strict({
    type: z.literal('email'),
    smtp: text.describe('smtp://host:587 or smtps://user@host:465.'),
    ...secretKeys('password', 'Password for the mail server.'),
    from: text.optional().describe('Sender. Default: the first recipient.'),
    to: texts.min(1).describe('Recipients.'),
    ...readable,
  }),
]);

const roles = z
  .partialRecord(z.enum(['admin', 'operator', 'viewer']), texts)
  .optional()
  .describe('Groups that have each role; "*" is everybody who is signed in.');

export const serverSection = strict({
  listen: listenAddress.optional().describe('Address of health and metrics. Default: 127.0.0.1:8080.'),
  public_url: text.optional().describe('How people reach the dashboard; used in links.'),
  stop_grace: durationMs
    .optional()
    .describe('How long running jobs may go on after SIGTERM before they are aborted. Default: 5s.'),
  auth: strict({
    mode: z.enum(['password', 'oidc', 'proxy']).describe('How people sign in.'),
    oidc: strict({
      issuer: text.describe('URL of the identity provider.'),
      client_id: text.describe('Client id.'),
      ...secretKeys('client_secret', 'Client secret.'),
      roles,
    }).optional(),
    proxy: strict({
      user_header: text.describe('Header that carries the user name.'),
      groups_header: text.optional().describe('Header that carries the groups.'),
      trusted: texts.min(1).describe('Networks of the proxies, as CIDR.'),
      roles,
    }).optional(),
  })
    .superRefine((auth, context) => {
      for (const mode of ['oidc', 'proxy'] as const) {
        if ((auth.mode === mode) === (auth[mode] !== undefined)) continue;
        const message = auth.mode === mode ? `mode ${mode} needs the section ${mode}` : `${mode} is not the mode`;
        context.addIssue({ code: 'custom', path: [mode], message });
      }
    })
    .optional(),
});

export const tracesSection = strict({
  url: text
    .optional()
    .describe('Receiver of OTLP over HTTP: http://localhost:4318/v1/traces. Default: no traces are sent.'),
  ...secretKeys('headers', 'Headers for it: name=value,name=value, percent-encoded.'),
  service_name: text.optional().describe('Name of the service in them. Default: pgark.'),
  enabled: flag.optional().describe('false sends none. Default: true.'),
});

/** A receiver that waits for nothing would have no time for anything else. */
const FLUSH_MS_MIN = 1_000;
/** A budget of nothing would be used up by every slot. */
const SLOT_BUDGET_BYTES_MIN = MIB;

export const walSection = strict({
  slot: text
    .regex(/^[a-z0-9_]{1,63}$/, 'must be 1 to 63 lower-case letters, digits and underscores')
    .optional()
    .describe('Replication slot; made if it is not there. Default: pgark_ and the name of the database.'),
  to: texts.optional().describe('Storages for the WAL. Default: the only one.'),
  flush: durationMs
    .refine((ms) => ms >= FLUSH_MS_MIN, 'must be at least 1s; synchronous stores WAL as it comes')
    .optional()
    .describe('Longest time that WAL waits before it is stored, at least 1s. Default: 10s.'),
  slot_budget: sizeBytes
    .refine((bytes) => bytes >= SLOT_BUDGET_BYTES_MIN, 'must be at least 1MiB')
    .optional()
    .describe(
      'WAL that the slot may hold back on the server: an alarm at three quarters of it, and at all of it the slot is dropped. Default: no limit.',
    ),
  keep: durationMs
    .optional()
    .describe(
      'How far back any moment can be recovered; of older WAL only what base backups need stays. Carried out with the retention of physical jobs, and by pgark prune. Default: as far as the oldest base backup.',
    ),
  synchronous: flag.optional().describe('Act as a synchronous standby. Default: false.'),
}).transform((wal) => {
  const to: readonly string[] = wal.to ?? [];
  return defined({
    slot: wal.slot,
    to,
    flushMs: wal.flush ?? 10_000,
    slotBudgetBytes: wal.slot_budget,
    keepMs: wal.keep,
    synchronous: wal.synchronous ?? false,
  });
});

export const verifySection = strict({
  schedule: schedule.optional().describe('When backups are verified.'),
  sample: percentRatio
    .refine((ratio) => ratio > 0 && ratio <= 1, 'must be more than 0% and at most 100%')
    .optional()
    .describe('Share of the stored bytes that is read each time, besides the newest backups. Default: 100%.'),
}).transform((verify) => defined({ schedule: verify.schedule, sampleRatio: verify.sample ?? 1 }));

const bound = z.union([z.number(), z.boolean(), z.string()]);
const assertion = strict({
  sql: text.describe('A query; the first column of each of its rows counts, and there has to be one.'),
  min: z.number().optional().describe('Smallest acceptable result.'),
  max: z.number().optional().describe('Largest acceptable result.'),
  equals: bound.optional().describe('The only acceptable result. Default, without min and max: true.'),
}).transform((check) => defined(check));

export const drillSection = strict({
  schedule: schedule.optional().describe('When a test restore runs.'),
  point: z
    .enum(['latest', 'random'])
    .optional()
    .describe(
      'The newest backup with all that is archived behind it; or a random moment of the recovery window, of dumps a random one. Default: latest.',
    ),
  memory: sizeBytes.optional().describe('Memory that the scratch server may take, by and large. Default: 512MiB.'),
  work_dir: text
    .optional()
    .describe('Folder with room for all that is restored. Default: the system’s for temporary files.'),
  assertions: z.array(assertion).optional().describe('What must be true of the restored database.'),
  max_restore_time: durationMs.optional().describe('The drill fails if the restore takes longer.'),
}).transform((drill) =>
  defined({
    schedule: drill.schedule,
    point: drill.point ?? ('latest' as const),
    memoryBytes: drill.memory,
    workDir: drill.work_dir,
    assertions: drill.assertions ?? [],
    maxRestoreTimeMs: drill.max_restore_time,
  }),
);

const hook = strict({
  run: texts.min(1).describe('Program and arguments; no shell.'),
  timeout: durationMs.optional().describe('Default: 1m.'),
  on_error: z.enum(['abort', 'warn']).optional().describe('Default: abort.'),
}).transform((entry) => ({
  run: entry.run,
  timeoutMs: entry.timeout ?? 60_000,
  onError: entry.on_error ?? ('abort' as const),
}));
const hooks = z.array(hook).optional();

export const hooksSection = strict({
  before_backup: hooks.describe('Run before a backup.'),
  after_backup: hooks.describe('Run after a backup, whatever came of it.'),
  before_restore: hooks.describe('Run right before a restore touches its target.'),
  after_restore: hooks.describe('Run after a restore that had begun, whatever came of it.'),
}).transform((all) => ({
  beforeBackup: all.before_backup ?? [],
  afterBackup: all.after_backup ?? [],
  beforeRestore: all.before_restore ?? [],
  afterRestore: all.after_restore ?? [],
}));

export const expectSection = strict({
  max_age: durationMs
    .optional()
    .describe(
      'The newest backup may be this old, of whatever format; older is overdue. Jobs that run more rarely keep to their schedules.',
    ),
  min_size: sizeBytes
    .optional()
    .describe(
      'A full backup of fewer bytes before compression and encryption is suspicious: it is kept, and nothing is pruned.',
    ),
  size_change: percentRatio
    .optional()
    .describe('So is one that differs by more than this from the last good one of its format in the same storage.'),
}).transform((expected) =>
  defined({
    maxAgeMs: expected.max_age,
    minSizeBytes: expected.min_size,
    sizeChangeRatio: expected.size_change,
  }),
);

export const retrySection = strict({
  attempts: integer(0, 100).optional().describe('Retries after the first try. Default: 3.'),
  delay: durationMs.optional().describe('Wait before the first retry; doubles each time. Default: 5s.'),
  max_delay: durationMs.optional().describe('Longest wait. Default: 10m.'),
});
