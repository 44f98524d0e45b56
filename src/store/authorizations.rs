//! The table `authorizations` as it is read: how far each has come, and how it
//! ended.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::coalescer::Batch;
use super::{CorruptRow, Pool, StoreError, run, split_scopes};
use crate::error::Reason;
use crate::ids::{AccountId, AuthorizationId};
use crate::states::{AuthorizationState, LinkOutcome, StateReason, Step};

/// An authorization that somebody has tried to complete.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// Its id.
    pub id: AuthorizationId,
    /// The app.
    pub app_id: String,
    /// Whether it signs somebody in.
    pub sign_in: bool,
    /// The user it was created for, or that a sign-in led to.
    pub user_id: Option<String>,
    /// The account it was created for, or that it led to.
    pub account_id: Option<AccountId>,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Whether an account of another user is taken over.
    pub transfer: bool,
    /// SHA-256 of what the browser brought.
    pub answer_hash: Vec<u8>,
    /// Where it stands.
    pub progress: Progress,
    /// When its URL was created.
    pub create_time: OffsetDateTime,
    /// When somebody first tried.
    pub attempt_time: OffsetDateTime,
}

/// Where an authorization stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Somebody is at it until `claim_expire_time`, unless they died.
    InProgress {
        /// How far it has come.
        step: Step,
        /// Until when nobody else may go on.
        claim_expire_time: OffsetDateTime,
    },
    /// It is done.
    Succeeded {
        /// What it did.
        outcome: LinkOutcome,
        /// When.
        end_time: OffsetDateTime,
    },
    /// It ended otherwise; DENIED when the person said no.
    Ended {
        /// Why.
        failure: Ending,
        /// When.
        end_time: OffsetDateTime,
    },
}

impl Authorization {
    /// The word for where it stands.
    #[must_use]
    pub fn state(&self) -> AuthorizationState {
        match &self.progress {
            Progress::InProgress { .. } => AuthorizationState::InProgress,
            Progress::Succeeded { .. } => AuthorizationState::Succeeded,
            Progress::Ended { failure, .. } => failure.state(),
        }
    }
}

/// Why an authorization ended without an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The published reason.
    pub reason: Reason,
    /// What Threads said of the token, where the reason is
    /// REAUTHORIZATION_REQUIRED.
    pub state_reason: Option<StateReason>,
}

impl Ending {
    /// An ending for a reason that needs no more words.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, state_reason: None }
    }

    pub(super) fn state(self) -> AuthorizationState {
        if self.reason == Reason::AuthorizationDenied {
            AuthorizationState::Denied
        } else {
            AuthorizationState::Failed
        }
    }
}

struct Row {
    authorization_id: Uuid,
    app_id: String,
    sign_in: bool,
    user_id: Option<String>,
    account_id: Option<Uuid>,
    scopes: String,
    transfer: bool,
    answer_hash: Vec<u8>,
    state: String,
    step: String,
    failure_reason: Option<String>,
    failure_state_reason: Option<String>,
    outcome: Option<String>,
    claim_expire_time: OffsetDateTime,
    create_time: OffsetDateTime,
    attempt_time: OffsetDateTime,
    end_time: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Authorization {
    type Error = CorruptRow;

    fn try_from(row: Row) -> Result<Self, CorruptRow> {
        let corrupt = |what| CorruptRow { table: "authorizations", id: row.authorization_id, what };
        let state = AuthorizationState::parse(&row.state).ok_or_else(|| corrupt("unknown state"))?;
        let step = Step::parse(&row.step).ok_or_else(|| corrupt("unknown step"))?;
        let reason = row.failure_reason.as_deref().map(|text| Reason::from_str_name(text).ok_or(()));
        let outcome = row.outcome.as_deref().map(|text| LinkOutcome::parse(text).ok_or(()));
        let state_reason = row.failure_state_reason.as_deref().and_then(StateReason::parse);
        let progress = match (state, reason, outcome, row.end_time) {
            (AuthorizationState::InProgress, None, None, None) => {
                Progress::InProgress { step, claim_expire_time: row.claim_expire_time }
            }
            (AuthorizationState::Succeeded, None, Some(Ok(outcome)), Some(end_time))
                if row.account_id.is_some() =>
            {
                Progress::Succeeded { outcome, end_time }
            }
            (
                AuthorizationState::Denied | AuthorizationState::Failed,
                Some(Ok(reason)),
                None,
                Some(end_time),
            ) => Progress::Ended { failure: Ending { reason, state_reason }, end_time },
            _ => return Err(corrupt("state, reason, outcome and times do not go together")),
        };
        Ok(Self {
            id: AuthorizationId(row.authorization_id),
            app_id: row.app_id,
            sign_in: row.sign_in,
            user_id: row.user_id,
            account_id: row.account_id.map(AccountId),
            scopes: split_scopes(&row.scopes),
            transfer: row.transfer,
            answer_hash: row.answer_hash,
            progress,
            create_time: row.create_time,
            attempt_time: row.attempt_time,
        })
    }
}

/// Reads authorizations by id. Whoever asks compares the app.
pub struct ReadAuthorizations;

impl Batch for ReadAuthorizations {
    type Request = AuthorizationId;
    type Answer = Option<Authorization>;
    const NAME: &'static str = "read_authorizations";

    async fn run(
        connection: &mut PgConnection,
        requests: &[Self::Request],
    ) -> sqlx::Result<Vec<Self::Answer>> {
        let ids: Vec<Uuid> = requests.iter().map(|id| id.0).collect();
        let rows = sqlx::query_as!(
            Row,
            "select authorization_id, app_id, sign_in, user_id, account_id, scopes, transfer, answer_hash, state, step,
                    failure_reason, failure_state_reason, outcome, claim_expire_time,
                    create_time, attempt_time, end_time
             from authorizations
             where authorization_id = any((select $1::uuid[])::uuid[])",
            &ids
        )
        .fetch_all(connection)
        .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let authorization = Authorization::try_from(row).map_err(CorruptRow::into_sqlx)?;
            found.insert(authorization.id, authorization);
        }
        Ok(requests.iter().map(|id| found.get(id).cloned()).collect())
    }
}

/// Authorizations that nobody is at and that can be brought to an end without
/// their caller: all but those whose code has not been sent, unless they began
/// before `closed_since` and can come to nothing any more. The oldest first.
/// Of these apps alone.
///
/// # Errors
/// [`StoreError`].
pub async fn interrupted(
    pool: &Pool,
    apps: &[String],
    closed_since: OffsetDateTime,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<AuthorizationId>, StoreError> {
    let query = sqlx::query_scalar!(
        "select authorization_id from authorizations
         where state = 'IN_PROGRESS' and claim_expire_time <= $1 and app_id = any($4)
           and (finish_time is null or finish_time <= $1)
           -- An exchange that was cut off has ended; a code that was not sent may still be brought.
           and (step <> 'UNSENT' or attempt_time <= $2)
         order by claim_expire_time
         limit $3",
        now,
        closed_since,
        limit,
        apps
    );
    let rows = run(pool, async |connection| query.fetch_all(connection).await).await?;
    Ok(rows.into_iter().map(AuthorizationId).collect())
}
