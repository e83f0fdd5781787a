/** What BACKUP_STORAGE names. */
export type Target =
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 's3'; readonly bucket: string; readonly prefix: string }
  | { readonly type: 'rclone'; readonly remote: string };

/** Reads `file:///dir`, `file:dir`, `s3://bucket/prefix` or `rclone:remote:path`; undefined for anything else. */
export function parseTarget(text: string): Target | undefined {
  const fileUrl = /^file:\/\/(?:localhost)?(\/.*)$/s.exec(text);
  if (fileUrl?.[1] !== undefined) {
    try {
      return { type: 'file', path: decodeURIComponent(fileUrl[1]) };
    } catch {
      return undefined;
    }
  }
  const file = /^file:(?!\/\/)(.+)$/s.exec(text);
  if (file?.[1] !== undefined) return { type: 'file', path: file[1] };
  const rclone = /^rclone:([^:/][^:]*:.*)$/s.exec(text);
  if (rclone?.[1] !== undefined) return { type: 'rclone', remote: rclone[1] };
  const bucket = splitBucketUrl(text);
  return bucket === undefined ? undefined : { type: 's3', ...bucket };
}

export function splitBucketUrl(text: string): { readonly bucket: string; readonly prefix: string } | undefined {
  const match = /^s3:\/\/([^/@?#\s]+)(?:\/(.*))?$/s.exec(text);
  return match?.[1] === undefined ? undefined : { bucket: match[1], prefix: match[2] ?? '' };
}
