//! Accounts, profiles and changes as commands show them: JSON with the API's own
//! field names for scripts, and words for people. Never a token.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::terminal::{self, plain};
use crate::proto::v1::{Account, AccountChange, AccountProfile, ThreadsProfile};

/// An account: its fields, but those that are empty.
pub(super) fn json_account(account: &Account) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "account_id", &account.account_id);
    put(&mut fields, "user_id", &account.user_id);
    put(&mut fields, "threads_user_id", &account.threads_user_id);
    put(&mut fields, "state", state(account));
    put(&mut fields, "state_reason", state_reason(account));
    fields.insert("scopes".to_owned(), json!(account.scopes));
    for (name, time) in [
        ("create_time", account.create_time),
        ("update_time", account.update_time),
        ("authorize_time", account.authorize_time),
        ("token_expire_time", account.token_expire_time),
        ("token_refresh_time", account.token_refresh_time),
        ("last_token_fetch_time", account.last_token_fetch_time),
    ] {
        put(&mut fields, name, &time.and_then(rfc3339).unwrap_or_default());
    }
    Value::Object(fields)
}

/// A profile with its account: absent, empty and present are three things.
pub(super) fn json_account_profile(read: &AccountProfile) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "account_id", &read.account_id);
    put(&mut fields, "user_id", &read.user_id);
    put(&mut fields, "account_state", account_state(read));
    if let Some(profile) = &read.profile {
        fields.insert("profile".to_owned(), json_profile(profile));
    }
    put(&mut fields, "fetch_time", &read.fetch_time.and_then(rfc3339).unwrap_or_default());
    put(&mut fields, "picture_expire_time", &read.picture_expire_time.and_then(rfc3339).unwrap_or_default());
    Value::Object(fields)
}

/// What Threads tells of a person.
pub(super) fn json_profile(profile: &ThreadsProfile) -> Value {
    let mut fields = Map::from_iter([("id".to_owned(), json!(profile.id))]);
    for (name, text) in [
        ("username", &profile.username),
        ("name", &profile.name),
        ("threads_profile_picture_url", &profile.threads_profile_picture_url),
        ("threads_biography", &profile.threads_biography),
    ] {
        if let Some(text) = text {
            fields.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(is_verified) = profile.is_verified {
        fields.insert("is_verified".to_owned(), json!(is_verified));
    }
    Value::Object(fields)
}

/// Something that happened, with the account as it stands.
pub(super) fn json_change(change: &AccountChange) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "kind", kind(change));
    put(&mut fields, "account_id", &change.account_id);
    put(&mut fields, "user_id", &change.user_id);
    put(&mut fields, "previous_user_id", &change.previous_user_id);
    put(&mut fields, "change_time", &change.change_time.and_then(rfc3339).unwrap_or_default());
    if let Some(account) = &change.account {
        fields.insert("account".to_owned(), json_account(account));
    }
    Value::Object(fields)
}

/// Accounts in columns.
pub(super) fn accounts(accounts: &[Account]) -> String {
    let rows: Vec<Vec<String>> = accounts.iter().map(row).collect();
    terminal::table(&["ACCOUNT", "THREADS ID", "STATE", "LINKED", "TOKEN UNTIL"], &rows)
}

fn row(account: &Account) -> Vec<String> {
    let reason = state_reason(account);
    let state = match reason {
        "" => state(account).to_owned(),
        reason => format!("{}, {reason}", state(account)),
    };
    vec![
        plain(&account.account_id).into_owned(),
        plain(&account.threads_user_id).into_owned(),
        state,
        minute(account.create_time),
        minute(account.token_expire_time),
    ]
}

/// Somebody by the handle, and the name beside it.
pub(super) fn person(profile: &ThreadsProfile) -> String {
    let handle = match &profile.username {
        Some(username) => format!("@{}", plain(username)),
        None => format!("Threads id {}", plain(&profile.id)),
    };
    match profile.name.as_deref() {
        None | Some("") => handle,
        Some(name) => format!("{handle} ({})", plain(name)),
    }
}

/// A profile, one thing a line.
pub(super) fn profile(read: &AccountProfile) -> String {
    let profile = read.profile.clone().unwrap_or_default();
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if let Some(biography) = profile.threads_biography.as_deref().filter(|text| !text.is_empty()) {
        let lines: Vec<_> = biography.lines().map(plain).collect();
        pairs.push(("biography", lines.join("\n")));
    }
    if let Some(url) = &profile.threads_profile_picture_url {
        pairs.push(("picture", plain(url).into_owned()));
    }
    if let Some(end) = read.picture_expire_time {
        pairs.push(("picture until", minute(Some(end))));
    }
    if let Some(is_verified) = profile.is_verified {
        pairs.push(("verified", if is_verified { "yes" } else { "no" }.to_owned()));
    }
    pairs.push(("Threads id", plain(&profile.id).into_owned()));
    pairs.push(("account", plain(&read.account_id).into_owned()));
    pairs.push(("state", account_state(read).to_owned()));
    pairs.push(("read", minute(read.fetch_time)));
    format!("{}\n{}", person(&profile), terminal::list(&pairs))
}

/// A change on one line.
pub(super) fn change(change: &AccountChange) -> String {
    let time = change.change_time.and_then(rfc3339).unwrap_or_default();
    // Writing to a String cannot fail.
    let mut line = format!("{time}  {:<25}  {}", kind(change), plain(&change.account_id));
    if !change.user_id.is_empty() {
        let _ = write!(line, "  of {}", plain(&change.user_id));
    }
    if !change.previous_user_id.is_empty() {
        let _ = write!(line, "  from {}", plain(&change.previous_user_id));
    }
    if let Some(account) = &change.account {
        let _ = write!(line, "  now {}", state(account));
        let reason = state_reason(account);
        if !reason.is_empty() {
            let _ = write!(line, ", {reason}");
        }
    }
    line
}

/// Adds a field, unless it is empty.
fn put(fields: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), json!(value));
    }
}

fn kind(change: &AccountChange) -> &'static str {
    change.kind().as_str_name().trim_start_matches("KIND_")
}

fn state(account: &Account) -> &'static str {
    account.state().as_str_name().trim_start_matches("STATE_")
}

fn account_state(read: &AccountProfile) -> &'static str {
    read.account_state().as_str_name().trim_start_matches("STATE_")
}

/// Why an account is not ACTIVE; empty if it is.
fn state_reason(account: &Account) -> &'static str {
    if account.state_reason == 0 {
        return "";
    }
    account.state_reason().as_str_name().trim_start_matches("STATE_REASON_")
}

/// A time for people: in UTC, to the minute.
pub(super) fn minute(time: Option<prost_types::Timestamp>) -> String {
    let Some(time) = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok()) else {
        return "-".to_owned();
    };
    format!("{} {:02}:{:02}Z", time.date(), time.hour(), time.minute())
}

pub(super) fn rfc3339(time: prost_types::Timestamp) -> Option<String> {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?.format(&Rfc3339).ok()
}
