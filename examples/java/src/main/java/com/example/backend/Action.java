package com.example.backend;

import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** What a backend does about an error. */
public enum Action {
    /** Tell the person; nothing is broken. */
    TELL(409),
    /** This attempt is over: offer a new authorization URL. */
    START_AGAIN(410),
    /** The same call, after the error's retry delay. */
    WAIT(503),
    /** The person must consent again: an authorization URL with the account's id. */
    CONSENT(403),
    /** Of a watch: open it again, or begin anew. */
    WATCH(500),
    /** A person must mend something: you, or whoever runs the service. */
    ALERT(500);

    /** By reason. error_reason.proto says more about each. */
    static final Map<String, Action> BY_REASON = byReason();

    /** How a browser is told of it. */
    final int httpStatus;

    Action(int httpStatus) {
        this.httpStatus = httpStatus;
    }

    String word() {
        return name().toLowerCase(Locale.ROOT);
    }

    private static Map<String, Action> byReason() {
        var actions = new HashMap<String, Action>();
        // You sent something that cannot be right.
        actions.put("FIELD_INVALID", ALERT);
        actions.put("REQUEST_MALFORMED", ALERT);
        actions.put("REQUEST_TOO_LARGE", ALERT);
        actions.put("METHOD_UNKNOWN", ALERT);
        actions.put("CALLER_UNKNOWN", ALERT);
        actions.put("CALLER_NOT_ALLOWED", ALERT);
        // Not just now.
        actions.put("CALLER_RATE_LIMITED", WAIT);
        actions.put("DEADLINE_EXCEEDED", WAIT);
        actions.put("PROVIDER_RATE_LIMITED", WAIT);
        actions.put("PROVIDER_UNAVAILABLE", WAIT);
        actions.put("STORAGE_UNAVAILABLE", WAIT);
        actions.put("SHUTTING_DOWN", WAIT);
        actions.put("OVERLOADED", WAIT);
        actions.put("KEY_UNAVAILABLE", WAIT);
        actions.put("AUTHORIZATION_IN_PROGRESS", WAIT);
        // How things stand.
        actions.put("ACCOUNT_NOT_FOUND", TELL);
        actions.put("PROFILE_NOT_FOUND", TELL);
        actions.put("AUTHORIZATION_NOT_FOUND", TELL);
        actions.put("AUTHORIZATION_DENIED", TELL);
        actions.put("ACCOUNT_LINKED_TO_ANOTHER_USER", TELL);
        actions.put("ACCOUNT_MISMATCH", TELL);
        actions.put("ACCOUNT_UNLINKED", START_AGAIN);
        actions.put("STATE_INVALID", START_AGAIN);
        actions.put("SESSION_MISMATCH", START_AGAIN);
        actions.put("AUTHORIZATION_EXPIRED", START_AGAIN);
        actions.put("AUTHORIZATION_CLOSED", START_AGAIN);
        actions.put("CODE_REJECTED", START_AGAIN);
        actions.put("AUTHORIZATION_INTERRUPTED", START_AGAIN);
        actions.put("REAUTHORIZATION_REQUIRED", CONSENT);
        actions.put("PERMISSION_MISSING", CONSENT);
        // Of watches.
        actions.put("CURSOR_EXPIRED", WATCH);
        actions.put("WATCH_LAGGED", WATCH);
        // The operator looks for the request id in the log.
        actions.put("PROVIDER_CONFIGURATION", ALERT);
        actions.put("PROVIDER_IDENTITY_CONFLICT", ALERT);
        actions.put("SEALED_DATA_INVALID", ALERT);
        actions.put("INTERNAL", ALERT);
        return Map.copyOf(actions);
    }
}
