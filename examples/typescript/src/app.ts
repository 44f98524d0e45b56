// A backend whose users link their Threads accounts.

import { randomBytes } from "node:crypto";
import express, { type NextFunction, type Request, type Response } from "express";
import session from "express-session";
import type { Accounts } from "./accounts.js";
import { type Action, IdentityError, patiently } from "./errors.js";
import type { Identity } from "./identity.js";

declare module "express-session" {
  interface SessionData {
    userId: string;
    /** What only this browser's session knows, in hexadecimal. */
    binding: string;
    /** The account that was linked in it. */
    accountId: string;
  }
}

/** How a browser is told what to do about an error. */
const STATUS: Record<Action, number> = {
  tell: 409,
  start_again: 410,
  wait: 503,
  consent: 403,
  watch: 500,
  alert: 500,
};

/** The user has no account to speak of. */
class NotLinked extends Error {}

/** How long, in milliseconds, a person who waits for a page lets us wait. */
const PATIENCE = 5000;

/** No ticket is longer. */
const TICKET_MAX = 4096;

export function createApp(identity: Identity, accounts: Accounts, graphUrl: string, secret: string) {
  const app = express();
  app.use(express.urlencoded({ extended: false }));
  // Lax: no other site's form is sent with our cookie, and the way back from Threads is.
  // Behind https, also `secure`; and a store of yours in place of the memory.
  const cookie = { httpOnly: true, sameSite: "lax" } as const;
  app.use(session({ secret, resave: false, saveUninitialized: false, cookie }));

  /** In place of the login that you have. */
  app.post("/login", (request, response, next) => {
    const userId = request.body?.user_id;
    if (typeof userId !== "string" || userId === "") return void response.status(400).send("user_id is required");
    request.session.regenerate((error) => {
      if (error) return next(error);
      request.session.userId = userId;
      request.session.binding = randomBytes(16).toString("hex");
      response.sendStatus(204);
    });
  });

  app.use((request, response, next) => {
    if (request.session.userId) next();
    else response.status(401).json({ action: "log_in" });
  });

  app.post("/link", async (request, response) => {
    const { userId, binding, known } = here(request);
    // Which account is consented to again is ours to know, not the browser's.
    const again = request.body?.again ? known : undefined;
    response.redirect(303, await patiently(PATIENCE, () => identity.authorizationUrl(userId, binding, again)));
  });

  app.post("/unlink", async (request, response) => {
    const { userId, accountId } = linkedHere(request);
    await patiently(PATIENCE, () => identity.unlink(accountId, userId));
    delete request.session.accountId;
    // Threads has no way to give a token back: tell the person to remove the app there, too.
    response.sendStatus(204);
  });

  /** Where the hosted callback sends the browser on to (`return_to`). */
  app.get("/linked", async (request, response) => {
    // A browser that guesses where its person will go has not got its person there.
    if (request.get("sec-purpose")) return void response.sendStatus(204);
    const ticket = String(request.query.ticket ?? "");
    if (ticket === "" || ticket.length > TICKET_MAX) {
      return void response.status(STATUS.start_again).json({ action: "start_again" });
    }
    // The user is that of this session, whoever the ticket may be of.
    const { userId, binding } = here(request);
    const done = await patiently(PATIENCE, () => identity.complete(ticket, userId, binding));
    request.session.accountId = done.account!.accountId;
    response.redirect(303, "/me");
  });

  app.get("/me", async (request, response) => {
    const { userId, accountId } = linkedHere(request);
    const fresh = "fresh" in request.query;
    const got = await patiently(PATIENCE, () => identity.profile(accountId, userId, fresh));
    response.json({
      account_id: got.accountId,
      threads_user_id: got.profile!.id,
      // Absent is not empty.
      username: got.profile!.username ?? null,
      name: got.profile!.name ?? null,
    });
  });

  /** Calls Threads itself, with the person's token. */
  app.get("/threads/me", async (request, response) => {
    const { userId, accountId } = linkedHere(request);
    const token = await patiently(PATIENCE, () =>
      identity.accessToken(accountId, userId, ["threads_basic"], "to show the handle"),
    );
    const answer = await askThreads(token);
    if (answer?.refused) {
      // Threads refuses the token. The service asks Threads itself, and gives the account
      // up once it is sure; the copy hears of it then.
      await identity.reportInvalid(accountId, userId, token);
      response.status(503).json({ action: "wait", reason: "TOKEN_REFUSED" });
    } else if (answer?.me) {
      response.json(answer.me);
    } else {
      response.status(503).json({ action: "wait", reason: "THREADS_UNAVAILABLE" });
    }
  });

  /** What the copy says, without a call. */
  app.get("/accounts", (request, response) => {
    response.json(accounts.of(here(request).userId));
  });

  app.use((error: unknown, _: Request, response: Response, next: NextFunction) => {
    if (error instanceof NotLinked) return void response.status(404).json({ action: "link" });
    if (!(error instanceof IdentityError)) return next(error);
    const { action, reason, retryDelay } = error;
    if (action === "alert") console.error("threads-identity:", reason, error.message, error.fields, error.metadata);
    if (action === "wait") response.set("Retry-After", String(Math.ceil((retryDelay ?? 1000) / 1000)));
    response.status(STATUS[action]).json({ action, reason });
  });

  /** Who sits at the browser, and the account that was linked in it or that the copy knows of. */
  function here(request: Request) {
    const { userId = "", binding = "", accountId } = request.session;
    return { userId, binding: Buffer.from(binding, "hex"), known: accountId ?? accounts.of(userId)[0]?.account_id };
  }

  function linkedHere(request: Request) {
    const { userId, known } = here(request);
    if (!known) throw new NotLinked();
    return { userId, accountId: known };
  }

  /** Who Threads thinks a token is of, or that it refuses it; nothing if it does not answer. */
  async function askThreads(token: string): Promise<{ me?: object; refused?: boolean } | undefined> {
    try {
      const answer = await fetch(`${graphUrl}/v1.0/me?fields=id,username`, {
        headers: { authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(10_000),
      });
      if (answer.status === 401) return { refused: true };
      const body = await answer.json();
      return answer.ok ? { me: body } : { refused: body.error?.code === 190 };
    } catch (error) {
      console.warn("Threads does not answer:", error);
      return undefined;
    }
  }

  return app;
}
