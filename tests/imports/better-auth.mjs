// An application's better-auth, as the order says.

import { genericOAuth } from "better-auth/plugins/generic-oauth"
import pg from "pg"

/** Its options, and its database. */
export function configure({ database_url, threads, client_id, client_secret, origin, encrypt }) {
  const pool = new pg.Pool({ connectionString: database_url })
  const options = {
    database: pool,
    baseURL: origin,
    secret: "a-secret-of-the-test-and-of-nothing-else",
    logger: { level: "error" },
    telemetry: { enabled: false },
    account: { encryptOAuthTokens: Boolean(encrypt) },
    plugins: [
      genericOAuth({
        config: [
          {
            providerId: "threads",
            clientId: client_id,
            clientSecret: client_secret,
            authorizationUrl: `${threads}/oauth/authorize`,
            tokenUrl: `${threads}/oauth/access_token`,
            scopes: ["threads_basic"],
            pkce: false,
            authentication: "post",
            getUserInfo: async (tokens) => {
              const response = await fetch(`${threads}/v1.0/me?fields=id,username`, {
                headers: { authorization: `Bearer ${tokens.accessToken}` },
              })
              const person = await response.json()
              // Threads gives no e-mail address; better-auth wants one.
              return {
                id: person.id,
                name: person.username,
                email: `${person.id}@threads.invalid`,
                emailVerified: false,
              }
            },
          },
        ],
      }),
    ],
  }
  return { options, pool }
}
