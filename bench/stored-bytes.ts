/** Bytes of all objects in a bucket, pgark's state objects too. */
export async function storedBytes(endpoint: string, bucket: string): Promise<number> {
  const response = await fetch(`${endpoint}/${bucket}?list-type=2`);
  const listing = await response.text();
  return [...listing.matchAll(/<Size>(\d+)<\/Size>/gu)].reduce((sum, [, size]) => sum + Number(size), 0);
}
