//! The service as it is shipped, while what it stands on breaks: real `serve`
//! processes, a real Postgres of each test's own, the simulator, real time.
//!
//! What must hold, whatever happens: the process stays up and says what is wrong;
//! it works again by itself; nobody is linked by halves; no code is spent twice;
//! and what was answered is true afterwards.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, runs in real time, and says how it went"
)]

mod commits;
mod cuts;
mod disk;
mod failing_over;
#[path = "../processes/home.rs"]
mod home;
mod kills;
mod locks;
mod migrating;
mod overload;
mod pgbouncer;
#[path = "../processes/proxy.rs"]
mod proxy;
#[path = "../processes/replica.rs"]
mod replica;
#[path = "../processes/server.rs"]
mod server;
mod slowness;
mod starting;
mod storms;
mod tls;
mod watchers;
mod world;
