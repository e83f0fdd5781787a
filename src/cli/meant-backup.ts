import type { Config, SourceConfig } from '../config/model.ts';

/** What is certainly no database: latest, an id, or a file as backups are called. */
const NAMES_A_BACKUP = /^latest$|^\d{8}T\d{6}Z-\w+$|\.(sql|dump|dmp|gz|zst|age|enc|gpg)$/;

export function namesBackup(name: string): boolean {
  return NAMES_A_BACKUP.test(name);
}

export function onlySource(config: Config): SourceConfig | undefined {
  const [only, another] = config.databases.values();
  return another === undefined ? only : undefined;
}
