// The client of threads-identity: one channel, the calls that a backend makes.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { credentials, Metadata } from "@grpc/grpc-js";
import { type Channel, type Client, createChannel, createClientFactory } from "nice-grpc";
import { errorDetailsClientMiddleware } from "nice-grpc-error-details";
import { AccessTokenServiceDefinition } from "../gen/threads/identity/v1/access_token_service.js";
import { AccountServiceDefinition, type WatchAccountsResponse } from "../gen/threads/identity/v1/account_service.js";
import {
  AuthorizationServiceDefinition,
  type CompleteAuthorizationResponse,
} from "../gen/threads/identity/v1/authorization_service.js";
import { ProfileServiceDefinition } from "../gen/threads/identity/v1/profile_service.js";
import type { Account, AccountProfile } from "../gen/threads/identity/v1/resources.js";
import { typed } from "./errors.js";

// Deadlines, and repeating what is UNAVAILABLE: the file that comes with the protos.
const SERVICE_CONFIG = readFileSync("gen/service_config.json", "utf8");

/** The client. One per process. */
export class Identity {
  readonly #channel: Channel;
  readonly #authorizations: Client<typeof AuthorizationServiceDefinition>;
  readonly #accounts: Client<typeof AccountServiceDefinition>;
  readonly #profiles: Client<typeof ProfileServiceDefinition>;
  readonly #tokens: Client<typeof AccessTokenServiceDefinition>;

  constructor(address: string, caFile: string, callerKey: string) {
    // The key goes with every call, and over TLS alone.
    const key = credentials.createFromMetadataGenerator((_, callback) => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${callerKey}`);
      callback(null, metadata);
    });
    const tls = credentials.createSsl(readFileSync(caFile));
    this.#channel = createChannel(address, credentials.combineChannelCredentials(tls, key), {
      "grpc.service_config": SERVICE_CONFIG,
      // Finds out that the other end of a watch is gone without a word.
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.max_reconnect_backoff_ms": 5_000,
    });
    const clients = createClientFactory().use(errorDetailsClientMiddleware);
    this.#authorizations = clients.create(AuthorizationServiceDefinition, this.#channel);
    this.#accounts = clients.create(AccountServiceDefinition, this.#channel);
    this.#profiles = clients.create(ProfileServiceDefinition, this.#channel);
    this.#tokens = clients.create(AccessTokenServiceDefinition, this.#channel);
  }

  close() {
    this.#channel.close();
  }

  /**
   * Where to send the browser; with an account, to consent for it again; with more
   * permissions than the app asks for by itself, such as those that a PERMISSION_MISSING
   * names, to consent to these, too.
   */
  async authorizationUrl(
    userId: string,
    sessionBinding: Uint8Array,
    accountId?: string,
    more: string[] = [],
  ): Promise<string> {
    // What a consent asks for takes the place of what the account had: ask for that, too.
    const had = accountId === undefined ? [] : (await this.account(accountId, userId)).scopes;
    const scopes = [...new Set([...had, ...more])];
    const link = { userId, sessionBinding, accountId };
    const created = await answered(
      this.#authorizations.createAuthorizationUrl({ flow: { $case: "link", value: link }, scopes }),
    );
    return created.authorizationUrl;
  }

  /** Links what the browser came back with to whoever sits at it now. */
  complete(ticket: string, userId: string, sessionBinding: Uint8Array): Promise<CompleteAuthorizationResponse> {
    return answered(
      this.#authorizations.completeAuthorization({ answer: { $case: "ticket", value: ticket }, userId, sessionBinding }),
    );
  }

  /** The profile; a fresh one is read from Threads again first. */
  async profile(accountId: string, userId: string, fresh = false): Promise<AccountProfile> {
    const got = await answered(
      this.#profiles.getProfile({
        account: { $case: "accountId", value: accountId },
        userId,
        maxAge: fresh ? { seconds: 0, nanos: 0 } : undefined,
      }),
    );
    return got.profile!;
  }

  /** A token for Threads. Use it and drop it: it is not to be stored. */
  async accessToken(accountId: string, userId: string, requiredScopes: string[], purpose: string): Promise<string> {
    const fetched = await answered(
      this.#tokens.fetchAccessToken({ accountId, userId, requiredScopes, purpose }),
    );
    return fetched.accessToken;
  }

  /** Says that Threads refused a token; answers with how the account stands now. */
  async reportInvalid(accountId: string, userId: string, accessToken: string): Promise<Account> {
    const tokenSha256 = createHash("sha256").update(accessToken).digest();
    const reported = await answered(this.#tokens.reportInvalidToken({ accountId, userId, tokenSha256 }));
    return reported.account!;
  }

  /** One account. */
  async account(accountId: string, userId: string): Promise<Account> {
    const got = await answered(
      this.#accounts.getAccount({ account: { $case: "accountId", value: accountId }, userId }),
    );
    return got.account!;
  }

  /** Ends a link; its token and profile are destroyed at once. */
  async unlink(accountId: string, userId: string): Promise<void> {
    await answered(this.#accounts.unlinkAccount({ accountId, userId }));
  }

  /** Every account of the app that is linked. */
  async listAccounts(): Promise<Account[]> {
    const found: Account[] = [];
    let pageToken = "";
    do {
      const page = await answered(this.#accounts.listAccounts({ pageSize: 200, pageToken }));
      found.push(...page.accounts);
      pageToken = page.nextPageToken;
    } while (pageToken);
    return found;
  }

  /** The changes of the whole app, from a cursor on. */
  async *watch(cursor: string | undefined, signal: AbortSignal): AsyncGenerator<WatchAccountsResponse> {
    try {
      yield* this.#accounts.watchAccounts({ cursor }, { signal });
    } catch (error) {
      throw typed(error);
    }
  }
}

async function answered<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw typed(error);
  }
}
