import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const shared = { testTimeout: 240_000, hookTimeout: 300_000, pool: 'forks' as const };

export default defineConfig({
  test: {
    // Integration tests wait for servers and child processes more than half of the time: three files more than there are cores.
    maxWorkers: availableParallelism() + 3,
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['src/**/*.test.ts', 'bench/**/*.test.ts', 'test/compatibility/**/*.test.ts'],
        },
      },
      {
        test: {
          ...shared,
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: ['test/compatibility/**', 'test/soak/**', 'test/image/**'],
          setupFiles: ['test/support/clean-environment.ts'],
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
      // On request only: it needs Docker, and the images that scripts/test-image.mjs builds.
      {
        test: {
          ...shared,
          name: 'image',
          testTimeout: 600_000,
          include: ['test/image/**/*.test.ts'],
          setupFiles: ['test/support/clean-environment.ts'],
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
      // On request only: it needs servers of several versions (scripts/soak.mjs).
      {
        test: {
          ...shared,
          name: 'soak',
          include: ['test/soak/**/*.test.ts'],
          setupFiles: ['test/support/clean-environment.ts'],
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
    ],
  },
});
