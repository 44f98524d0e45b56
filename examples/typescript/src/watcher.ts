// The watch that keeps the copy true.

import { setTimeout as sleep } from "node:timers/promises";
import type { AccountChange } from "../gen/threads/identity/v1/resources.js";
import type { Accounts } from "./accounts.js";
import { IdentityError } from "./errors.js";
import type { Identity } from "./identity.js";

// Milliseconds between two attempts to watch.
const PAUSE_MIN = 200;
const PAUSE_MAX = 30_000;

/**
 * Watches until the signal. `onChange` is called for each change before it is in the
 * copy: at least once, so let it do no harm twice. A change that it fails for comes
 * again.
 */
export async function keepTrue(
  identity: Identity,
  accounts: Accounts,
  signal: AbortSignal,
  onChange: (change: AccountChange) => void | Promise<void> = () => {},
): Promise<void> {
  let pause = PAUSE_MIN;
  while (!signal.aborted) {
    try {
      let { cursor } = accounts;
      for await (const message of identity.watch(cursor, signal)) {
        if (cursor === undefined) {
          // The position first, then the list: no change falls between the two.
          accounts.replace(await identity.listAccounts(), message.cursor);
          cursor = message.cursor;
        }
        if (message.change) await onChange(message.change);
        accounts.apply(message.change, message.cursor);
        pause = PAUSE_MIN;
      }
    } catch (error) {
      if (signal.aborted) return;
      ended(error, accounts);
    }
    await sleep(pause * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {});
    pause = Math.min(2 * pause, PAUSE_MAX);
  }
}

function ended(error: unknown, accounts: Accounts) {
  if (!(error instanceof IdentityError)) {
    console.error("a change could not be dealt with:", error);
  } else if (error.reason === "CURSOR_EXPIRED") {
    // Too old to go on from. Nothing was skipped in silence: begin anew.
    accounts.forgetCursor();
  } else if (error.action === "alert") {
    console.error("the accounts cannot be watched:", error.reason, error.message);
  } else {
    // WATCH_LAGGED, SHUTTING_DOWN, a connection that broke: go on from our own cursor,
    // behind which nothing has been applied.
    console.info("the watch is opened again:", error.code, error.reason);
  }
}
