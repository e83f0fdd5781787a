import type { ByteStream } from '../../common/bytes.ts';
import { sendCopy } from '../protocol/copy-in.ts';
import type { ReplicationSession } from './replication-session.ts';

/**
 * Gives the server the backup_manifest of an earlier backup, which the next incremental one of this session is then relative
 * to. PostgreSQL 17 and newer. Errors: `postgres-…`, also for one that is of another system; and those of the source.
 */
export async function uploadManifest(
  session: ReplicationSession,
  manifest: ByteStream,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  await sendCopy((answer) => session.converse('UPLOAD_MANIFEST')(answer), manifest, options);
}
