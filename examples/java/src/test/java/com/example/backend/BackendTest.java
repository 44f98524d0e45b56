package com.example.backend;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.threads.identity.v1.AccountChange;
import com.threads.identity.v1.ErrorReason;
import io.grpc.Status;
import io.javalin.Javalin;
import java.io.File;
import java.io.IOException;
import java.net.CookieManager;
import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The backend as a browser meets it, against the real service and the simulator. */
class BackendTest {
    private static final Gson GSON = new Gson();
    private static final String BACKEND = "http://" + env("LISTEN");
    private static final AtomicInteger PEOPLE = new AtomicInteger();
    private static final List<AccountChange> CHANGES = new CopyOnWriteArrayList<>();

    @TempDir
    static Path folder;

    private static Identity identity;
    private static Accounts accounts;
    private static Watcher watcher;
    private static Javalin app;

    private static String env(String name) {
        var value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set: run me with examples/run");
        }
        return value;
    }

    private static Identity client(String key) throws IOException {
        return new Identity(env("THREADS_IDENTITY_ADDRESS"), new File(env("THREADS_IDENTITY_CA_FILE")), key);
    }

    /** The backend as main starts it. */
    @BeforeAll
    static void start() throws Exception {
        identity = client(env("THREADS_IDENTITY_CALLER_KEY"));
        accounts = new Accounts(folder.resolve("accounts.json"));
        watcher = new Watcher(identity, accounts, CHANGES::add);
        var listen = env("LISTEN").split(":");
        app = new Backend(identity, accounts, env("THREADS_GRAPH_URL")).app();
        app.start(listen[0], Integer.parseInt(listen[1]));
        eventually(() -> accounts.cursor() != null);
    }

    @AfterAll
    static void stop() throws Exception {
        app.stop();
        watcher.close();
        identity.close();
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void eventually(Condition condition) throws Exception {
        var until = Instant.now().plusSeconds(20);
        while (!condition.holds()) {
            assertTrue(Instant.now().isBefore(until), "it does not come to pass");
            Thread.sleep(50);
        }
    }

    private static JsonObject post(String url, Map<String, ?> body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url))
                .header("content-type", "application/json")
                .POST(BodyPublishers.ofString(GSON.toJson(body)))
                .build();
        var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        assertTrue(answer.statusCode() < 300, url + ": " + answer.statusCode() + " " + answer.body());
        return GSON.fromJson(answer.body(), JsonObject.class);
    }

    private static JsonObject simulate(String path, Map<String, ?> body) throws Exception {
        return post(env("TEST_SIMULATOR_URL") + "/_simulator/" + path, body);
    }

    private static void control(String path) throws Exception {
        post(env("TEST_CONTROL_URL") + path, Map.of());
    }

    /** Somebody with a Threads account and a browser that is logged in here. */
    private static final class Person {
        final int number = PEOPLE.incrementAndGet();
        final String userId = "user-" + number;
        final String key = "person" + number;
        final String threadsId = Long.toString(17841405793190000L + number);
        final String username = key + ".sim";
        private final HttpClient browser = HttpClient.newBuilder().cookieHandler(new CookieManager()).build();

        Person() throws Exception {
            simulate("personas", Map.of("key", key, "id", threadsId, "username", username));
            assertEquals(204, submit("/login", Map.of("user_id", userId)).statusCode());
        }

        HttpResponse<String> visit(String path) throws Exception {
            return send(HttpRequest.newBuilder(URI.create(BACKEND).resolve(path)));
        }

        HttpResponse<String> submit(String path, Map<String, String> form) throws Exception {
            var fields = form.entrySet().stream()
                    .map(field -> field.getKey() + "=" + URLEncoder.encode(field.getValue(), StandardCharsets.UTF_8))
                    .toList();
            return send(HttpRequest.newBuilder(URI.create(BACKEND).resolve(path))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .POST(BodyPublishers.ofString(String.join("&", fields))));
        }

        private HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
            return browser.send(request.timeout(Duration.ofSeconds(30)).build(), BodyHandlers.ofString());
        }

        String sentTo(HttpResponse<String> answer) {
            assertEquals(303, answer.statusCode(), answer.body());
            return answer.headers().firstValue("location").orElseThrow();
        }

        JsonObject get(String path, int status) throws Exception {
            var answer = visit(path);
            assertEquals(status, answer.statusCode(), answer.body());
            return GSON.fromJson(answer.body(), JsonObject.class);
        }

        /** Presses "link", decides at Threads; answers with where the browser is sent then. */
        String consent(String decision, Map<String, String> form) throws Exception {
            return decide(decision, sentTo(submit("/link", form)));
        }

        String decide(String decision, String away) throws Exception {
            var click = Map.of("persona", key, "decision", decision, "authorization_url", away);
            return sentTo(visit(simulate("consent", click).get("callback_url").getAsString()));
        }

        JsonObject link(Map<String, String> form) throws Exception {
            var to = sentTo(visit(consent("allow", form)));
            assertTrue(to.endsWith("/me"), to);
            return get("/me", 200);
        }

        void refused(String path, int status, Action action, String reason) throws Exception {
            var told = get(path, status);
            assertEquals(action.word(), told.get("action").getAsString());
            assertEquals(reason, told.get("reason").getAsString());
        }

        void isTold(String... kinds) throws Exception {
            eventually(() -> told().equals(List.of(kinds)));
        }

        List<String> told() {
            return CHANGES.stream()
                    .filter(change -> change.getUserId().equals(userId))
                    .map(change -> change.getKind().name().substring("KIND_".length()))
                    .toList();
        }

        /** How the account stands in the copy; null if it is not there. */
        String copied() throws Exception {
            var entries = GSON.fromJson(visit("/accounts").body(), JsonArray.class);
            assertTrue(entries.size() <= 1);
            return entries.isEmpty() ? null : entries.get(0).getAsJsonObject().get("state").getAsString();
        }
    }

    @Test
    void anAccountIsLinkedAndUsed() throws Exception {
        var person = new Person();
        var profile = person.link(Map.of());
        assertEquals(person.threadsId, profile.get("threads_user_id").getAsString());
        assertEquals(person.username, profile.get("username").getAsString());
        assertTrue(profile.get("name").isJsonNull(), "absent is not empty");
        assertEquals(person.threadsId, person.get("/threads/me", 200).get("id").getAsString());
        person.isTold("LINKED");
        eventually(() -> "STATE_ACTIVE".equals(person.copied()));
    }

    @Test
    void aPersonMaySayNo() throws Exception {
        var person = new Person();
        person.refused(person.consent("deny", Map.of()), 409, Action.TELL, "AUTHORIZATION_DENIED");
        assertNull(person.copied());
    }

    @Test
    void whoBringsNothingIsToldWhatToDo() throws Exception {
        var person = new Person();
        for (var path : List.of("/me", "/threads/me")) {
            assertEquals("link", person.get(path, 404).get("action").getAsString());
        }
        for (var query : List.of("", "?ticket=", "?ticket=" + "a".repeat(5000))) {
            assertEquals("start_again", person.get("/linked" + query, 410).get("action").getAsString());
        }
        person.refused("/linked?ticket=forged", 410, Action.START_AGAIN, "STATE_INVALID");
    }

    @Test
    void nobodyFinishesWhatSomebodyElseBegan() throws Exception {
        var victim = new Person();
        var attacker = new Person();
        var back = attacker.consent("allow", Map.of());
        victim.refused(back, 410, Action.START_AGAIN, "SESSION_MISMATCH");
        // The attempt is over for everybody.
        attacker.refused(back, 410, Action.START_AGAIN, "AUTHORIZATION_CLOSED");
    }

    @Test
    void whoCallsTooOftenWaitsAsLongAsItIsTold() throws Exception {
        try (var limited = client(env("TEST_LIMITED_CALLER_KEY"))) {
            var binding = "0123456789abcdef".getBytes(StandardCharsets.UTF_8);
            var error = assertThrows(IdentityException.class, () -> {
                for (int i = 0; i < 3; i++) {
                    limited.authorizationUrl("user", binding, null);
                }
            });
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, error.code());
            assertEquals("CALLER_RATE_LIMITED", error.reason());
            assertEquals(Action.WAIT, error.action());
            var delay = error.retryDelay().orElseThrow();
            assertTrue(delay.compareTo(Duration.ZERO) > 0 && delay.compareTo(Duration.ofSeconds(2)) <= 0, delay.toString());
            var url = IdentityException.patiently(
                    Duration.ofSeconds(10), () -> limited.authorizationUrl("user", binding, null));
            assertTrue(url.startsWith(env("TEST_SIMULATOR_URL")));
        }
    }

    @Test
    void whatIsUnavailableIsRepeatedByTheChannel() throws Exception {
        var person = new Person();
        var profile = person.link(Map.of());
        // The service itself asks three times, so the first call fails and the second does not.
        simulate("faults", Map.of("endpoint", "me", "fault", "html502", "times", 4));
        assertEquals(profile, person.get("/me?fresh", 200));
    }

    @Test
    void whatThreadsNoLongerTakesIsConsentedToAgain() throws Exception {
        var person = new Person();
        var account = person.link(Map.of()).get("account_id").getAsString();
        simulate("personas/" + person.key + "/revoke", Map.of());
        // Nobody has told the service yet. Threads refuses the token, and that is reported.
        person.refused("/threads/me", 503, Action.WAIT, "TOKEN_REFUSED");
        // Asked for a fresh profile, the service hears it from Threads itself.
        person.refused("/me?fresh", 403, Action.CONSENT, "REAUTHORIZATION_REQUIRED");
        // Refused twice: the account is given up, and the watch tells so.
        person.isTold("LINKED", "REAUTHORIZATION_REQUIRED");
        eventually(() -> "STATE_REAUTHORIZATION_REQUIRED".equals(person.copied()));
        person.refused("/threads/me", 403, Action.CONSENT, "REAUTHORIZATION_REQUIRED");
        // The person consents again, for this very account.
        assertEquals(account, person.link(Map.of("again", "yes")).get("account_id").getAsString());
        assertEquals(person.threadsId, person.get("/threads/me", 200).get("id").getAsString());
        person.isTold("LINKED", "REAUTHORIZATION_REQUIRED", "REAUTHORIZED");
    }

    @Test
    void aConsentAsksForAllThatTheAccountHas() throws Exception {
        var person = new Person();
        var binding = "0123456789abcdef".getBytes(StandardCharsets.UTF_8);
        var url = identity.authorizationUrl(person.userId, binding, null, "threads_manage_insights");
        var ticket = parameter(person.decide("allow", url), "ticket");
        var account = identity.complete(ticket, person.userId, binding).getAccount();
        var again = identity.authorizationUrl(
                person.userId, binding, account.getAccountId(), "threads_content_publish");
        assertEquals(
                Set.of("threads_basic", "threads_content_publish", "threads_manage_insights"),
                Set.of(parameter(again, "scope").split("[, ]")));
    }

    /** A parameter of the query of an address. */
    private static String parameter(String url, String name) {
        return Arrays.stream(URI.create(url).getRawQuery().split("&"))
                .filter(pair -> pair.startsWith(name + "="))
                .map(pair -> URLDecoder.decode(pair.substring(name.length() + 1), StandardCharsets.UTF_8))
                .findFirst()
                .orElseThrow();
    }

    @Test
    void whatIsUnlinkedLeavesTheCopy() throws Exception {
        var person = new Person();
        person.link(Map.of());
        eventually(() -> "STATE_ACTIVE".equals(person.copied()));
        assertEquals(204, person.submit("/unlink", Map.of()).statusCode());
        eventually(() -> person.copied() == null);
        assertEquals("link", person.get("/me", 404).get("action").getAsString());
        person.link(Map.of());
        person.isTold("LINKED", "UNLINKED", "RELINKED");
        eventually(() -> "STATE_ACTIVE".equals(person.copied()));
    }

    @Test
    void aWatchGoesOnAfterARestartWithoutGapOrRepetition() throws Exception {
        var before = new Person();
        var gone = new Person();
        var after = new Person();
        before.link(Map.of());
        gone.link(Map.of());
        gone.isTold("LINKED");
        // What happens while the service is away is told by the cursor alone.
        control("/restart?erase=" + gone.userId);
        // Calls are repeated by the channel until the service is back.
        after.link(Map.of());
        after.isTold("LINKED");
        before.isTold("LINKED");
        gone.isTold("LINKED", "ERASED");
        assertNull(gone.copied());
    }

    @Test
    void whoCannotGoOnFromItsCursorBeginsAnew() throws Exception {
        var before = new Person();
        var after = new Person();
        before.link(Map.of());
        eventually(() -> "STATE_ACTIVE".equals(before.copied()));
        // What is missing in the copy is brought back by a new list, and by nothing else.
        accounts.replace(List.of(), accounts.cursor());
        control("/restore");
        eventually(() -> "STATE_ACTIVE".equals(before.copied()));
        after.link(Map.of());
        after.isTold("LINKED");
        before.isTold("LINKED");
    }

    @Test
    void aBadFieldIsNamed() {
        var error = assertThrows(
                IdentityException.class,
                () -> identity.authorizationUrl("", "short".getBytes(StandardCharsets.UTF_8), null));
        assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
        assertEquals("FIELD_INVALID", error.reason());
        assertEquals(Set.of("link.user_id", "link.session_binding"), error.fields().keySet());
        assertEquals(Action.ALERT, error.action());
    }

    @Test
    void anUnknownCallerIsRefused() throws Exception {
        try (var stranger = client("tidkey_nobody")) {
            var error = assertThrows(IdentityException.class, stranger::listAccounts);
            assertEquals("CALLER_UNKNOWN", error.reason());
            assertEquals(Action.ALERT, error.action());
        }
    }

    @Test
    void everyReasonHasAnAction() {
        var reasons = new HashSet<String>();
        Arrays.stream(ErrorReason.values()).map(Enum::name).forEach(reasons::add);
        reasons.removeAll(Set.of("ERROR_REASON_UNSPECIFIED", "UNRECOGNIZED"));
        assertEquals(reasons, Action.BY_REASON.keySet());
    }
}
