// What went wrong, and what to do about it: by the reason, never by the message.

import { setTimeout as sleep } from "node:timers/promises";
import { ClientError, Status } from "nice-grpc";
import { RichClientError } from "nice-grpc-error-details";
import type { ErrorReason } from "../gen/threads/identity/v1/error_reason.js";

/** What a backend does about an error. */
export type Action =
  | "tell" // tell the person; nothing is broken
  | "start_again" // this attempt is over: offer a new authorization URL
  | "wait" // the same call, after `retryDelay`
  | "consent" // the person must consent again: an authorization URL with the account's id
  | "watch" // of a watch: open it again, or begin anew
  | "alert"; // a person must mend something: you, or whoever runs the service

type Reason = Exclude<keyof typeof ErrorReason, "ERROR_REASON_UNSPECIFIED" | "UNRECOGNIZED">;

// One line per reason in error_reason.proto, which says more about each. The compiler
// sees that none is missing.
export const ACTIONS: Record<Reason, Action> = {
  // You sent something that cannot be right.
  FIELD_INVALID: "alert",
  REQUEST_MALFORMED: "alert",
  REQUEST_TOO_LARGE: "alert",
  METHOD_UNKNOWN: "alert",
  CALLER_UNKNOWN: "alert",
  CALLER_NOT_ALLOWED: "alert",
  // Not just now.
  CALLER_RATE_LIMITED: "wait",
  DEADLINE_EXCEEDED: "wait",
  PROVIDER_RATE_LIMITED: "wait",
  PROVIDER_UNAVAILABLE: "wait",
  STORAGE_UNAVAILABLE: "wait",
  SHUTTING_DOWN: "wait",
  OVERLOADED: "wait",
  KEY_UNAVAILABLE: "wait",
  AUTHORIZATION_IN_PROGRESS: "wait",
  // How things stand.
  ACCOUNT_NOT_FOUND: "tell",
  PROFILE_NOT_FOUND: "tell",
  AUTHORIZATION_NOT_FOUND: "tell",
  AUTHORIZATION_DENIED: "tell",
  ACCOUNT_LINKED_TO_ANOTHER_USER: "tell",
  ACCOUNT_MISMATCH: "tell",
  ACCOUNT_UNLINKED: "start_again",
  STATE_INVALID: "start_again",
  SESSION_MISMATCH: "start_again",
  AUTHORIZATION_EXPIRED: "start_again",
  AUTHORIZATION_CLOSED: "start_again",
  CODE_REJECTED: "start_again",
  AUTHORIZATION_INTERRUPTED: "start_again",
  REAUTHORIZATION_REQUIRED: "consent",
  PERMISSION_MISSING: "consent",
  // Of watches.
  CURSOR_EXPIRED: "watch",
  WATCH_LAGGED: "watch",
  // The operator looks for the request id in the log.
  PROVIDER_CONFIGURATION: "alert",
  PROVIDER_IDENTITY_CONFLICT: "alert",
  SEALED_DATA_INVALID: "alert",
  INTERNAL: "alert",
};

/** An error of the service, or of the way to it; then `reason` is empty. */
export class IdentityError extends Error {
  readonly code: Status;
  readonly reason: string = "";
  readonly metadata: Record<string, string> = {};
  /** What is wrong with which field. */
  readonly fields: Record<string, string> = {};
  /** In milliseconds, if the service said. */
  readonly retryDelay?: number;

  constructor(error: ClientError) {
    super(error.details);
    this.name = "IdentityError";
    this.code = error.code;
    for (const detail of error instanceof RichClientError ? error.extra : []) {
      switch (detail.$type) {
        case "google.rpc.ErrorInfo":
          if (detail.domain === "threads.identity.v1") {
            this.reason = detail.reason;
            this.metadata = detail.metadata;
          }
          break;
        case "google.rpc.BadRequest":
          for (const { field, description } of detail.fieldViolations) this.fields[field] = description;
          break;
        case "google.rpc.RetryInfo":
          if (detail.retryDelay) this.retryDelay = detail.retryDelay.seconds * 1000 + detail.retryDelay.nanos / 1e6;
          break;
      }
    }
  }

  get action(): Action {
    // These tell of a completion when they name an authorization, which is over then.
    if ("authorization_id" in this.metadata) {
      if (["PROVIDER_RATE_LIMITED", "REAUTHORIZATION_REQUIRED"].includes(this.reason)) return "start_again";
      if (this.reason === "PERMISSION_MISSING") return "tell";
    }
    if (this.reason in ACTIONS) return ACTIONS[this.reason as Reason];
    // A reason from after this was written, or none: a connection that broke, say.
    const passing = this.code === Status.UNAVAILABLE || this.code === Status.DEADLINE_EXCEEDED;
    return passing || this.retryDelay !== undefined ? "wait" : "alert";
  }
}

/** Turns gRPC's errors into ours. */
export function typed(error: unknown): unknown {
  return error instanceof ClientError ? new IdentityError(error) : error;
}

/**
 * Makes the call, and makes it again for as long as waiting helps and is wanted.
 *
 * Every call of this API may be repeated. UNAVAILABLE has been repeated by the
 * channel already (see the service config); here the rest is waited for, as long as
 * the service says.
 */
export async function patiently<T>(milliseconds: number, call: () => Promise<T>): Promise<T> {
  const until = Date.now() + milliseconds;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof IdentityError) || error.action !== "wait") throw error;
      const delay = (error.retryDelay ?? 1000) * (1 + Math.random() / 5); // not all at once
      if (Date.now() + delay > until) throw error;
      await sleep(delay);
    }
  }
}
