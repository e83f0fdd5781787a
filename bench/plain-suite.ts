import { own, pipeline } from './contender.ts';
import type { Suite } from './suite.ts';
import { speed } from './targets.ts';

/** A public key that nobody has the other half of; what is sealed here is thrown away. */
const AGE_RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';

const ZSTD = { BACKUP_COMPRESSION: 'zstd' };
const ZSTD_AGE = { ...ZSTD, BACKUP_ENCRYPTION: 'age', BACKUP_ENCRYPTION_KEY: AGE_RECIPIENT };

/** Plain dumps against pipelines of pg_dump. */
export const plainSuite: Suite = {
  name: 'plain',
  measured: 'sql',
  serverSettings: { wal_level: 'minimal', max_wal_senders: '0' },
  contenders(place, run) {
    const backup = (name: string, label: string, settings: Readonly<Record<string, string>>) =>
      own(place, {
        name,
        label,
        args: ['backup'],
        into: { sink: place.sinks.near, bucket: `${name}-${run}` },
        settings,
      });
    return [
      ...(['gzip', 'pigz -p2', 'zstd -3'] as const).map((compressor) => {
        const name = compressor.replace(/ .*/, '');
        return pipeline(place, `${name}-${run}`, name, compressor);
      }),
      backup('pgark-gzip', 'pgark backup', {}),
      backup('pgark-zstd', 'pgark backup (zstd)', ZSTD),
      backup('pgark-zstd-age', 'pgark backup (zstd, age)', ZSTD_AGE),
    ];
  },
  targets: [
    speed('pgark-gzip', 'gzip', 2),
    speed('pgark-gzip', 'pigz', 1.05),
    speed('pgark-zstd', 'gzip', 4),
    speed('pgark-zstd', 'zstd', 0.95),
  ],
};
