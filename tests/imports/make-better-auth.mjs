// Fills a database as better-auth does: its own migrations make the tables, people of
// the simulator sign in through it, and further accounts come by its internal adapter.

import { betterAuth } from "better-auth"
import { getMigrations } from "better-auth/db/migration"
import { configure } from "./better-auth.mjs"
import { Browser, consent, order } from "./browser.mjs"

const ordered = await order()
const { threads, origin, flow, rows } = ordered
const { options, pool } = configure(ordered)
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
