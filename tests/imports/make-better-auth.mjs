// Fills a database as better-auth does: its own migrations make the tables, people of
// the simulator sign in through it, and further accounts come by its internal adapter.

import { betterAuth } from "better-auth"
import { getMigrations } from "better-auth/db/migration"
import { genericOAuth } from "better-auth/plugins/generic-oauth"
import pg from "pg"
import { Browser, consent, order } from "./browser.mjs"

const { database_url, threads, client_id, client_secret, origin, flow, rows, encrypt } = await order()
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
const { runMigrations } = await getMigrations(options)
await runMigrations()
const auth = betterAuth(options)
const context = await auth.$context

for (const persona of flow ?? []) {
  const browser = new Browser((request) => auth.handler(request))
  const begun = await browser.send(`${origin}/api/auth/sign-in/social`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ provider: "threads", callbackURL: "/" }),
  })
  const { url } = await begun.json()
  const back = await consent(threads, persona, url)
  const ended = await browser.send(back)
  if (ended.headers.get("location")?.includes("error")) throw new Error(`${persona}: ${ended.headers.get("location")}`)
}
for (const row of rows ?? []) {
  const email = `${row.accountId}@threads.invalid`
  const user = await context.internalAdapter.createUser({ name: "Somebody", email, emailVerified: false })
  const time = (value) => (value ? new Date(value) : undefined)
  await context.internalAdapter.linkAccount({
    providerId: "threads",
    ...row,
    userId: user.id,
    accessTokenExpiresAt: time(row.accessTokenExpiresAt),
  })
}

const made = await pool.query('select "accountId" as person, "userId"::text as user from account where "providerId" = \'threads\'')
console.log(JSON.stringify(Object.fromEntries(made.rows.map(({ person, user }) => [person, user]))))
await pool.end()
