import { nearest } from '../common/nearest.ts';

/** The candidate that was most likely meant; undefined if none is near. */
export function likelyMeant(text: string, candidates: Iterable<string>): string | undefined {
  return nearest(text, [...candidates], 1)[0];
}

/** `; did you mean "bucket"?`, or `; known are a, b and c` where nothing is near, or nothing where nothing is known. */
export function didYouMean(text: string, candidates: Iterable<string>): string {
  const known = [...candidates];
  const near = likelyMeant(text, known);
  if (near !== undefined) return `; did you mean "${near}"?`;
  return known.length > 0 && known.length <= 12 ? `; known here: ${known.join(', ')}` : '';
}
