package com.example.backend;

import com.google.gson.Gson;
import com.threads.identity.v1.Account;
import com.threads.identity.v1.AccountChange;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A copy of the linked accounts, and the cursor up to which it is true. The two change together: in your service they
 * are two tables and one transaction; here, one file.
 */
public final class Accounts {
    private static final Gson GSON = new Gson();

    /** What this backend keeps of an account. */
    public record Entry(String account_id, String user_id, String threads_user_id, String state, String state_reason) {
        static Entry of(Account account) {
            return new Entry(
                    account.getAccountId(),
                    account.getUserId(),
                    account.getThreadsUserId(),
                    account.getState().name(),
                    account.getStateReason().name());
        }
    }

    private record Kept(String cursor, Map<String, Entry> accounts) {}

    private final Path file;
    private final Map<String, Entry> byId = new LinkedHashMap<>();
    private String cursor;

    /** Reads the copy, if there is one already. */
    public Accounts(Path file) throws IOException {
        this.file = file;
        if (Files.exists(file)) {
            var kept = GSON.fromJson(Files.readString(file), Kept.class);
            cursor = kept.cursor();
            byId.putAll(kept.accounts());
        }
    }

    /** Where to go on from; null if there is no copy. */
    public synchronized String cursor() {
        return cursor;
    }

    public synchronized List<Entry> of(String userId) {
        return byId.values().stream().filter(account -> account.user_id().equals(userId)).toList();
    }

    /** Puts a list in place of the copy. */
    public synchronized void replace(List<Account> accounts, String cursor) {
        byId.clear();
        accounts.forEach(account -> byId.put(account.getAccountId(), Entry.of(account)));
        keep(cursor);
    }

    /** Takes in a change: not what differs, but how the account stands now. */
    public synchronized void apply(AccountChange change, String cursor) {
        if (change.getKind() == AccountChange.Kind.KIND_ERASED
                || change.getAccount().getState() == Account.State.STATE_UNLINKED) {
            byId.remove(change.getAccountId());
        } else if (change.hasAccount()) {
            byId.put(change.getAccountId(), Entry.of(change.getAccount()));
        }
        keep(cursor);
    }

    /** Makes the next watch begin anew. */
    public synchronized void forgetCursor() {
        keep(null);
    }

    private void keep(String cursor) {
        this.cursor = cursor;
        var fresh = file.resolveSibling(file.getFileName() + ".new");
        try {
            Files.writeString(fresh, GSON.toJson(new Kept(cursor, byId)));
            Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
