package com.example.backend;

import java.io.File;
import java.nio.file.Path;

/** Starts the backend: THREADS_IDENTITY_ADDRESS, THREADS_IDENTITY_CA_FILE and THREADS_IDENTITY_CALLER_KEY must be set. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        var environment = System.getenv();
        var identity = new Identity(
                required("THREADS_IDENTITY_ADDRESS"),
                new File(required("THREADS_IDENTITY_CA_FILE")),
                required("THREADS_IDENTITY_CALLER_KEY"));
        var accounts = new Accounts(Path.of(environment.getOrDefault("ACCOUNTS_FILE", "accounts.json")));
        var graphUrl = environment.getOrDefault("THREADS_GRAPH_URL", "https://graph.threads.com");
        var listen = environment.getOrDefault("LISTEN", "127.0.0.1:3000").split(":");
        var watcher = new Watcher(identity, accounts, change -> {});
        var app = new Backend(identity, accounts, graphUrl).app();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            app.stop();
            try {
                watcher.close();
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
            identity.close();
        }));
        app.start(listen[0], Integer.parseInt(listen[1]));
    }

    private static String required(String name) {
        var value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set");
        }
        return value;
    }
}
