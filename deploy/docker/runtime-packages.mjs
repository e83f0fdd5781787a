// Makes a package.json of what the image runs on: node runtime-packages.mjs, beside package.json
// Packages that are optional for who installs pgark, such as those for traces, are in the image: nothing can be added to a
// container later. Their versions are those of the lock file.
import { readFileSync, writeFileSync } from 'node:fs';

const described = JSON.parse(readFileSync('package.json', 'utf8'));
for (const name of Object.keys(described.peerDependencies)) {
  described.dependencies[name] = described.devDependencies[name];
}
delete described.peerDependencies;
delete described.peerDependenciesMeta;
delete described.devDependencies;
writeFileSync('package.json', `${JSON.stringify(described, undefined, 2)}\n`);
