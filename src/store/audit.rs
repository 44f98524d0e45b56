//! The table `audit`: who did what, for people who must answer for it.

use sqlx::PgPool;
use time::OffsetDateTime;

use super::{StoreError, run};
use crate::ids::AuthorizationId;

/// Notes that an authorization was presented for another user or browser
/// session than the one it was made for.
///
/// # Errors
/// [`StoreError`].
pub async fn session_mismatch(
    pool: &PgPool,
    app_id: &str,
    id: AuthorizationId,
    user_id: Option<&str>,
    caller: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "insert into audit (app_id, authorization_id, user_id, caller, action, audit_time)
         values ($1, $2, $3, $4, 'SESSION_MISMATCH', $5)",
        app_id,
        id.0,
        user_id,
        caller,
        now
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}
