//! Threads account linking for any backend, over gRPC.
//!
//! A backend asks for an authorization URL, hands back what the browser brought,
//! and from then on has the person's profile and a working access token: stored
//! sealed in Postgres, erased when the person says so. `proto/` is what callers
//! see, `migrations/` what is stored; this crate lies between the two.
//!
//! It is written in rings, and arrows point inward: a ring may use itself and
//! those below it in this list, but a flow only the flows above it, and a means
//! never another means. `tests/tidy.rs` holds it to that. Whoever reads the
//! modules in the order below meets each thing after what it is made of has been
//! named, and the reasons before the machinery.
//!
//! **Flows** are what the service does, each a screen that decides.
//! [`accounts`] reads, lists and unlinks; [`erasures`] forgets people; [`notices`] takes
//! what Meta tells of people; [`events`] tells what changed;
//! [`refreshes`] is one attempt to keep a token alive; [`authorizations`] makes the
//! URL and completes what comes back, the heart of it all; [`tokens`] hands a token
//! out; [`profiles`] reads a profile, anew if it is too old; [`refresher`] attempts
//! what is due, for ever; [`housekeeping`] removes what has had its time, and
//! measures; [`imports`] brings accounts in from elsewhere, [`exports`] takes them out.
//!
//! **The bag**, [`service`], holds what any flow may need, built once and passed
//! by reference.
//!
//! **Means** know how, and nothing of why. [`store`] is Postgres: every query,
//! and the coalescer by which calls that wait together travel together;
//! [`threads`] is the client of the platform's API, and what its failures mean;
//! [`sealing`] is the keyring and the form of every sealed value; [`flights`]
//! lets concurrent callers share one piece of work; [`signed_request`] knows what
//! Meta has signed; [`issuers`] knows who signs tokens for callers; [`rates`] counts
//! how often somebody may.
//!
//! **Words** are what everybody speaks in. [`ids`] names things; [`secret`] holds
//! what must not be shown; [`states`] says where an account or an authorization
//! stands; [`profile`] is what Threads tells of a person; [`error`] is the one
//! error with its published reason; [`clock`] is the only way to the time;
//! [`config`] is what an operator decides; [`metrics`] is what can be measured;
//! [`peer`] is who is at the other end of a connection; [`trace`] says which calls
//! are followed from outside; [`proto`] is generated from the API.
//!
//! **Edges** are where others reach us. [`listener`] holds the connections; [`grpc`] parses, calls a flow and
//! converts; [`web`] does the same for browsers and Meta; [`readiness`] knows whether work can be done at all; [`ops`] tells
//! that and the metrics over HTTP; [`serve`] runs them together and ends them in
//! order; [`doctor`] looks at what an operator has set up, from outside.
//!
//! **Assembly** is the process. [`cli`] is the commands, [`telemetry`] the logs and traces,
#![cfg_attr(feature = "simulator", doc = "[`dev`] the whole thing on one machine.")]
#![cfg_attr(not(feature = "simulator"), doc = "`dev` the whole thing on one machine (not in this build).")]
//!
//! **Islands** use nothing of this crate, and nothing but the assembly and the
//! tests uses them.
#![cfg_attr(
    feature = "simulator",
    doc = "[`simulator`] is Threads' second implementation, spoken to over HTTP; [`postgres`] runs a \
           database server for development."
)]
#![cfg_attr(not(feature = "simulator"), doc = "`simulator` and `postgres` are not in this build.")]

// Flows.
pub mod accounts;
pub mod erasures;
pub mod notices;
pub mod events;
pub mod refreshes;
pub mod authorizations;
pub mod tokens;
pub mod profiles;
pub mod refresher;
pub mod housekeeping;
pub mod imports;
pub mod exports;

// The bag.
pub mod service;

// Means.
pub mod store;
pub mod threads;
pub mod sealing;
pub mod flights;
pub mod signed_request;
pub mod issuers;
pub mod rates;

// Words.
pub mod ids;
pub mod secret;
pub mod states;
pub mod profile;
pub mod error;
pub mod clock;
pub mod config;
pub mod metrics;
pub mod peer;
pub mod trace;
pub mod proto;

// Edges.
pub mod listener;
pub mod grpc;
pub mod web;
pub mod readiness;
pub mod ops;
pub mod serve;
pub mod doctor;

// Assembly.
pub mod cli;
pub mod telemetry;
#[cfg(feature = "simulator")]
pub mod dev;

// Islands.
#[cfg(feature = "simulator")]
pub mod simulator;
#[cfg(feature = "simulator")]
pub mod postgres;
