// The backend as a browser meets it, against the real service and the simulator.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Status } from "nice-grpc";
import { ErrorReason } from "../gen/threads/identity/v1/error_reason.js";
import type { AccountChange } from "../gen/threads/identity/v1/resources.js";
import { Accounts, type Entry } from "../src/accounts.js";
import { createApp } from "../src/app.js";
import { ACTIONS, type Action, IdentityError, patiently } from "../src/errors.js";
import { Identity } from "../src/identity.js";
import { keepTrue } from "../src/watcher.js";

function env(name: string): string {
  return process.env[name] ?? assert.fail("run me with examples/run");
}

const BACKEND = `http://${env("LISTEN")}`;
const folder = mkdtempSync(join(tmpdir(), "copy-"));
const accounts = new Accounts(join(folder, "accounts.json"));
const changes: AccountChange[] = [];
const identity = client();
const stop = new AbortController();
let server: Server, watching: Promise<void>;

function client(key = env("THREADS_IDENTITY_CALLER_KEY")) {
  return new Identity(env("THREADS_IDENTITY_ADDRESS"), env("THREADS_IDENTITY_CA_FILE"), key);
}

// The backend as main starts it.
before(async () => {
  watching = keepTrue(identity, accounts, stop.signal, (change) => void changes.push(change));
  const [host, port] = env("LISTEN").split(":");
  server = createApp(identity, accounts, env("THREADS_GRAPH_URL"), "of the tests").listen(Number(port), host);
  await eventually(() => accounts.cursor !== undefined);
});

after(async () => {
  server.close();
  server.closeAllConnections();
  stop.abort();
  await watching;
  identity.close();
  rmSync(folder, { recursive: true });
});

async function eventually(holds: () => boolean | Promise<boolean>) {
  const until = Date.now() + 20_000;
  while (!(await holds())) {
    assert.ok(Date.now() < until, "it does not come to pass");
    await sleep(50);
  }
}

async function post(url: string, body: object = {}) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${url}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : {};
}

const simulate = (path: string, body?: object) => post(`${env("TEST_SIMULATOR_URL")}/_simulator/${path}`, body);
const control = (path: string) => post(env("TEST_CONTROL_URL") + path);

let people = 0;

/** Somebody with a Threads account and a browser that is logged in here. */
class Person {
  #cookie = "";
  readonly number = ++people;
  readonly userId = `user-${this.number}`;
  readonly key = `person${this.number}`;
  readonly threadsId = String(17841405793190000n + BigInt(this.number));
  readonly username = `${this.key}.sim`;

  static async create() {
    const person = new Person();
    await simulate("personas", { key: person.key, id: person.threadsId, username: person.username });
    assert.equal((await person.browse("/login", { user_id: person.userId })).status, 204);
    return person;
  }

  async browse(path: string, form?: Record<string, string>) {
    const url = new URL(path, BACKEND);
    const answer = await fetch(url, {
      redirect: "manual",
      // The cookie is the backend's alone.
      headers: this.#cookie && url.origin === BACKEND ? { cookie: this.#cookie } : {},
      ...(form && { method: "POST", body: new URLSearchParams(form) }),
    });
    this.#cookie = answer.headers.get("set-cookie")?.split(";")[0] ?? this.#cookie;
    return answer;
  }

  async sentTo(path: string, form?: Record<string, string>): Promise<string> {
    const answer = await this.browse(path, form);
    assert.equal(answer.status, 303, await answer.text());
    return answer.headers.get("location")!;
  }

  async get(path: string, status = 200) {
    const answer = await this.browse(path);
    const text = await answer.text();
    assert.equal(answer.status, status, text);
    return JSON.parse(text);
  }

  /** Presses "link", decides at Threads; answers with where the browser is sent then. */
  async consent(decision = "allow", form: Record<string, string> = {}) {
    return this.decide(decision, await this.sentTo("/link", form));
  }

  async decide(decision: string, authorization_url: string) {
    const { callback_url } = await simulate("consent", { persona: this.key, decision, authorization_url });
    return this.sentTo(callback_url);
  }

  async link(form?: Record<string, string>) {
    assert.equal(await this.sentTo(await this.consent("allow", form)), "/me");
    return this.get("/me");
  }

  async refused(path: string, status: number, action: Action, reason: string) {
    assert.deepEqual(await this.get(path, status), { action, reason });
  }

  told() {
    return changes.filter(({ userId }) => userId === this.userId).map(({ kind }) => kind.slice("KIND_".length));
  }

  isTold(...kinds: string[]) {
    return eventually(() => this.told().join() === kinds.join());
  }

  async copied(): Promise<string | undefined> {
    const entries: Entry[] = await this.get("/accounts");
    assert.ok(entries.length <= 1);
    return entries[0]?.state;
  }
}

async function failure(call: Promise<unknown>): Promise<IdentityError> {
  const error = await call.then(() => assert.fail("it does not fail"), (error) => error);
  assert.ok(error instanceof IdentityError, String(error));
  return error;
}

test("an account is linked and used", async () => {
  const person = await Person.create();
  const profile = await person.link();
  assert.equal(profile.threads_user_id, person.threadsId);
  assert.equal(profile.username, person.username);
  assert.equal(profile.name, null, "absent is not empty");
  assert.deepEqual(await person.get("/threads/me"), { id: person.threadsId, username: person.username });
  await person.isTold("LINKED");
  await eventually(async () => (await person.copied()) === "STATE_ACTIVE");
});

test("a person may say no", async () => {
  const person = await Person.create();
  await person.refused(await person.consent("deny"), 409, "tell", "AUTHORIZATION_DENIED");
  assert.equal(await person.copied(), undefined);
});

test("who brings nothing is told what to do", async () => {
  const person = await Person.create();
  for (const path of ["/me", "/threads/me"]) assert.deepEqual(await person.get(path, 404), { action: "link" });
  for (const query of ["", "?ticket=", `?ticket=${"a".repeat(5000)}`]) {
    assert.deepEqual(await person.get(`/linked${query}`, 410), { action: "start_again" });
  }
  await person.refused("/linked?ticket=forged", 410, "start_again", "STATE_INVALID");
});

test("nobody finishes what somebody else began", async () => {
  const [victim, attacker] = [await Person.create(), await Person.create()];
  const back = await attacker.consent();
  await victim.refused(back, 410, "start_again", "SESSION_MISMATCH");
  // The attempt is over for everybody.
  await attacker.refused(back, 410, "start_again", "AUTHORIZATION_CLOSED");
  // A browser without a session is no user at all.
  assert.equal((await fetch(back)).status, 401);
});

test("who calls too often waits as long as it is told", async () => {
  const limited = client(env("TEST_LIMITED_CALLER_KEY"));
  const call = () => limited.authorizationUrl("user", Buffer.from("0123456789abcdef"));
  const error = await failure(Promise.all([call(), call(), call()]));
  assert.deepEqual([error.code, error.reason], [Status.RESOURCE_EXHAUSTED, "CALLER_RATE_LIMITED"]);
  assert.ok(error.action === "wait" && error.retryDelay! > 0 && error.retryDelay! <= 2000, String(error.retryDelay));
  assert.ok((await patiently(10_000, call)).startsWith(env("TEST_SIMULATOR_URL")));
  limited.close();
});

test("what is unavailable is repeated by the channel", async () => {
  const person = await Person.create();
  const profile = await person.link();
  // The service itself asks three times, so the first call fails and the second does not.
  await simulate("faults", { endpoint: "me", fault: "html502", times: 4 });
  assert.deepEqual(await person.get("/me?fresh"), profile);
});

test("what Threads no longer takes is consented to again", async () => {
  const person = await Person.create();
  const { account_id } = await person.link();
  await simulate(`personas/${person.key}/revoke`);
  // Nobody has told the service yet. Threads refuses the token, and that is reported.
  await person.refused("/threads/me", 503, "wait", "TOKEN_REFUSED");
  // Asked for a fresh profile, the service hears it from Threads itself.
  await person.refused("/me?fresh", 403, "consent", "REAUTHORIZATION_REQUIRED");
  // Refused twice: the account is given up, and the watch tells so.
  await person.isTold("LINKED", "REAUTHORIZATION_REQUIRED");
  await eventually(async () => (await person.copied()) === "STATE_REAUTHORIZATION_REQUIRED");
  await person.refused("/threads/me", 403, "consent", "REAUTHORIZATION_REQUIRED");
  // The person consents again, for this very account.
  assert.equal((await person.link({ again: "yes" })).account_id, account_id);
  assert.equal((await person.get("/threads/me")).id, person.threadsId);
  await person.isTold("LINKED", "REAUTHORIZATION_REQUIRED", "REAUTHORIZED");
});

test("a consent asks for all that the account has", async () => {
  const person = await Person.create();
  const binding = Buffer.from("0123456789abcdef");
  const url = await identity.authorizationUrl(person.userId, binding, undefined, ["threads_manage_insights"]);
  const back = new URL(await person.decide("allow", url));
  const { account } = await identity.complete(back.searchParams.get("ticket")!, person.userId, binding);
  const again = await identity.authorizationUrl(person.userId, binding, account!.accountId, ["threads_content_publish"]);
  assert.deepEqual(new URL(again).searchParams.get("scope")!.split(/[, ]/).sort(), [
    "threads_basic",
    "threads_content_publish",
    "threads_manage_insights",
  ]);
});

test("what is unlinked leaves the copy", async () => {
  const person = await Person.create();
  await person.link();
  await eventually(async () => (await person.copied()) === "STATE_ACTIVE");
  assert.equal((await person.browse("/unlink", {})).status, 204);
  await eventually(async () => (await person.copied()) === undefined);
  assert.deepEqual(await person.get("/me", 404), { action: "link" });
  await person.link();
  await person.isTold("LINKED", "UNLINKED", "RELINKED");
  await eventually(async () => (await person.copied()) === "STATE_ACTIVE");
});

test("a watch goes on after a restart without gap or repetition", async () => {
  const [earlier, gone, later] = [await Person.create(), await Person.create(), await Person.create()];
  await earlier.link();
  await gone.link();
  await gone.isTold("LINKED");
  // What happens while the service is away is told by the cursor alone.
  await control(`/restart?erase=${gone.userId}`);
  // Calls are repeated by the channel until the service is back.
  await later.link();
  await later.isTold("LINKED");
  await earlier.isTold("LINKED");
  await gone.isTold("LINKED", "ERASED");
  assert.equal(await gone.copied(), undefined);
});

test("who cannot go on from its cursor begins anew", async () => {
  const [earlier, later] = [await Person.create(), await Person.create()];
  await earlier.link();
  await eventually(async () => (await earlier.copied()) === "STATE_ACTIVE");
  // What is missing in the copy is brought back by a new list, and by nothing else.
  accounts.replace([], accounts.cursor!);
  await control("/restore");
  await eventually(async () => (await earlier.copied()) === "STATE_ACTIVE");
  await later.link();
  await later.isTold("LINKED");
  await earlier.isTold("LINKED");
});

test("a bad field is named", async () => {
  const error = await failure(identity.authorizationUrl("", Buffer.from("short")));
  assert.deepEqual([error.code, error.reason, error.action], [Status.INVALID_ARGUMENT, "FIELD_INVALID", "alert"]);
  assert.deepEqual(Object.keys(error.fields).sort(), ["link.session_binding", "link.user_id"]);
});

test("an unknown caller is refused", async () => {
  const stranger = client("tidkey_nobody");
  const error = await failure(stranger.listAccounts());
  assert.deepEqual([error.reason, error.action], ["CALLER_UNKNOWN", "alert"]);
  stranger.close();
});

test("every reason has an action", () => {
  const reasons = Object.keys(ErrorReason).filter((name) => !["ERROR_REASON_UNSPECIFIED", "UNRECOGNIZED"].includes(name));
  assert.deepEqual(Object.keys(ACTIONS).sort(), reasons.sort());
});
