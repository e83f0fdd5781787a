/**
 * Ends a command with a status that is not an error's: what it had to say has been said. For commands whose statuses others
 * have fixed, such as Nagios and Docker.
 */
export class ExitStatus extends Error {
  override readonly name = 'ExitStatus';
  readonly status: number;

  constructor(status: number) {
    super(`ends with ${status}`);
    this.status = status;
  }
}

/** Returns for 0 and throws for all others. */
export function endWith(status: number): void {
  if (status !== 0) throw new ExitStatus(status);
}
