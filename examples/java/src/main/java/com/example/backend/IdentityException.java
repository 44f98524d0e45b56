package com.example.backend;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;

/** An error of the service, or of the way to it; then the reason is empty. Match on reasons, never on messages. */
public final class IdentityException extends RuntimeException {
    private static final String DOMAIN = "threads.identity.v1";

    private final Status.Code code;
    private String reason = "";
    private Map<String, String> metadata = Map.of();
    private final Map<String, String> fields = new HashMap<>();
    private Duration retryDelay;

    IdentityException(StatusRuntimeException error) {
        super(error.getStatus().getDescription(), error);
        code = error.getStatus().getCode();
        var status = StatusProto.fromThrowable(error);
        if (status == null) {
            return;
        }
        try {
            for (var detail : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    var info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(DOMAIN)) {
                        reason = info.getReason();
                        metadata = info.getMetadataMap();
                    }
                } else if (detail.is(BadRequest.class)) {
                    for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
                        fields.put(violation.getField(), violation.getDescription());
                    }
                } else if (detail.is(RetryInfo.class)) {
                    var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            }
        } catch (InvalidProtocolBufferException unreadable) {
            addSuppressed(unreadable);
        }
    }

    public Status.Code code() {
        return code;
    }

    public String reason() {
        return reason;
    }

    public Map<String, String> metadata() {
        return metadata;
    }

    /** What is wrong with which field. */
    public Map<String, String> fields() {
        return fields;
    }

    /** How long to wait, if the service said. */
    public Optional<Duration> retryDelay() {
        return Optional.ofNullable(retryDelay);
    }

    @Override
    public String toString() {
        return code + " " + reason + ": " + getMessage() + " " + fields;
    }

    /** What to do. */
    public Action action() {
        // These tell of a completion when they name an authorization, which is over then.
        if (metadata.containsKey("authorization_id")) {
            if (reason.equals("PROVIDER_RATE_LIMITED") || reason.equals("REAUTHORIZATION_REQUIRED")) {
                return Action.START_AGAIN;
            }
            if (reason.equals("PERMISSION_MISSING")) {
                return Action.TELL;
            }
        }
        var known = Action.BY_REASON.get(reason);
        if (known != null) {
            return known;
        }
        // A reason from after this was written, or none: a connection that broke, say.
        var passing = code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED;
        return passing || retryDelay != null ? Action.WAIT : Action.ALERT;
    }

    /**
     * Makes the call, and makes it again for as long as waiting helps and is wanted.
     *
     * <p>Every call of this API may be repeated. UNAVAILABLE has been repeated by the channel already (see the service
     * config); here the rest is waited for, as long as the service says.
     */
    public static <T> T patiently(Duration patience, Supplier<T> call) {
        var until = Instant.now().plus(patience);
        while (true) {
            try {
                return call.get();
            } catch (IdentityException error) {
                var delay = error.retryDelay().orElse(Duration.ofSeconds(1)).toMillis();
                delay += ThreadLocalRandom.current().nextLong(delay / 5 + 1); // not all at once
                if (error.action() != Action.WAIT || Instant.now().plusMillis(delay).isAfter(until)) {
                    throw error;
                }
                try {
                    Thread.sleep(delay);
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                    throw error;
                }
            }
        }
    }
}
