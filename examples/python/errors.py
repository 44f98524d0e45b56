"""What went wrong, and what to do about it: by the reason, never by the message."""

import enum
import random
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class Action(enum.Enum):
    """What a backend does about an error."""

    TELL = "tell"  # tell the person; nothing is broken
    START_AGAIN = "start_again"  # this attempt is over: offer a new authorization URL
    WAIT = "wait"  # the same call, after `retry_delay`
    CONSENT = "consent"  # the person must consent again: an authorization URL with `account_id`
    WATCH = "watch"  # of a watch: open it again, or begin anew
    ALERT = "alert"  # a person must mend something: you, or whoever runs the service


# One line per reason in error_reason.proto, which says more about each.
ACTIONS = {
    # You sent something that cannot be right.
    "FIELD_INVALID": Action.ALERT,
    "REQUEST_MALFORMED": Action.ALERT,
    "REQUEST_TOO_LARGE": Action.ALERT,
    "METHOD_UNKNOWN": Action.ALERT,
    "CALLER_UNKNOWN": Action.ALERT,
    "CALLER_NOT_ALLOWED": Action.ALERT,
    # Not just now.
    "CALLER_RATE_LIMITED": Action.WAIT,
    "DEADLINE_EXCEEDED": Action.WAIT,
    "PROVIDER_RATE_LIMITED": Action.WAIT,
    "PROVIDER_UNAVAILABLE": Action.WAIT,
    "STORAGE_UNAVAILABLE": Action.WAIT,
    "SHUTTING_DOWN": Action.WAIT,
    "OVERLOADED": Action.WAIT,
    "KEY_UNAVAILABLE": Action.WAIT,
    "AUTHORIZATION_IN_PROGRESS": Action.WAIT,
    # How things stand.
    "ACCOUNT_NOT_FOUND": Action.TELL,
    "PROFILE_NOT_FOUND": Action.TELL,
    "AUTHORIZATION_NOT_FOUND": Action.TELL,
    "AUTHORIZATION_DENIED": Action.TELL,
    "ACCOUNT_LINKED_TO_ANOTHER_USER": Action.TELL,
    "ACCOUNT_MISMATCH": Action.TELL,
    "ACCOUNT_UNLINKED": Action.START_AGAIN,
    "STATE_INVALID": Action.START_AGAIN,
    "SESSION_MISMATCH": Action.START_AGAIN,
    "AUTHORIZATION_EXPIRED": Action.START_AGAIN,
    "AUTHORIZATION_CLOSED": Action.START_AGAIN,
    "CODE_REJECTED": Action.START_AGAIN,
    "AUTHORIZATION_INTERRUPTED": Action.START_AGAIN,
    "REAUTHORIZATION_REQUIRED": Action.CONSENT,
    "PERMISSION_MISSING": Action.CONSENT,
    # Of watches.
    "CURSOR_EXPIRED": Action.WATCH,
    "WATCH_LAGGED": Action.WATCH,
    # The operator looks for the request id in the log.
    "PROVIDER_CONFIGURATION": Action.ALERT,
    "PROVIDER_IDENTITY_CONFLICT": Action.ALERT,
    "SEALED_DATA_INVALID": Action.ALERT,
    "INTERNAL": Action.ALERT,
}

DOMAIN = "threads.identity.v1"


class IdentityError(Exception):
    """An error of the service, or of the way to it (then `reason` is empty)."""

    def __init__(self, error: grpc.RpcError):
        super().__init__(error.details())
        self.code: grpc.StatusCode = error.code()
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: dict[str, str] = {}  # what is wrong with which field
        self.retry_delay: float | None = None  # in seconds
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                if info.domain == DOMAIN:
                    self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                self.fields = {v.field: v.description for v in bad.field_violations}
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                self.retry_delay = retry.retry_delay.ToNanoseconds() / 1e9

    def __str__(self):
        return f"{self.code.name} {self.reason}: {self.args[0]} {self.fields or ''}".rstrip()

    @property
    def action(self) -> Action:
        # These tell of a completion when they name an authorization, which is over then.
        if "authorization_id" in self.metadata:
            if self.reason in ("PROVIDER_RATE_LIMITED", "REAUTHORIZATION_REQUIRED"):
                return Action.START_AGAIN
            if self.reason == "PERMISSION_MISSING":
                return Action.TELL
        if self.reason in ACTIONS:
            return ACTIONS[self.reason]
        # A reason from after this was written, or none: a connection that broke, say.
        passing = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return Action.WAIT if self.retry_delay is not None or self.code in passing else Action.ALERT


def patiently(call, seconds: float):
    """Makes the call, and makes it again for as long as waiting helps and is wanted.

    Every call of this API may be repeated. UNAVAILABLE has been repeated by the
    channel already (see the service config); here the rest is waited for, as long
    as the service says.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return call()
        except IdentityError as error:
            delay = 1.0 if error.retry_delay is None else error.retry_delay
            delay *= random.uniform(1.0, 1.2)  # not all at once
            if error.action is not Action.WAIT or time.monotonic() + delay > until:
                raise
            time.sleep(delay)
