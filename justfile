# The list of commands. CI runs `just ci` after `cargo test`, and nothing else.

# Everything on this machine: Postgres, the Threads simulator, the service, a demo backend.
dev *args:
    cargo run -- dev {{args}}

# The tests. They bring their own Postgres.
test *args:
    cargo test {{args}}

# Real processes, killed and frozen for ten minutes while they refresh twenty thousand tokens.
endure:
    cargo test --test refreshing -- --ignored --nocapture

# The service killed with -9 so many times while it links. Ten thousand take an hour or two.
kill-links times="1000":
    THREADS_IDENTITY_TIMES={{times}} cargo test --test faults -- --ignored --nocapture links_are_whole

# So many calls given up at random moments, over a network with a delay.
cut-calls times="10000":
    THREADS_IDENTITY_TIMES={{times}} cargo test --test faults -- --ignored --nocapture ten_thousand_calls_cut

# So many links, each of which loses the reply to one of its commits.
lose-replies times="1000":
    THREADS_IDENTITY_TIMES={{times}} cargo test --test faults -- --ignored --nocapture a_thousand_replies

# Postgres crashed two hundred times under load.
crash-postgres:
    cargo test --test faults -- --ignored --nocapture a_database_that_crashes_two_hundred

# So many changes that nobody has read for weeks.
pile-up changes="10000000":
    THREADS_IDENTITY_TIMES={{changes}} cargo test --test faults -- --ignored --nocapture changes_that_nobody

# A hundred thousand guesses of a code, and a million states, at the real process.
guess:
    cargo test --release --test commands -- --ignored --nocapture guesses

# Formats the code.
fmt:
    cargo fmt

# Brings .sqlx/ up to date after a change of a query or a migration. Needs sqlx-cli 0.9.
sql:
    cargo run --quiet -- with-postgres sh -c 'SQLX_OFFLINE=false && export SQLX_OFFLINE && sqlx migrate run && cargo sqlx prepare'

# Writes docs/api.md anew after a change of proto/.
api:
    THREADS_IDENTITY_UPDATE=1 cargo test --quiet --test contract the_document

# Lints and formats of proto/, and whether it breaks what was promised. npm fetches buf.
proto:
    tools/buf/run lint
    tools/buf/run format --diff --exit-code --exclude-path proto/google
    tools/buf/run breaking --against proto/image.binpb

# Promises proto/ as it stands: with a release, and for whatever `just proto` rightly refuses.
promise:
    tools/buf/run build --path proto/threads --as-file-descriptor-set --exclude-source-info -o proto/image.binpb

# Is the code formatted?
fmt-check:
    cargo fmt --check

# Lints, with and without the parts for development; warnings are errors.
lint:
    cargo clippy --all-targets -- -D warnings
    cargo clippy --lib --bins --no-default-features -- -D warnings

# Does .sqlx/ fit the queries and the migrations?
sql-check:
    cargo run --quiet -- with-postgres sh -c 'SQLX_OFFLINE=false && export SQLX_OFFLINE && sqlx migrate run && cargo sqlx prepare --check'

# The documentation of the code; warnings are errors.
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items

# Dependencies: licences, sources, duplicates. Advisories need the network: `cargo deny check`.
deny:
    cargo deny --offline check --hide-inclusion-graph bans licenses sources
    tests/supply_chain/run

# The release binary, and a Python client that makes the whole round against it.
python:
    cargo build --release
    tests/python/run target/release/threads-identity

# The example backends in Go, Java, Python, Rust and TypeScript, against the release binary of `just python`; or only those named.
examples *languages:
    examples/run target/release/threads-identity {{languages}}

# The service beside the least that could do the same, into docs/performance.md: an hour at most, 30 GB of disk. `just bench --accounts 1000000 --rounds 5` is short.
bench *args:
    cargo bench --bench compare -- {{args}}

# How fast one replica refreshes tokens, beside the bare SQL of it.
bench-refresh:
    cargo bench --bench refresh

# Ten years of a thousand accounts, by the real service with a clock moved by hand.
years:
    cargo test --release --test it -- --ignored --nocapture ten_years

# The version before and this one over one database, there and back. THREADS_IDENTITY_PREVIOUS_BINARY names the former.
upgrade:
    cargo test --test commands two_versions -- --ignored --nocapture

# Twice and ten times as many calls as a slow database answers: what is answered, what is refused, and how soon.
overload:
    cargo test --release --test faults too_much_for_half -- --ignored --nocapture

# One of the fuzz targets (see `fuzz/fuzz_targets`) under libFuzzer, for so many seconds. Needs a nightly compiler and cargo-fuzz.
fuzz target seconds="600":
    cargo +nightly fuzz run -O {{target}} -- -max_total_time={{seconds}} -max_len=16384

# What CI runs after the tests.
ci: fmt-check lint proto sql-check doc deny python examples
