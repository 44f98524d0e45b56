//! `doctor`: looks at everything that an operator gets wrong, and says of each
//! thing what is wrong with it and what to do.
//!
//! It changes nothing. Of the database it reads settings, rights and the schema;
//! of Threads it asks for an app's own token, which it drops at once, and for the
//! time. No finding holds a secret.

use std::path::Path;

use serde::Serialize;

use crate::config::{Config, is_mistyped};

mod apps;
mod callers;
mod database;
mod files;
mod issuers;
mod keys;
mod provider;
mod server;
mod tls;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and is likely not what was meant, or not safe.
    Warning,
    /// Does not work, or must not stay.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at: a key of the configuration, or a thing beside it.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// What to do about it; absent when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, subject: impl Into<String>, found: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, subject: subject.into(), found: found.into(), fix: None });
    }

    fn warning(&mut self, subject: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) {
        self.note(Level::Warning, subject, found, fix);
    }

    fn problem(&mut self, subject: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) {
        self.note(Level::Problem, subject, found, fix);
    }

    fn note(
        &mut self,
        level: Level,
        subject: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (subject, found, fix) = (subject.into(), found.into(), Some(fix.into()));
        self.0.push(Finding { level, subject, found, fix });
    }

    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// How many findings matter this much.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }
}

/// Looks at everything. `online`: whether Threads and issuers are asked, too, which
/// tells Threads the apps' secrets, as every link does.
pub async fn examine(file: Option<&Path>, environment: &[(String, String)], online: bool) -> Report {
    let mut report = Report::default();
    files::examine(&mut report, file);
    for (name, _) in environment.iter().filter(|(name, _)| is_mistyped(name)) {
        let fix = "See the list of variables in docs/configuration.md; THREADS_IDENTITY__SECTION__KEY has two \
                   underscores everywhere.";
        report.warning(name, "is no variable that is looked at", fix);
    }
    let config = match Config::load(file, environment.iter().cloned()) {
        Ok(config) => config,
        Err(error) => {
            for problem in error.problems {
                let (subject, found) = problem.split_once(": ").unwrap_or(("the configuration", &problem));
                report.problem(subject, found, "See docs/configuration.md; nothing else was looked at.");
            }
            return report;
        }
    };
    report.ok("the configuration", "reads without a problem");
    server::examine(&mut report, &config).await;
    tls::examine(&mut report, &config).await;
    callers::examine(&mut report, &config);
    issuers::examine(&mut report, &config, online).await;
    let keyring = keys::examine(&mut report, &config);
    apps::examine(&mut report, &config);
    database::examine(&mut report, &config, keyring.as_ref()).await;
    if online {
        provider::examine(&mut report, &config).await;
    }
    report
}
