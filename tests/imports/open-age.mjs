// Makes a key of age and opens what was sealed for it, by the library of age's author.

import { readFileSync } from "node:fs"
import { Decrypter, generateX25519Identity, identityToRecipient } from "age-encryption"

const [command, identity, file] = process.argv.slice(2)
if (command === "generate") {
  const made = await generateX25519Identity()
  console.log(JSON.stringify({ identity: made, recipient: await identityToRecipient(made) }))
} else {
  const decrypter = new Decrypter()
  decrypter.addIdentity(identity)
  process.stdout.write(await decrypter.decrypt(readFileSync(file)))
}
