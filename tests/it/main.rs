//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::type_complexity,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    clippy::similar_names,
    clippy::items_after_statements,
    clippy::too_many_lines,
    reason = "a test that cannot go on fails, its tasks end with it, its numbers are small, and it reads from top to bottom"
)]

mod access_tokens;
mod accounts;
mod apps;
mod callback;
mod callers;
mod callers_anew;
mod coalescing;
mod completing;
mod completing_fields;
mod conflicts;
mod contract;
mod creating;
#[path = "../contract/reasons.rs"]
mod documented;
mod edge;
mod erasing;
mod events_in_order;
mod fetching;
mod forms;
mod forgetting;
mod forgetting_races;
mod harness;
mod interrupted;
mod issuer;
mod issuer_keys;
mod keeping;
mod kinds;
mod leaks;
mod limits;
mod linking;
mod lists;
mod meta;
mod notices;
mod outages;
mod outbound;
mod pitfalls;
mod profiles;
mod provider_answers;
mod provider_faults;
mod probing;
#[path = "../processes/proxy.rs"]
mod proxy;
mod racing;
mod raw;
mod reading_again;
mod reasons;
mod refreshing;
mod request_walk;
mod resuming;
mod rotation;
mod sealing;
mod seeding;
mod sharing;
mod shorthand;
mod simulator;
mod stopping;
mod strikes;
mod tokens_of_issuers;
mod two_apps;
mod unlinking;
mod watching;
mod watching_again;
mod watching_limits;
mod years;
