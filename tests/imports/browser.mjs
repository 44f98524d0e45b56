// What both makers need: the order from standard input, and a browser session that
// consents at the simulator.

/** The order: one JSON object on standard input. */
export async function order() {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString())
}

/** One browser session in front of a handler of requests. */
export class Browser {
  #handler
  #cookies = new Map()

  constructor(handler) {
    this.#handler = handler
  }

  async send(url, init = {}) {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ")
    const headers = new Headers(init.headers)
    headers.set("origin", new URL(url).origin)
    if (cookie) headers.set("cookie", cookie)
    const response = await this.#handler(new Request(url, { ...init, headers, redirect: "manual" }))
    for (const set of response.headers.getSetCookie()) {
      const [name, ...value] = set.split(";")[0].split("=")
      this.#cookies.set(name, value.join("="))
    }
    return response
  }
}

/** Consents as one of the simulator's people; where the browser is sent then. */
export async function consent(threads, persona, authorizationUrl) {
  const response = await fetch(`${threads}/_simulator/consent`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ persona, decision: "allow", authorization_url: authorizationUrl }),
  })
  const answer = await response.json()
  if (!answer.callback_url) throw new Error(`no consent: ${JSON.stringify(answer)}`)
  return answer.callback_url.replace(/#_$/, "")
}
