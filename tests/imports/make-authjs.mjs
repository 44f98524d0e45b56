// Fills a database as Auth.js does: people of the simulator sign in through Auth.js
// itself, and further accounts are linked by its adapter.

import { Auth, skipCSRFCheck } from "@auth/core"
import Threads from "@auth/core/providers/threads"
import PostgresAdapter from "@auth/pg-adapter"
import pg from "pg"
import { Browser, consent, order } from "./browser.mjs"

// As authjs.dev/getting-started/adapters/pg says.
const SCHEMA = `
CREATE TABLE verification_token (
  identifier TEXT NOT NULL, expires TIMESTAMPTZ NOT NULL, token TEXT NOT NULL, PRIMARY KEY (identifier, token));
CREATE TABLE accounts (
  id SERIAL, "userId" INTEGER NOT NULL, type VARCHAR(255) NOT NULL, provider VARCHAR(255) NOT NULL,
  "providerAccountId" VARCHAR(255) NOT NULL, refresh_token TEXT, access_token TEXT, expires_at BIGINT, id_token TEXT,
  scope TEXT, session_state TEXT, token_type TEXT, PRIMARY KEY (id));
CREATE TABLE sessions (
  id SERIAL, "userId" INTEGER NOT NULL, expires TIMESTAMPTZ NOT NULL, "sessionToken" VARCHAR(255) NOT NULL,
  PRIMARY KEY (id));
CREATE TABLE users (
  id SERIAL, name VARCHAR(255), email VARCHAR(255), "emailVerified" TIMESTAMPTZ, image TEXT, PRIMARY KEY (id));
`

const { database_url, threads, client_id, client_secret, origin, flow, rows } = await order()
const pool = new pg.Pool({ connectionString: database_url })
await pool.query(SCHEMA)
const adapter = PostgresAdapter(pool)

// The provider as it must be changed for what Threads answers: see its token and its profile.
const provider = Threads({
  clientId: client_id,
  clientSecret: client_secret,
  authorization: { url: `${threads}/oauth/authorize`, params: { scope: "threads_basic" } },
  token: {
    url: `${threads}/oauth/access_token`,
    async conform(response) {
      const answer = await response.json()
      return Response.json({ token_type: "bearer", ...answer }, { status: response.status })
    },
  },
  userinfo: `${threads}/v1.0/me?fields=id,username,threads_profile_picture_url`,
  profile: (person) => ({ id: person.id, name: person.username ?? null, email: null, image: null }),
})
const config = {
  providers: [provider],
  adapter,
  basePath: "/api/auth",
  secret: "a-secret-of-the-test-and-of-nothing-else",
  trustHost: true,
  skipCSRFCheck,
  logger: { error: (error) => console.error(error), warn: () => {}, debug: () => {} },
}

for (const persona of flow ?? []) {
  const browser = new Browser((request) => Auth(request, config))
  const begun = await browser.send(`${origin}/api/auth/signin/threads`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: "",
  })
  const back = await consent(threads, persona, begun.headers.get("location"))
  const ended = await browser.send(back)
  if (ended.headers.get("location")?.includes("error")) throw new Error(`${persona}: ${ended.headers.get("location")}`)
}
for (const row of rows ?? []) {
  const user = row.userId ?? (await adapter.createUser({ name: "Somebody", email: null, emailVerified: null })).id
  await adapter.linkAccount({ provider: "threads", type: "oauth", ...row, userId: user })
}
// Somebody who signed in otherwise is none of ours.
const other = await adapter.createUser({ name: "Other", email: "other@example.com", emailVerified: null })
await adapter.linkAccount({ userId: other.id, provider: "github", type: "oauth", providerAccountId: "1", access_token: "gho_1" })

const made = await pool.query('select "providerAccountId" as person, "userId"::text as user from accounts where provider = \'threads\'')
console.log(JSON.stringify(Object.fromEntries(made.rows.map(({ person, user }) => [person, user]))))
await pool.end()
