//! What `--help` shows at its end: each command as it is typed. A test parses every
//! line.

#[cfg(feature = "simulator")]
pub(super) const FIRST_STEPS: &str = "\
First steps:
  threads-identity dev                       # everything on this machine, and a tour of it
  threads-identity keys generate --inline    # then serve, as README.md has it
  threads-identity doctor                    # what is wrong with a deployment, and the fix
  threads-identity link user-1               # link a Threads account from this terminal

`threads-identity COMMAND --help` says more of each, with examples.";

#[cfg(not(feature = "simulator"))]
pub(super) const FIRST_STEPS: &str = "\
First steps:
  threads-identity keys generate --inline    # then serve, as README.md has it
  threads-identity doctor                    # what is wrong with a deployment, and the fix
  threads-identity link user-1               # link a Threads account from this terminal

`threads-identity COMMAND --help` says more of each, with examples.";

#[cfg(feature = "simulator")]
pub(super) const DEV: &str = "\
Examples:
  threads-identity dev
  threads-identity dev --json --data-dir /tmp/threads    # for scripts: one JSON object when all is ready";

pub(super) const SERVE: &str = "\
Examples:
  threads-identity serve --config threads-identity.toml
  threads-identity serve --json    # configured by environment; prints where it listens";

pub(super) const MIGRATE: &str = "\
Examples:
  threads-identity migrate --config threads-identity.toml
  threads-identity migrate --after-restore    # then: threads-identity erase --replay LEDGER";

#[cfg(feature = "simulator")]
pub(super) const SIMULATE: &str = "\
Examples:
  threads-identity simulate --redirect-uri http://127.0.0.1:3000/callback
  curl -s http://127.0.0.1:8091/_simulator/people";

pub(super) const KEYS: &str = "\
Examples:
  threads-identity keys generate             # keys.toml: keep a copy apart from backups
  threads-identity keys list                 # which keys there are, and what each still holds

From one key to the next: generate, give the file to every replica, activate, give it to all again, reseal, retire.";

pub(super) const KEYS_GENERATE: &str = "\
Examples:
  threads-identity keys generate --file keys.toml
  threads-identity keys generate --inline    # for THREADS_IDENTITY_KEY";

pub(super) const KEYS_LIST: &str = "\
Examples:
  threads-identity keys list --config threads-identity.toml
  threads-identity keys list --json";

pub(super) const KEYS_ACTIVATE: &str = "\
Examples:
  threads-identity keys activate 4f1c22ab --file keys.toml";

pub(super) const KEYS_RESEAL: &str = "\
Examples:
  threads-identity keys reseal --config threads-identity.toml";

pub(super) const KEYS_RETIRE: &str = "\
Examples:
  threads-identity keys retire 4f1c22ab --config threads-identity.toml";

pub(super) const LINK: &str = "\
Examples:
  threads-identity link user-1
  threads-identity link user-1 --account 5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90    # consent anew
  threads-identity link user-1 --scope threads_content_publish,threads_keyword_search
  threads-identity link user-1 --json    # for scripts, which write the address to its standard input

If your own page answers where the browser ends, it is first to complete, for a user of its own, and this command \
finds SESSION_MISMATCH. Name with --redirect-uri one of the app's redirect URIs where nothing answers.";

pub(super) const ACCOUNTS: &str = "\
Examples:
  threads-identity accounts user-1
  threads-identity accounts user-1 --all --json";

pub(super) const PROFILE: &str = "\
Examples:
  threads-identity profile user-1
  threads-identity profile user-1 --fresh    # as Threads has it now
  threads-identity profile user-1 --json | jq -r .profile.username";

pub(super) const WATCH: &str = "\
Examples:
  threads-identity watch
  threads-identity watch --user user-1 --json
  threads-identity watch --server https://id.example.com:50051 --key-file caller.key --ca-file ca.pem";

pub(super) const CALLERS: &str = "\
Examples:
  threads-identity callers add web";

pub(super) const CALLERS_ADD: &str = "\
Examples:
  threads-identity callers add web
  threads-identity callers add worker --roles read,sync,token";

pub(super) const AUDIT: &str = "\
Examples:
  threads-identity audit --account 5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90
  threads-identity audit --user user-1 --json";

pub(super) const ERASE: &str = "\
Examples:
  threads-identity erase --user user-1 --dry-run
  threads-identity erase --threads-ids ids.txt
  threads-identity erase --export > ledger.jsonl    # beside each backup
  threads-identity erase --replay ledger.jsonl      # after a restore";

pub(super) const IMPORT: &str = "\
Examples:
  threads-identity import authjs --url-file source.url --dry-run --report rows.csv
  threads-identity import better-auth --url-file source.url --report rows.csv
  threads-identity import csv accounts.csv --app default";

pub(super) const IMPORT_AUTHJS: &str = "\
Examples:
  threads-identity import authjs --url-file source.url --dry-run
  threads-identity import authjs --url-file source.url --table auth.accounts --rate 20 --report rows.csv";

pub(super) const IMPORT_BETTER_AUTH: &str = "\
Examples:
  threads-identity import better-auth --url-file source.url --dry-run
  threads-identity import better-auth --url-file source.url --report rows.csv";

pub(super) const IMPORT_CSV: &str = "\
Examples:
  threads-identity import csv accounts.csv --report rows.csv";

pub(super) const EXPORT: &str = "\
Examples:
  threads-identity export --out accounts.csv
  threads-identity export --tokens-sealed-to recipients.txt --out accounts.csv.age
  threads-identity export --user user-1    # all that is stored of one person, without tokens";

pub(super) const DOCTOR: &str = "\
Examples:
  threads-identity doctor --config threads-identity.toml
  threads-identity doctor --offline --strict --json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  threads-identity completions bash > ~/.local/share/bash-completion/completions/threads-identity
  threads-identity completions zsh > ~/.zfunc/_threads-identity    # with ~/.zfunc in fpath
  threads-identity completions fish > ~/.config/fish/completions/threads-identity.fish";

pub(super) const MAN: &str = "\
Examples:
  threads-identity man | man -l -
  threads-identity man ~/.local/share/man/man1    # a page for each command";
