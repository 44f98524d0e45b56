//! Reading the fields of a request. Every bad one is noted, and the request is
//! refused whole before any work.

use std::time::Duration;

use crate::config::{SCOPE_LEN_MAX, SCOPES_MAX, is_scope};
use crate::error::{Error, FieldViolation, Reason, Result};
use crate::events::Cursor;
use crate::ids::{AccountId, AuthorizationId, ThreadsUserId, USER_ID_MAX};
use crate::sealing::{LiveKeyring, OpenError};

/// The page size when none is asked for, and the largest.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 200;
/// Shortest and longest session binding, in bytes.
const BINDING_MIN: usize = 16;
const BINDING_MAX: usize = 256;
/// The longest purpose, in bytes.
const PURPOSE_MAX: usize = 64;

/// What is wrong with a request so far.
#[derive(Default)]
pub(super) struct Fields(Vec<FieldViolation>);

impl Fields {
    /// Notes what is wrong with a field.
    pub fn bad(&mut self, field: &str, description: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.push(FieldViolation { field: field.to_owned(), description: description.into() });
    }

    /// Refuses the request if anything was wrong.
    pub fn check(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::fields(self.0)) }
    }

    /// A user id that must be there.
    pub fn user_id(&mut self, field: &str, value: &str) {
        if value.is_empty() {
            self.bad(field, "is required: 1 to 128 bytes");
        } else if value.len() > USER_ID_MAX {
            self.bad(field, "is longer than 128 bytes");
        } else if value.chars().any(char::is_control) {
            self.bad(field, "holds a control character");
        }
    }

    /// A user id that may be left out, but not be empty.
    pub fn optional_user_id(&mut self, field: &str, value: Option<&str>) {
        match value {
            Some("") => self.bad(field, "is present but empty: leave it out or name a user"),
            Some(value) => self.user_id(field, value),
            None => {}
        }
    }

    /// An account id; `None` is noted.
    pub fn account_id(&mut self, field: &str, value: &str) -> Option<AccountId> {
        let id = AccountId::parse(value);
        if value.is_empty() {
            self.bad(field, "is required");
        } else if id.is_none() {
            self.bad(field, "is not an account id: send it as this service gave it");
        }
        id
    }

    /// Notes that no account is named.
    pub fn no_account<T>(&mut self) -> Option<T> {
        self.bad("account", "is required: account_id or threads_user_id");
        None
    }

    /// An authorization id; `None` is noted.
    pub fn authorization_id(&mut self, field: &str, value: &str) -> Option<AuthorizationId> {
        let id = AuthorizationId::parse(value);
        if value.is_empty() {
            self.bad(field, "is required");
        } else if id.is_none() {
            self.bad(field, "is not an authorization id: send it as this service gave it");
        }
        id
    }

    /// A Threads id; `None` is noted.
    pub fn threads_user_id(&mut self, field: &str, value: &str) -> Option<ThreadsUserId> {
        let id = ThreadsUserId::parse(value);
        if id.is_none() {
            self.bad(field, "must be 1 to 32 decimal digits");
        }
        id
    }

    /// A session binding.
    pub fn session_binding(&mut self, field: &str, value: &[u8]) {
        if value.is_empty() {
            self.bad(field, "is required: 16 to 256 bytes that only this browser session knows");
        } else if !(BINDING_MIN..=BINDING_MAX).contains(&value.len()) {
            self.bad(field, "must be 16 to 256 bytes long");
        }
    }

    /// A list of scopes, none twice.
    pub fn scopes(&mut self, field: &str, scopes: &[String]) {
        if scopes.len() > SCOPES_MAX {
            self.bad(field, format!("are more than {SCOPES_MAX}"));
        }
        for (i, scope) in scopes.iter().enumerate().take(SCOPES_MAX) {
            if !is_scope(scope) {
                self.bad(
                    &format!("{field}[{i}]"),
                    format!("must be 1 to {SCOPE_LEN_MAX} characters of a-z, 0-9, _ . : and -"),
                );
            } else if scopes[..i].contains(scope) {
                self.bad(&format!("{field}[{i}]"), "stands twice");
            }
        }
    }

    /// What a token is for.
    pub fn purpose(&mut self, field: &str, value: &str) -> Option<String> {
        if value.len() > PURPOSE_MAX {
            self.bad(field, "is longer than 64 bytes");
        } else if value.chars().any(char::is_control) {
            self.bad(field, "holds a control character");
        }
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// A SHA-256 in its 32 bytes.
    pub fn sha256(&mut self, field: &str, value: &[u8]) {
        if value.is_empty() {
            self.bad(field, "is required: the SHA-256 of the token, 32 bytes");
        } else if value.len() != 32 {
            self.bad(field, "must be 32 bytes: the SHA-256 itself, neither hexadecimal nor the token");
        }
    }

    /// A cursor that may be left out, but not be empty. It is read last: what is
    /// wrong with the other fields is told first.
    pub fn cursor(
        &mut self,
        keyring: &LiveKeyring,
        app_id: &str,
        value: Option<&str>,
    ) -> Result<Option<Cursor>> {
        match value.map(|value| (value, Cursor::open(keyring, app_id, value))) {
            None => Ok(None),
            Some((_, Ok(cursor))) => Ok(Some(cursor)),
            // It was good until its key went; or its key has yet to come to this replica.
            Some((value, Err(OpenError::KeyUnknown))) if keyring.is_under_retired(value) => {
                Err(Error::new(Reason::CursorExpired))
            }
            Some((_, Err(OpenError::KeyUnknown))) => Err(Error::new(Reason::KeyUnavailable)),
            Some((value, Err(OpenError::Invalid))) => {
                let what = if value.is_empty() {
                    "is present but empty: leave it out to begin now"
                } else {
                    "is not a cursor of this app: send it as it came"
                };
                self.bad("cursor", what);
                Ok(None)
            }
        }
    }

    /// How many to list.
    pub fn page_size(&mut self, field: &str, value: i32) -> usize {
        match usize::try_from(value) {
            Ok(0) => PAGE_DEFAULT,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => {
                self.bad(field, "must not be negative");
                PAGE_DEFAULT
            }
        }
    }

    /// A duration from zero to `longest`.
    pub fn duration(
        &mut self,
        field: &str,
        value: Option<prost_types::Duration>,
        longest: Duration,
    ) -> Option<Duration> {
        let value = value?;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
            self.bad(field, "must not be negative");
            return None;
        };
        if nanos >= 1_000_000_000 {
            self.bad(field, "has nanos of a second or more");
            return None;
        }
        let duration = Duration::new(seconds, nanos);
        if duration > longest {
            self.bad(field, format!("is longer than {} s", longest.as_secs()));
        }
        Some(duration)
    }
}
