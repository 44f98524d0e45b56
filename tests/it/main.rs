//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

mod access_tokens;
mod accounts;
mod apps;
mod callers;
mod coalescing;
mod edge;
mod harness;
mod leaks;
mod lists;
mod linking;
mod outages;
mod profiles;
mod proxy;
mod raw;
mod reading_again;
mod sealing;
mod sharing;
mod shorthand;
mod simulator;
mod stopping;
