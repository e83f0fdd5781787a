import type { Run } from '../runs/run.ts';

/** The application_name of all sessions of a restore, by which those that are lost are found. */
export function applicationNameOf({ id }: Pick<Run, 'id'>): string {
  return `pgark restore ${id}`;
}
