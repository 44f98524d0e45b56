// A copy of the linked accounts, and the cursor up to which it is true.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import {
  type Account,
  Account_State,
  type AccountChange,
  AccountChange_Kind,
} from "../gen/threads/identity/v1/resources.js";

/** What this backend keeps of an account. */
export interface Entry {
  account_id: string;
  user_id: string;
  threads_user_id: string;
  state: string;
  state_reason: string;
}

/**
 * The copy. It and its cursor change together: in your service they are two tables
 * and one transaction; here, one file.
 */
export class Accounts {
  readonly #file: string;
  #cursor?: string;
  #byId = new Map<string, Entry>();

  constructor(file: string) {
    this.#file = file;
    if (existsSync(file)) {
      const kept = JSON.parse(readFileSync(file, "utf8"));
      this.#cursor = kept.cursor;
      this.#byId = new Map(Object.entries(kept.accounts));
    }
  }

  /** Where to go on from; undefined if there is no copy. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  of(userId: string): Entry[] {
    return [...this.#byId.values()].filter((account) => account.user_id === userId);
  }

  /** Puts a list in place of the copy. */
  replace(accounts: Account[], cursor: string) {
    this.#byId = new Map(accounts.map((account) => [account.accountId, entry(account)]));
    this.#keep(cursor);
  }

  /** Takes in a change, if there is one: not what differs, but how the account stands now. */
  apply(change: AccountChange | undefined, cursor: string) {
    const gone = change?.kind === AccountChange_Kind.KIND_ERASED;
    if (change && (gone || change.account?.state === Account_State.STATE_UNLINKED)) {
      this.#byId.delete(change.accountId);
    } else if (change?.account) {
      this.#byId.set(change.accountId, entry(change.account));
    }
    this.#keep(cursor);
  }

  /** Makes the next watch begin anew. */
  forgetCursor() {
    this.#keep(undefined);
  }

  #keep(cursor: string | undefined) {
    this.#cursor = cursor;
    writeFileSync(`${this.#file}.new`, JSON.stringify({ cursor, accounts: Object.fromEntries(this.#byId) }));
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function entry(account: Account): Entry {
  return {
    account_id: account.accountId,
    user_id: account.userId,
    // A string: too large for a number.
    threads_user_id: account.threadsUserId,
    state: account.state,
    state_reason: account.stateReason,
  };
}
