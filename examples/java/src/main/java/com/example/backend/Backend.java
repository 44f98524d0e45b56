package com.example.backend;

import static com.example.backend.IdentityException.patiently;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonSyntaxException;
import io.javalin.Javalin;
import io.javalin.http.Context;
import io.javalin.http.HttpStatus;
import io.javalin.json.JavalinGson;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.eclipse.jetty.http.HttpCookie;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A backend whose users link their Threads accounts. */
public final class Backend {
    private static final Logger LOG = LoggerFactory.getLogger(Backend.class);
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();

    /** How long a person who waits for a page lets us wait. */
    private static final Duration PATIENCE = Duration.ofSeconds(5);

    /** No ticket is longer. */
    private static final int TICKET_MAX = 4096;

    private final Identity identity;
    private final Accounts accounts;
    private final String graphUrl;
    private final HttpClient http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(3)).build();
    private final SecureRandom random = new SecureRandom();

    public Backend(Identity identity, Accounts accounts, String graphUrl) {
        this.identity = identity;
        this.accounts = accounts;
        this.graphUrl = graphUrl;
    }

    /** Its pages. */
    public Javalin app() {
        return Javalin.create(config -> {
                    config.showJavalinBanner = false;
                    config.jsonMapper(new JavalinGson(GSON, true));
                    // Lax: no other site's form is sent with our cookie, and the way back from Threads is.
                    // Behind https, also secure; and a session store of yours in place of the memory.
                    config.jetty.modifyServletContextHandler(
                            handler -> handler.getSessionHandler().setSameSite(HttpCookie.SameSite.LAX));
                })
                .post("/login", this::login)
                .post("/link", this::link)
                .post("/unlink", this::unlink)
                .get("/linked", this::linked)
                .get("/me", this::me)
                .get("/threads/me", this::threadsMe)
                .get("/accounts", context -> context.json(accounts.of(Here.of(context).userId())))
                .exception(LoggedOut.class, (error, context) -> context.status(401).json(Map.of("action", "log_in")))
                .exception(NotLinked.class, (error, context) -> context.status(404).json(Map.of("action", "link")))
                .exception(IOException.class, (error, context) -> {
                    LOG.warn("Threads does not answer: {}", error.toString());
                    tell(context, Action.WAIT, "THREADS_UNAVAILABLE");
                })
                .exception(IdentityException.class, this::failed);
    }

    /** Nobody is logged in at this browser. */
    private static final class LoggedOut extends RuntimeException {}

    /** The user has no account to speak of. */
    private static final class NotLinked extends RuntimeException {}

    /** Who sits at the browser, and what only this browser's session knows. */
    private record Here(String userId, byte[] binding, String linked) {
        static Here of(Context context) {
            String userId = context.sessionAttribute("user_id");
            if (userId == null) {
                throw new LoggedOut();
            }
            return new Here(userId, context.sessionAttribute("binding"), context.sessionAttribute("account_id"));
        }
    }

    /** In place of the login that you have. */
    private void login(Context context) {
        var userId = context.formParam("user_id");
        if (userId == null || userId.isEmpty()) {
            context.status(400).result("user_id is required");
            return;
        }
        var binding = new byte[16];
        random.nextBytes(binding);
        // A session of before is not taken over.
        context.req().getSession().invalidate();
        context.sessionAttribute("user_id", userId);
        context.sessionAttribute("binding", binding);
        context.status(204);
    }

    private void link(Context context) {
        var here = Here.of(context);
        // Which account is consented to again is ours to know, not the browser's.
        var again = context.formParam("again") == null ? null : known(here).orElse(null);
        var url = patiently(PATIENCE, () -> identity.authorizationUrl(here.userId(), here.binding(), again));
        context.redirect(url, HttpStatus.SEE_OTHER);
    }

    private void unlink(Context context) {
        var here = Here.of(context);
        var account = known(here).orElseThrow(NotLinked::new);
        patiently(PATIENCE, () -> identity.unlink(account, here.userId()));
        context.sessionAttribute("account_id", null);
        // Threads has no way to give a token back: tell the person to remove the app there, too.
        context.status(204);
    }

    /** Where the hosted callback sends the browser on to (return_to). */
    private void linked(Context context) {
        // A browser that guesses where its person will go has not got its person there.
        if (context.header("Sec-Purpose") != null) {
            context.status(204);
            return;
        }
        var here = Here.of(context);
        var ticket = context.queryParam("ticket");
        if (ticket == null || ticket.isEmpty() || ticket.length() > TICKET_MAX) {
            context.status(Action.START_AGAIN.httpStatus).json(Map.of("action", Action.START_AGAIN.word()));
            return;
        }
        // The user is that of this session, whoever the ticket may be of.
        var done = patiently(PATIENCE, () -> identity.complete(ticket, here.userId(), here.binding()));
        context.sessionAttribute("account_id", done.getAccount().getAccountId());
        context.redirect("/me", HttpStatus.SEE_OTHER);
    }

    /** The account that was linked here, or one that the copy knows of. */
    private Optional<String> known(Here here) {
        return Optional.ofNullable(here.linked())
                .or(() -> accounts.of(here.userId()).stream().findFirst().map(Accounts.Entry::account_id));
    }

    private void me(Context context) {
        var here = Here.of(context);
        var fresh = context.queryParamMap().containsKey("fresh");
        var account = known(here).orElseThrow(NotLinked::new);
        var got = patiently(PATIENCE, () -> identity.profile(account, here.userId(), fresh));
        var profile = got.getProfile();
        // Absent is not empty.
        var answer = new HashMap<String, String>();
        answer.put("account_id", got.getAccountId());
        answer.put("threads_user_id", profile.getId());
        answer.put("username", profile.hasUsername() ? profile.getUsername() : null);
        answer.put("name", profile.hasName() ? profile.getName() : null);
        context.json(answer);
    }

    /** Calls Threads itself, with the person's token. */
    private void threadsMe(Context context) throws IOException, InterruptedException {
        var here = Here.of(context);
        var account = known(here).orElseThrow(NotLinked::new);
        var token = patiently(
                PATIENCE,
                () -> identity.accessToken(account, here.userId(), List.of("threads_basic"), "to show the handle"));
        var request = HttpRequest.newBuilder(URI.create(graphUrl + "/v1.0/me?fields=id,username"))
                .header("Authorization", "Bearer " + token)
                .timeout(Duration.ofSeconds(10))
                .build();
        var response = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() == 200) {
            context.contentType("application/json").result(response.body());
        } else if (response.statusCode() == 401 || errorCode(response.body()) == 190) {
            // Threads refuses the token. The service asks Threads itself, and gives the account up once it is sure; the
            // copy hears of it then.
            identity.reportInvalid(account, here.userId(), token);
            tell(context, Action.WAIT, "TOKEN_REFUSED");
        } else {
            tell(context, Action.WAIT, "THREADS_UNAVAILABLE");
        }
    }

    /** The code of an error of Threads; 0 if it has none. */
    private static int errorCode(String body) {
        try {
            return GSON.fromJson(body, JsonObject.class).getAsJsonObject("error").get("code").getAsInt();
        } catch (JsonSyntaxException | NullPointerException | ClassCastException unreadable) {
            return 0;
        }
    }

    private void failed(IdentityException error, Context context) {
        var action = error.action();
        if (action == Action.ALERT) {
            LOG.error("threads-identity: {}", error.toString());
        } else if (action == Action.WAIT) {
            var delay = error.retryDelay().orElse(Duration.ofSeconds(1));
            context.header("Retry-After", Long.toString(delay.plusMillis(999).toSeconds()));
        }
        tell(context, action, error.reason());
    }

    private static void tell(Context context, Action action, String reason) {
        context.status(action.httpStatus).json(Map.of("action", action.word(), "reason", reason));
    }
}
