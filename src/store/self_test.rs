//! Whether what lies between this process and Postgres may be trusted.
//!
//! A pooler that lends one session of Postgres to many connections in turn can
//! hand out another statement's rows without an error (measured: `PgBouncer`
//! before 1.21, and later ones without `max_prepared_statements`). That must be
//! found before anything is served. The trial does what the service does:
//! several connections at once, prepared statements that differ and whose answers
//! are known, in turn and at the same moment, inside transactions and outside.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::deployment::Unfit;
use super::pool::{Pool, run};
use super::{RUN_MAX, StoreError, connect};

/// How many connections take part.
const CONNECTIONS: usize = 3;
/// How many statements each of them prepares.
const STATEMENTS: usize = 4;
/// How often each connection runs each of them beside the others.
const ROUNDS: usize = 2;
/// The longest that it may take. It takes some milliseconds.
const TRIAL_MAX: Duration = Duration::from_secs(10);
/// The longest limit that a statement and a lock may have, in milliseconds: beyond
/// [`RUN_MAX`] nobody waits for the statement any more.
const LIMIT_MAX: i64 = 3_000;
/// The same for a transaction that stands still.
const IDLE_MAX: i64 = 60_000;

/// Tries it.
///
/// # Errors
/// [`Unfit::Pooled`] and [`Unfit::Unlimited`]; [`Unfit::Store`] if the database is
/// away.
pub async fn run_through(pool: &Pool) -> Result<(), Unfit> {
    require_limits(pool).await?;
    let options = pool.options();
    let connected = join_all((0..CONNECTIONS).map(|_| connect(&options))).await;
    let mut connections = connected.into_iter().collect::<Result<Vec<_>, _>>()?;
    let tried = timeout(TRIAL_MAX, compare(&mut connections)).await;
    for connection in connections {
        let _ = timeout(RUN_MAX, connection.close()).await;
    }
    match tried {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Unfit::Pooled),
        Ok(Err(error)) if is_mixed_up(&error) => Err(Unfit::Pooled),
        Ok(Err(error)) => Err(StoreError::from(error).into()),
        Err(_) => Err(StoreError::Unavailable("a statement got no answer in time").into()),
    }
}

/// A session without limits keeps locks for ever, and only `PgBouncer`, told to
/// ignore our options, makes one.
async fn require_limits(pool: &Pool) -> Result<(), Unfit> {
    let query = sqlx::query!(
        r#"select name as "name!", setting::bigint as "milliseconds!" from pg_settings
           where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')"#
    );
    let settings = run(pool, async |connection| query.fetch_all(connection).await).await?;
    let is_limited = |name: &str, milliseconds: i64| {
        let most = if name == "idle_in_transaction_session_timeout" { IDLE_MAX } else { LIMIT_MAX };
        (1..=most).contains(&milliseconds)
    };
    if settings.iter().all(|setting| is_limited(&setting.name, setting.milliseconds)) {
        Ok(())
    } else {
        Err(Unfit::Unlimited)
    }
}

/// Whether every answer is that of its own statement.
async fn compare(connections: &mut [PgConnection]) -> sqlx::Result<bool> {
    // One after the other first: with one session for all of them, the names of
    // their statements meet in it.
    for (number, connection) in connections.iter_mut().enumerate() {
        if !answers(connection, number, 0).await? {
            return Ok(false);
        }
    }
    let beside = connections.iter_mut().enumerate().map(async |(number, connection)| {
        for round in 0..ROUNDS {
            for statement in 0..STATEMENTS {
                if !answers(connection, number + statement, round).await? {
                    return Ok(false);
                }
            }
            let mut transaction = connection.begin().await?;
            let first = answers(&mut transaction, number, round).await?;
            let second = answers(&mut transaction, number + 1, round).await?;
            transaction.rollback().await?;
            if !(first && second) {
                return Ok(false);
            }
        }
        Ok(true)
    });
    let told: sqlx::Result<Vec<bool>> = join_all(beside).await.into_iter().collect();
    Ok(told?.into_iter().all(|is_right| is_right))
}

/// Whether one of the statements answers as it must. All take and give the same
/// types, so that one in another's place is no error.
async fn answers(connection: &mut PgConnection, statement: usize, round: usize) -> sqlx::Result<bool> {
    let n = i64::try_from(round).unwrap_or_default() + 10;
    let (answer, expected) = match statement % STATEMENTS {
        0 => (sqlx::query_scalar!(r#"select $1::bigint + 1 as "n!""#, n).fetch_one(connection).await?, n + 1),
        1 => (sqlx::query_scalar!(r#"select $1::bigint * 3 as "n!""#, n).fetch_one(connection).await?, n * 3),
        2 => (sqlx::query_scalar!(r#"select $1::bigint - 7 as "n!""#, n).fetch_one(connection).await?, n - 7),
        _ => (sqlx::query_scalar!(r#"select -$1::bigint as "n!""#, n).fetch_one(connection).await?, -n),
    };
    Ok(answer == expected)
}

/// Whether an error is one of statements that got into each other's way: a name
/// that is taken, or unknown, or stands for another statement; a transaction that
/// is not where it began.
fn is_mixed_up(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            matches!(code.as_ref(), "42P05" | "26000" | "08P01" | "25P01" | "25P02" | "25001" | "0A000")
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => true,
        sqlx::Error::ColumnIndexOutOfBounds { .. } | sqlx::Error::ColumnNotFound(_) => true,
        _ => false,
    }
}
