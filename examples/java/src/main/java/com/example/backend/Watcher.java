package com.example.backend;

import com.threads.identity.v1.AccountChange;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The watch that keeps the copy true, on a thread of its own until it is closed. */
public final class Watcher implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Watcher.class);

    /** How long to wait between two attempts to watch. */
    private static final Duration PAUSE_MIN = Duration.ofMillis(200);
    private static final Duration PAUSE_MAX = Duration.ofSeconds(30);

    private final Identity identity;
    private final Accounts accounts;
    private final Consumer<AccountChange> onChange;
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final Thread thread = new Thread(context.wrap(this::run), "watcher");
    private Duration pause = PAUSE_MIN;

    /**
     * Starts it. {@code onChange} is called for each change before it is in the copy: at least once, so let it do no
     * harm twice. A change that it fails for comes again.
     */
    public Watcher(Identity identity, Accounts accounts, Consumer<AccountChange> onChange) {
        this.identity = identity;
        this.accounts = accounts;
        this.onChange = onChange;
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void close() throws InterruptedException {
        context.cancel(null);
        thread.interrupt();
        thread.join();
    }

    private void run() {
        while (!context.isCancelled()) {
            try {
                follow();
            } catch (StatusRuntimeException error) {
                ended(new IdentityException(error));
            } catch (IdentityException error) {
                ended(error);
            } catch (RuntimeException error) {
                LOG.error("a change could not be dealt with", error);
            }
            try {
                Thread.sleep(ThreadLocalRandom.current().nextLong(pause.toMillis() / 2, pause.toMillis()));
            } catch (InterruptedException closed) {
                return;
            }
            pause = pause.multipliedBy(2).compareTo(PAUSE_MAX) < 0 ? pause.multipliedBy(2) : PAUSE_MAX;
        }
    }

    private void ended(IdentityException error) {
        if (context.isCancelled()) {
            return;
        }
        if (error.reason().equals("CURSOR_EXPIRED")) {
            // Too old to go on from. Nothing was skipped in silence: begin anew.
            accounts.forgetCursor();
        } else if (error.action() == Action.ALERT) {
            LOG.error("the accounts cannot be watched: {}", error.toString());
        } else {
            // WATCH_LAGGED, SHUTTING_DOWN, a connection that broke: go on from our own cursor, behind which nothing has
            // been applied.
            LOG.info("the watch is opened again: {} {}", error.code(), error.reason());
        }
    }

    private void follow() {
        // Cancelled on the way out, so that a stream that is left behind is ended.
        try (var call = Context.current().withCancellation()) {
            call.run(() -> {
                var cursor = accounts.cursor();
                var messages = identity.watch(cursor);
                while (messages.hasNext()) {
                    var message = messages.next();
                    if (cursor == null) {
                        // The position first, then the list: no change falls between the two.
                        cursor = message.getCursor();
                        accounts.replace(identity.listAccounts(), cursor);
                    }
                    if (message.hasChange()) {
                        onChange.accept(message.getChange());
                    }
                    accounts.apply(message.getChange(), message.getCursor());
                    pause = PAUSE_MIN;
                }
            });
        }
    }
}
