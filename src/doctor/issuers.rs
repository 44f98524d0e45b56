//! The issuers of callers' tokens.

use super::Report;
use crate::config::{Config, KeySource};
use crate::issuers;

/// Looks at every issuer: whether its keys can be read, and whether anybody uses it.
pub(super) async fn examine(report: &mut Report, config: &Config, online: bool) {
    for (i, issuer) in config.issuers.iter().enumerate() {
        let used = config.callers.iter().flat_map(|caller| &caller.tokens);
        if used.into_iter().all(|token| token.issuer != issuer.issuer) {
            report.warning(
                format!("issuers.{i}"),
                format!("no caller has tokens of {}", issuer.issuer),
                "Name it in `tokens` of a caller, or leave it out.",
            );
        }
        if matches!(issuer.keys, KeySource::Url(_)) && !online {
            continue;
        }
        let subject = format!("issuers.{i}.{}", issuer.keys.key());
        match issuers::read_once(issuer).await {
            Ok(0) => report.problem(
                subject,
                "holds no key that can be used",
                "See that `algorithms` names what the issuer signs with.",
            ),
            Ok(count) => report.ok(subject, format!("{count} keys")),
            Err(why) => report.problem(
                subject,
                format!("cannot be read: {why}"),
                "See that it is the address of a JSON Web Key Set, and that this machine reaches it.",
            ),
        }
    }
}
