//! `audit`.

use std::fmt::Write as _;

use clap::Args;
use time::format_description::well_known::Rfc3339;

use super::{CommandResult, ConfigArgs, Variables, print, terminal};
use crate::config::Config;
use crate::ids::{AccountId, USER_ID_MAX};
use crate::store::audit::{Entry, Subject, trail};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The account.
    #[arg(long, value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    account: Option<String>,
    /// The user, as the caller names it.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The app that the user is of; all of them unless given.
    #[arg(long, value_name = "APP", requires = "user", conflicts_with = "account")]
    app: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print a JSON object on each line.
    #[arg(long)]
    json: bool,
}

/// Shows the trail of an account, or of a user.
pub(super) async fn run(args: AuditArgs, variables: &Variables) -> CommandResult {
    let AuditArgs { account, user, app, config, json } = args;
    let subject = subject(account.as_deref(), user, app)?;
    let url = Config::load_database_url(config.config.as_deref(), variables.iter().cloned())?;
    let mut is_first = true;
    let show = |entry: Entry| {
        if json {
            print(terminal::json(&entry));
            return;
        }
        if std::mem::take(&mut is_first) {
            print(line("TIME", "SOURCE", "WHAT", "DETAILS"));
        }
        let time = entry.time.replace_nanosecond(entry.time.nanosecond() / 1_000_000 * 1_000_000);
        let time = time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
        print(line(&time, &entry.source, &entry.what, &details(&entry)));
    };
    if trail(&url, &subject, show).await? == 0 {
        let what = match subject {
            Subject::Account(id) => format!("account {id}"),
            Subject::User { user_id, app_id: None } => format!("user {user_id:?}"),
            Subject::User { user_id, app_id: Some(app) } => format!("user {user_id:?} in app {app:?}"),
        };
        return Err(format!("nothing is known of {what}: it was never here, or its time is over").into());
    }
    Ok(())
}

fn subject(account: Option<&str>, user: Option<String>, app: Option<String>) -> Result<Subject, String> {
    match (account, user) {
        (Some(account), _) => AccountId::parse(account).map(Subject::Account).ok_or_else(|| {
            format!(
                "--account: {account:?} is not an account id, such as 5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90"
            )
        }),
        (None, Some(user_id)) if (1..=USER_ID_MAX).contains(&user_id.len()) => {
            Ok(Subject::User { user_id, app_id: app })
        }
        _ => Err(format!("--user: must be 1 to {USER_ID_MAX} bytes")),
    }
}

fn line(time: &str, source: &str, what: &str, details: &str) -> String {
    format!("{time:<24}  {source:<13}  {what:<28}  {details}").trim_end().to_owned()
}

/// What an entry says beyond its name. What callers made up is printed with its
/// control characters escaped: a terminal obeys them.
fn details(entry: &Entry) -> String {
    let mut details = entry.detail.clone().unwrap_or_default();
    for (name, value) in [
        ("app", Some(&entry.app_id)),
        ("account", entry.account_id.as_ref()),
        ("user", entry.user_id.as_ref()),
        ("previous_user", entry.previous_user_id.as_ref()),
        ("authorization", entry.authorization_id.as_ref()),
        ("caller", entry.caller.as_ref()),
        ("purpose", entry.purpose.as_ref()),
    ] {
        let Some(value) = value else { continue };
        let is_plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        let space = if details.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = if is_plain {
            write!(details, "{space}{name}={value}")
        } else {
            write!(details, "{space}{name}={value:?}")
        };
    }
    details
}
