import { execFile } from 'node:child_process';
import { cp, symlink } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { TempDirectory } from './temp.ts';

const checkout = path.resolve(import.meta.dirname, '../..');

/**
 * Builds the checkout into a folder as an installed package has it, on the packages and the Node.js of the checkout.
 * Returns the path of its launcher.
 */
export async function buildPackage(folder: TempDirectory): Promise<string> {
  const compiler = path.join(checkout, 'node_modules/typescript/bin/tsc');
  const args = ['-p', path.join(checkout, 'tsconfig.build.json'), '--outDir', folder.join('dist')];
  await promisify(execFile)(process.execPath, [compiler, ...args]);
  for (const name of ['bin', 'package.json']) {
    await cp(path.join(checkout, name), folder.join(name), { recursive: true });
  }
  await symlink(path.join(checkout, 'node_modules'), folder.join('node_modules'));
  return folder.join('bin', 'pgark');
}
