// THREADS_IDENTITY_ADDRESS=… THREADS_IDENTITY_CA_FILE=… THREADS_IDENTITY_CALLER_KEY=… npm start

import { randomBytes } from "node:crypto";
import { Accounts } from "./accounts.js";
import { createApp } from "./app.js";
import { Identity } from "./identity.js";
import { keepTrue } from "./watcher.js";

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

const identity = new Identity(
  required("THREADS_IDENTITY_ADDRESS"),
  required("THREADS_IDENTITY_CA_FILE"),
  required("THREADS_IDENTITY_CALLER_KEY"),
);
const accounts = new Accounts(process.env.ACCOUNTS_FILE ?? "accounts.json");
const graphUrl = process.env.THREADS_GRAPH_URL ?? "https://graph.threads.com";
// One secret for all processes, or every restart logs everybody out.
const secret = process.env.SESSION_SECRET ?? randomBytes(32).toString("hex");
const [host, port] = (process.env.LISTEN ?? "127.0.0.1:3000").split(":");

const stop = new AbortController();
const watching = keepTrue(identity, accounts, stop.signal);
const server = createApp(identity, accounts, graphUrl, secret).listen(Number(port), host);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    server.close();
    stop.abort();
    await watching;
    identity.close();
  });
}
