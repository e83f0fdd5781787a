import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { PhysicalObjects } from '../../src/formats/physical/physical-objects.ts';
import type { ServerFolder } from './physical.ts';

const signal = new AbortController().signal;

/** Unpacks a stored base backup with tar, tablespaces linked as pg_combinebackup wants them. */
export async function unpackWithTar(objects: PhysicalObjects, folder: ServerFolder, directory: string): Promise<void> {
  await folder.makeFolder(directory);
  for (const { oid, object } of objects.archives()) {
    const archive = folder.join(`${path.basename(directory)}-${oid ?? 'base'}.tar`);
    await writeFile(archive, objects.read(object, { signal }), { mode: 0o644 });
    const place = oid === undefined ? directory : folder.join(`${path.basename(directory)}-${oid}`);
    if (oid !== undefined) await folder.makeFolder(place);
    await folder.run('tar', ['-xf', archive, '-C', place], '/usr/bin');
  }
  for (const { oid } of objects.archives()) {
    if (oid === undefined) continue;
    await mkdir(path.join(directory, 'pg_tblspc'), { recursive: true });
    await symlink(folder.join(`${path.basename(directory)}-${oid}`), path.join(directory, 'pg_tblspc', oid));
  }
  const manifest = objects.read(objects.named('backup_manifest'), { signal });
  await writeFile(path.join(directory, 'backup_manifest'), manifest, { mode: 0o644 });
}

/** Digests of all files below, by path; of folders nothing. Links of tablespaces are followed. */
export async function filesBelow(directory: string, below = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await readdir(path.join(directory, below))) {
    const each = path.join(below, name);
    const full = path.join(directory, each);
    const stat = await lstat(full);
    if (stat.isSymbolicLink()) Object.assign(found, prefixed(each, await filesBelow(await readlink(full))));
    else if (stat.isDirectory()) Object.assign(found, await filesBelow(directory, each));
    else
      found[each] = `${stat.size} ${createHash('sha256')
        .update(await readFile(full))
        .digest('hex')}`;
  }
  return found;
}

function prefixed(folder: string, files: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([name, digest]) => [path.join(folder, name), digest]));
}
