"""A copy of the linked accounts that stays true, and the watch that keeps it so."""

import json
import logging
import os
import random
import threading
from pathlib import Path

import grpc
from threads.identity.v1.resources_pb2 import Account, AccountChange

from errors import Action, IdentityError
from identity import Identity

log = logging.getLogger(__name__)

PAUSE_MIN, PAUSE_MAX = 0.2, 30.0  # seconds between two attempts to watch


class Accounts:
    """The copy, and the cursor up to which it is true. They change together: in
    your service they are two tables and one transaction; here, one file."""

    def __init__(self, file: Path):
        self.file, self.lock = file, threading.Lock()
        kept = json.loads(file.read_text()) if file.exists() else {}
        self.cursor: str | None = kept.get("cursor")
        self.by_id: dict[str, dict] = kept.get("accounts", {})

    def of(self, user_id: str) -> list[dict]:
        with self.lock:
            return [account for account in self.by_id.values() if account["user_id"] == user_id]

    def replace(self, accounts, cursor: str):
        with self.lock:
            self.by_id = {account.account_id: entry(account) for account in accounts}
            self.keep(cursor)

    def apply(self, change: AccountChange | None, cursor: str):
        """Takes in a change: not what differs, but how the account stands now."""
        with self.lock:
            unlinked = change and change.account.state == Account.STATE_UNLINKED
            if change and (change.kind == AccountChange.KIND_ERASED or unlinked):
                self.by_id.pop(change.account_id, None)
            elif change and change.HasField("account"):
                self.by_id[change.account_id] = entry(change.account)
            self.keep(cursor)

    def forget_cursor(self):
        with self.lock:
            self.keep(None)

    def keep(self, cursor: str | None):
        self.cursor = cursor
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"cursor": cursor, "accounts": self.by_id}))
        os.replace(fresh, self.file)


def entry(account: Account) -> dict:
    return {
        "account_id": account.account_id,
        "user_id": account.user_id,
        "threads_user_id": account.threads_user_id,
        "state": Account.State.Name(account.state),
        "state_reason": Account.StateReason.Name(account.state_reason),
    }


class Watcher(threading.Thread):
    """Watches for as long as the process lives. `on_change` is called for each
    change before it is in the copy: at least once, so let it do no harm twice."""

    def __init__(self, identity: Identity, accounts: Accounts, on_change=lambda change: None):
        super().__init__(name="watcher", daemon=True)
        self.identity, self.accounts, self.on_change = identity, accounts, on_change
        self.pause, self.stopped, self.stream = PAUSE_MIN, threading.Event(), None

    def stop(self):
        self.stopped.set()
        if self.stream:
            self.stream.cancel()
        self.join()

    def run(self):
        while not self.stopped.is_set():
            try:
                self.follow()
            except grpc.RpcError as error:
                self.ended(IdentityError(error))
            except IdentityError as error:
                self.ended(error)
            except Exception:  # of `on_change`: the cursor stays before that change, which comes again
                log.exception("a change could not be dealt with")
            self.stopped.wait(random.uniform(0.5, 1.0) * self.pause)
            self.pause = min(2 * self.pause, PAUSE_MAX)

    def ended(self, error: IdentityError):
        if self.stopped.is_set():
            return
        if error.reason == "CURSOR_EXPIRED":
            # Too old to go on from. Nothing was skipped in silence: begin anew.
            self.accounts.forget_cursor()
        elif error.action is Action.ALERT:
            log.error("the accounts cannot be watched: %s", error)
        else:
            # WATCH_LAGGED, SHUTTING_DOWN, a connection that broke: go on from our own
            # cursor, behind which nothing has been applied.
            log.info("the watch is opened again: %s %s", error.code.name, error.reason)

    def follow(self):
        cursor = self.accounts.cursor
        self.stream = self.identity.watch(cursor)
        if self.stopped.is_set():
            self.stream.cancel()
        for message in self.stream:
            if cursor is None:
                # The position first, then the list: no change falls between the two.
                self.accounts.replace(self.identity.list_accounts(), message.cursor)
                cursor = message.cursor
            change = message.change if message.HasField("change") else None
            if change:
                self.on_change(change)
            self.accounts.apply(change, message.cursor)
            self.pause = PAUSE_MIN
