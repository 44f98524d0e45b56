package com.example.backend;

import com.google.gson.Gson;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.threads.identity.v1.AccessTokenServiceGrpc;
import com.threads.identity.v1.Account;
import com.threads.identity.v1.AccountProfile;
import com.threads.identity.v1.AccountServiceGrpc;
import com.threads.identity.v1.AuthorizationServiceGrpc;
import com.threads.identity.v1.CompleteAuthorizationRequest;
import com.threads.identity.v1.CompleteAuthorizationResponse;
import com.threads.identity.v1.CreateAuthorizationUrlRequest;
import com.threads.identity.v1.FetchAccessTokenRequest;
import com.threads.identity.v1.GetAccountRequest;
import com.threads.identity.v1.GetProfileRequest;
import com.threads.identity.v1.ListAccountsRequest;
import com.threads.identity.v1.ProfileServiceGrpc;
import com.threads.identity.v1.ReportInvalidTokenRequest;
import com.threads.identity.v1.UnlinkAccountRequest;
import com.threads.identity.v1.WatchAccountsRequest;
import com.threads.identity.v1.WatchAccountsResponse;
import io.grpc.CallCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** The client of threads-identity: one per process, for any number of threads. */
public final class Identity implements AutoCloseable {
    private final ManagedChannel channel;
    private final AuthorizationServiceGrpc.AuthorizationServiceBlockingStub authorizations;
    private final AccountServiceGrpc.AccountServiceBlockingStub accounts;
    private final ProfileServiceGrpc.ProfileServiceBlockingStub profiles;
    private final AccessTokenServiceGrpc.AccessTokenServiceBlockingStub tokens;

    /** Prepares the client; it connects when it is first used. */
    public Identity(String address, File caFile, String callerKey) throws IOException {
        var tls = TlsChannelCredentials.newBuilder().trustManager(caFile).build();
        channel = Grpc.newChannelBuilder(address, CompositeChannelCredentials.create(tls, new CallerKey(callerKey)))
                .defaultServiceConfig(serviceConfig())
                // Finds out that the other end of a watch is gone without a word.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .build();
        authorizations = AuthorizationServiceGrpc.newBlockingStub(channel);
        accounts = AccountServiceGrpc.newBlockingStub(channel);
        profiles = ProfileServiceGrpc.newBlockingStub(channel);
        tokens = AccessTokenServiceGrpc.newBlockingStub(channel);
    }

    /** Deadlines, and repeating what is UNAVAILABLE: the file that comes with the protos. */
    @SuppressWarnings("unchecked")
    private static Map<String, Object> serviceConfig() throws IOException {
        try (var file = Identity.class.getResourceAsStream("/service_config.json")) {
            return new Gson().fromJson(new InputStreamReader(file, StandardCharsets.UTF_8), Map.class);
        }
    }

    /** Sends the key with every call. */
    private static final class CallerKey extends CallCredentials {
        private static final Metadata.Key<String> AUTHORIZATION =
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        private final Metadata headers = new Metadata();

        CallerKey(String key) {
            headers.put(AUTHORIZATION, "Bearer " + key);
        }

        @Override
        public void applyRequestMetadata(RequestInfo request, Executor executor, MetadataApplier applier) {
            applier.apply(headers);
        }
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    /**
     * Where to send the browser; with an account, to consent for it again; with more permissions than the app asks for
     * by itself, such as those that a PERMISSION_MISSING names, to consent to these, too.
     */
    public String authorizationUrl(String userId, byte[] sessionBinding, String accountId, String... more) {
        var link = CreateAuthorizationUrlRequest.Link.newBuilder()
                .setUserId(userId)
                .setSessionBinding(ByteString.copyFrom(sessionBinding));
        var scopes = new TreeSet<>(List.of(more));
        if (accountId != null) {
            link.setAccountId(accountId);
            // What a consent asks for takes the place of what the account had: ask for that, too.
            scopes.addAll(account(accountId, userId).getScopesList());
        }
        var request = CreateAuthorizationUrlRequest.newBuilder()
                .setLink(link)
                .addAllScopes(scopes)
                .build();
        return typed(() -> authorizations.createAuthorizationUrl(request)).getAuthorizationUrl();
    }

    /** Links what the browser came back with to whoever sits at it now. */
    public CompleteAuthorizationResponse complete(String ticket, String userId, byte[] sessionBinding) {
        var request = CompleteAuthorizationRequest.newBuilder()
                .setTicket(ticket)
                .setUserId(userId)
                .setSessionBinding(ByteString.copyFrom(sessionBinding))
                .build();
        return typed(() -> authorizations.completeAuthorization(request));
    }

    /** The profile; a fresh one is read from Threads again first. */
    public AccountProfile profile(String accountId, String userId, boolean fresh) {
        var request = GetProfileRequest.newBuilder().setAccountId(accountId).setUserId(userId);
        if (fresh) {
            request.setMaxAge(Duration.getDefaultInstance());
        }
        return typed(() -> profiles.getProfile(request.build())).getProfile();
    }

    /** A token for Threads. Use it and drop it: it is not to be stored. */
    public String accessToken(String accountId, String userId, List<String> scopes, String purpose) {
        var request = FetchAccessTokenRequest.newBuilder()
                .setAccountId(accountId)
                .setUserId(userId)
                .addAllRequiredScopes(scopes)
                .setPurpose(purpose)
                .build();
        return typed(() -> tokens.fetchAccessToken(request)).getAccessToken();
    }

    /** Says that Threads refused a token; answers with how the account stands now. */
    public Account reportInvalid(String accountId, String userId, String accessToken) {
        var request = ReportInvalidTokenRequest.newBuilder()
                .setAccountId(accountId)
                .setUserId(userId)
                .setTokenSha256(ByteString.copyFrom(sha256(accessToken)))
                .build();
        return typed(() -> tokens.reportInvalidToken(request)).getAccount();
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible); // every Java has it
        }
    }

    /** One account. */
    public Account account(String accountId, String userId) {
        var request = GetAccountRequest.newBuilder()
                .setAccountId(accountId)
                .setUserId(userId)
                .build();
        return typed(() -> accounts.getAccount(request)).getAccount();
    }

    /** Ends a link; its token and profile are destroyed at once. Answers with the account, which is unlinked now. */
    public Account unlink(String accountId, String userId) {
        var request = UnlinkAccountRequest.newBuilder()
                .setAccountId(accountId)
                .setUserId(userId)
                .build();
        return typed(() -> accounts.unlinkAccount(request)).getAccount();
    }

    /** Every account of the app that is linked. */
    public List<Account> listAccounts() {
        var found = new ArrayList<Account>();
        var request = ListAccountsRequest.newBuilder().setPageSize(200);
        do {
            var page = typed(() -> accounts.listAccounts(request.build()));
            found.addAll(page.getAccountsList());
            request.setPageToken(page.getNextPageToken());
        } while (!request.getPageToken().isEmpty());
        return found;
    }

    /** The changes of the whole app, from a cursor on, or from now on. Its errors are gRPC's own. */
    public Iterator<WatchAccountsResponse> watch(String cursor) {
        var request = WatchAccountsRequest.newBuilder();
        if (cursor != null) {
            request.setCursor(cursor);
        }
        return accounts.watchAccounts(request.build());
    }

    /** Turns gRPC's errors into ours. */
    private static <T> T typed(Supplier<T> call) {
        try {
            return call.get();
        } catch (StatusRuntimeException error) {
            throw new IdentityException(error);
        }
    }
}
