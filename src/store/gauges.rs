//! What is measured of the tables themselves, by queries that stay cheap however
//! many rows there are.

use time::OffsetDateTime;

use super::{Pool, StoreError, run};

/// When the tokens of those ACTIVE accounts expire whose tokens expire first, in
/// that order, up to `until` and `limit` of them.
///
/// # Errors
/// [`StoreError`].
pub async fn next_expiries(
    pool: &Pool,
    until: OffsetDateTime,
    limit: i64,
) -> Result<Vec<OffsetDateTime>, StoreError> {
    let query = sqlx::query_scalar!(
        r#"select token_expire_time as "time!" from accounts
           where state = 'ACTIVE' and token_expire_time <= $1
           order by token_expire_time
           limit $2"#,
        until,
        limit
    );
    run(pool, async |connection| query.fetch_all(connection).await).await
}

/// Since when the refresh that has waited longest has been due: the first that
/// nobody has tried, or the first that has failed ever since. It may be yet to
/// come.
///
/// # Errors
/// [`StoreError`].
pub async fn oldest_due_refresh(pool: &Pool) -> Result<Option<OffsetDateTime>, StoreError> {
    // Two looks at the ends of two indexes.
    let query = sqlx::query_scalar!(
        "select least((select min(next_refresh_time) from accounts where state = 'ACTIVE'),
                      (select min(refresh_failing_time) from accounts
                       where state = 'ACTIVE' and refresh_failing_time is not null))"
    );
    run(pool, async |connection| query.fetch_one(connection).await).await
}
