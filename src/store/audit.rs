//! The table `audit`: who did what, for people who must answer for it; and the
//! trail of an account or a user, of which it is one part.

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{CONNECT_MAX, Pool, StoreError, UrlError, connect_options, run};
use crate::ids::{AccountId, AuthorizationId};
use crate::secret::DatabaseUrl;

/// What somebody attempted that nobody does by mistake alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// To complete an authorization for another user or browser session than the
    /// one that it was made for.
    SessionMismatch,
    /// To spend a code that had been presented with another state.
    CodeReuse,
}

impl Attempted {
    fn action(self) -> &'static str {
        match self {
            Self::SessionMismatch => "SESSION_MISMATCH",
            Self::CodeReuse => "CODE_REUSE",
        }
    }
}

/// Notes what somebody attempted with an authorization.
///
/// # Errors
/// [`StoreError`].
pub async fn attempted(
    pool: &Pool,
    what: Attempted,
    app_id: &str,
    id: AuthorizationId,
    user_id: Option<&str>,
    caller: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "insert into audit (app_id, authorization_id, user_id, caller, action, audit_time)
         values ($1, $2, $3, $4, $5, $6)",
        app_id,
        id.0,
        user_id,
        caller,
        what.action(),
        now
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}

/// Notes what somebody outside has said of an account that is not there, or that
/// it does not concern. Saying it again, as a replay does, adds nothing.
///
/// # Errors
/// [`StoreError`].
pub async fn note_once(
    pool: &Pool,
    app_id: &str,
    id: AccountId,
    caller: &str,
    action: &str,
    detail: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let work = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin().await?;
        // Two at once would both find nothing.
        sqlx::query!("select pg_advisory_xact_lock(uuid_hash_extended($1, 1))::text as locked", id.0)
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query!(
            "insert into audit (app_id, account_id, caller, action, detail, audit_time)
             select $1, $2, $3, $4, $5, $6
             where not exists (select from audit where account_id = $2 and action = $4 and detail = $5)",
            app_id,
            id.0,
            caller,
            action,
            detail,
            now
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    };
    run(pool, work).await
}

/// Whose trail is asked for.
#[derive(Debug, Clone)]
pub enum Subject {
    /// An account's.
    Account(AccountId),
    /// A user's, in one app or in all.
    User {
        /// The user.
        user_id: String,
        /// The app.
        app_id: Option<String>,
    },
}

/// One thing that is known to have happened. What does not apply is absent.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Where it stands: `audit`, `event` or `authorization`.
    pub source: String,
    /// The action, the kind of event, or how the authorization stands.
    pub what: String,
    /// The app.
    pub app_id: String,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The authorization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_id: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user who had the account before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_user_id: Option<String>,
    /// Who called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// What the caller said it was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The outcome or the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why a trail could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database does not answer, or not as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hands over what is known of a subject, oldest first, and says how much it was.
/// A replica that only reads will do. A user's trail is looked for in whole
/// tables: that is for a person to wait for, not for a service.
///
/// # Errors
/// [`TrailError`].
pub async fn trail(
    url: &DatabaseUrl,
    subject: &Subject,
    mut each: impl FnMut(Entry),
) -> Result<usize, TrailError> {
    let options = connect_options(url)?.options([("statement_timeout", "10min")]);
    let connecting = timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
    let connecting = connecting.map_err(|_| StoreError::Unavailable("connecting took too long"))?;
    let mut connection = connecting.map_err(|error| match StoreError::from(error) {
        StoreError::Unavailable(why) => StoreError::Unavailable(why),
        _ => StoreError::Unavailable("it refuses the connection"),
    })?;
    let (account_id, user_id, app_id) = match subject {
        Subject::Account(id) => (Some(id.0), None, None),
        Subject::User { user_id, app_id } => (None, Some(user_id.as_str()), app_id.as_deref()),
    };
    let mut rows = sqlx::query_as!(
        Entry,
        r#"select time as "time!", source as "source!", what as "what!", app_id as "app_id!", account_id::text,
                  authorization_id::text, user_id, previous_user_id, caller, purpose, detail
           from (
               select audit_time as time, 'audit' as source, action as what, app_id, account_id, authorization_id,
                      user_id, null as previous_user_id, caller, purpose, detail, audit_id as place
               from audit
               where ($1::uuid is null or account_id = $1) and ($2::text is null or user_id = $2)
               union all
               select event_time, 'event', kind, app_id, account_id, null, nullif(user_id, ''), previous_user_id,
                      null, null, null, event_id
               from events
               where ($1::uuid is null or account_id = $1)
                 and ($2::text is null or user_id = $2 or previous_user_id = $2)
               union all
               select coalesce(end_time, attempt_time), 'authorization', state, app_id, account_id,
                      authorization_id, user_id, null, null, null,
                      coalesce(outcome, concat_ws(' ', failure_reason, failure_state_reason)), 0
               from authorizations
               where ($1::uuid is null or account_id = $1) and ($2::text is null or user_id = $2)
           ) trail
           where $3::text is null or app_id = $3
           order by time, source, place"#,
        account_id,
        user_id,
        app_id
    )
    .fetch(&mut connection);
    let mut told = 0;
    while let Some(mut entry) = rows.try_next().await.map_err(StoreError::from)? {
        entry.detail = entry.detail.filter(|detail| !detail.is_empty());
        each(entry);
        told += 1;
    }
    drop(rows);
    let _ = connection.close().await;
    Ok(told)
}
