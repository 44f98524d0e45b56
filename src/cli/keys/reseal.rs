//! `keys reseal`.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{CommandResult, Failure, Found};
use crate::cli::progress::Progress;
use crate::cli::{print, print_note};
use crate::clock::{Clock as _, SystemClock};
use crate::sealing::{Keyring, Place, Purpose};
use crate::store::StoreError;
use crate::store::keys::{self, Exchange, Sealed, SealedColumn};

/// How many rows are locked and written at once: few enough that nobody waits
/// for them for long.
const BATCH: i64 = 500;
/// How often the rows are walked: again for those that somebody wrote just when
/// their turn had come or was over, until a walk finds nothing to do.
const WALKS_MAX: usize = 5;
/// How often a batch that lost against another transaction is tried.
const CONFLICT_TRIES: usize = 5;
/// How many values that do not open are named.
const NAMED_MAX: u64 = 100;
/// Whoever sealed under another key so lately has not taken the file yet.
const LATELY: Duration = Duration::from_mins(1);

/// Seals every stored value anew under the active key.
pub(super) async fn run(found: &Found) -> CommandResult {
    let mut connection = found.need_database().await?;
    let active = found.keyring.active_id();
    enter(&mut connection, &active).await?;
    let holdings = keys::holdings(&mut connection).await?;
    let total = holdings.by_key.values().sum::<i64>() + holdings.unsealed - holdings.of(&active);
    let mut walk = Walk {
        keyring: &found.keyring,
        active,
        connection,
        progress: Progress::new(u64::try_from(total).unwrap_or(0), "values"),
        resealed: 0,
        overtaken: 0,
        unopened: 0,
        is_first: true,
    };
    for _ in 0..WALKS_MAX {
        let before = walk.resealed;
        (walk.overtaken, walk.unopened) = (0, 0);
        for column in SealedColumn::ALL {
            walk.through(*column).await.map_err(|error| {
                format!("{error}; what is done is done: run it again, and it goes on from there")
            })?;
        }
        walk.is_first = false;
        if walk.overtaken == 0 && walk.resealed == before {
            break;
        }
    }
    walk.progress.finish();
    print(format_args!("Sealed {} stored values anew under {}.", walk.resealed, walk.active));
    if walk.overtaken > 0 {
        print_note(format_args!("{} more were written meanwhile: run it again.", walk.overtaken));
    }
    match walk.unopened {
        0 => Ok(()),
        n => Err(format!(
            "{n} stored values do not open, and are as they were: those people must consent again or be \
             unlinked, or the key that holds them be put back, before that key can be retired"
        )
        .into()),
    }
}

/// Enters the key in the register, so that a replica which lacks it says so
/// before the first row does, and tells who is still at another one.
async fn enter(connection: &mut PgConnection, active: &str) -> Result<(), Failure> {
    keys::register(connection, active).await?;
    let now = SystemClock.now();
    for key in keys::registered(connection).await? {
        if key.key_id == active && key.retire_time.is_some() {
            return Err(format!("{active} has been retired: make another key, and activate that").into());
        }
        let is_recent = key.last_active_time.is_some_and(|last| last + LATELY > now);
        if key.key_id != active && key.retire_time.is_none() && is_recent {
            print_note(format_args!(
                "A replica sealed under {} less than a minute ago. If it lacks {active}, it cannot open what is \
                 sealed anew until its keyring file has it; and what it still seals needs another run.",
                key.key_id
            ));
        }
    }
    Ok(())
}

/// A walk through the rows.
struct Walk<'a> {
    keyring: &'a Keyring,
    active: String,
    connection: PgConnection,
    progress: Progress,
    /// Values sealed anew, over all walks.
    resealed: u64,
    /// Values that somebody else wrote just then, on this walk.
    overtaken: u64,
    /// Values that do not open, on this walk.
    unopened: u64,
    is_first: bool,
}

impl Walk<'_> {
    async fn through(&mut self, column: SealedColumn) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let values = column.not_under(&mut self.connection, &self.active, after, BATCH).await?;
            let Some(last) = values.last() else { return Ok(()) };
            after = last.row;
            let met = values.len() as u64;
            let exchanges: Vec<Exchange> =
                values.into_iter().filter_map(|value| self.seal_anew(column, value)).collect();
            let written = self.write(column, &exchanges).await?;
            self.resealed += written;
            self.overtaken += exchanges.len() as u64 - written;
            if self.is_first {
                self.progress.advance(met);
            }
        }
    }

    fn seal_anew(&mut self, column: SealedColumn, value: Sealed) -> Option<Exchange> {
        let purpose = match column {
            SealedColumn::AccountToken | SealedColumn::PreviousToken => Purpose::Token,
            SealedColumn::ShortLivedToken => Purpose::ShortLivedToken,
        };
        let place = Place { purpose, app_id: &value.app_id, row: value.row.as_bytes() };
        match self.keyring.open(place, &value.value) {
            Ok(plaintext) => {
                let new = self.keyring.seal(place, &plaintext);
                Some(Exchange { row: value.row, old: value.value, new })
            }
            Err(error) => {
                self.unopened += 1;
                if self.is_first && self.unopened <= NAMED_MAX {
                    self.progress.tell(&format!("{} of {}: {error}", column.name(), value.row));
                }
                None
            }
        }
    }

    async fn write(&mut self, column: SealedColumn, exchanges: &[Exchange]) -> Result<u64, StoreError> {
        let mut tries = 1;
        loop {
            match column.exchange(&mut self.connection, exchanges).await {
                Err(StoreError::Conflict) if tries < CONFLICT_TRIES => tries += 1,
                written => return written,
            }
        }
    }
}
