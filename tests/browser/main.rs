//! The pages in Chromium itself: what a person does, and what a page may and may
//! not be. Everything is `dev`, and the browser is driven by chromedriver.
//!
//! A machine without them leaves these tests out and says so, unless
//! `THREADS_IDENTITY_BROWSER_REQUIRED` is set, as it is in CI. Programs that are
//! not on the PATH are named by `THREADS_IDENTITY_CHROMIUM` and
//! `THREADS_IDENTITY_CHROMEDRIVER`. Screenshots are kept in `target/screenshots`.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chromium;
mod dev;
mod events;
mod linking;
mod looks;
mod page;
mod refusing;
mod tour;
mod webdriver;
