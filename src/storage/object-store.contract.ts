import { afterAll, beforeAll, describe } from 'vitest';
import { MIB } from '../common/bytes.ts';
import { describeConditions } from './contract/conditions.contract.ts';
import type { ContractContext, ContractOptions, StoreUnderTest } from './contract/harness.contract.ts';
import { describeKeys } from './contract/keys.contract.ts';
import { describeLists } from './contract/lists.contract.ts';
import { describePuts } from './contract/puts.contract.ts';
import { describeReads } from './contract/reads.contract.ts';
import { describeSignals } from './contract/signals.contract.ts';
import { describeUploads } from './contract/uploads.contract.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * What every adapter of the `ObjectStore` port has to do, as tests. The place is made once for the whole suite; each test
 * works in a folder of its own.
 */
export function describeObjectStoreContract(
  name: string,
  makeStore: () => Promise<StoreUnderTest>,
  options: ContractOptions = {},
): void {
  describe(`${name} keeps the contract of object stores:`, () => {
    let place: StoreUnderTest | undefined;
    let other: ObjectStore | undefined;
    let folders = 0;

    beforeAll(async () => {
      place = await makeStore();
      other = await place.reopen?.();
    });
    afterAll(async () => {
      await other?.close();
      await place?.store.close();
      await place?.dispose();
    });

    const opened = (): StoreUnderTest => {
      if (place === undefined) throw new Error('the store could not be made: see the failure of beforeAll');
      return place;
    };
    const context: ContractContext = {
      options: {
        pageObjects: 1_100,
        partBytes: 8 * MIB,
        keepsMetadata: true,
        conditionalWrites: true,
        findsLateCollision: true,
        keepsCompositionApart: true,
        namesOneByOne: true,
        ...options,
      },
      get store() {
        return opened().store;
      },
      get other() {
        return other ?? opened().store;
      },
      folder() {
        folders += 1;
        return `test-${folders}/`;
      },
    };

    describePuts(context);
    describeReads(context);
    describeLists(context);
    describeConditions(context);
    describeKeys(context);
    describeUploads(context);
    describeSignals(context);
  });
}
