//! `keys retire`.

use std::time::Duration;

use super::{CommandResult, Found, write};
use crate::cli::print;
use crate::clock::{Clock as _, SystemClock};
use crate::sealing::ChangeError;
use crate::store::keys;

/// How long after its last report a replica may still seal under a key: it reports
/// every half minute.
const REPORT_MAX: Duration = Duration::from_mins(1);
/// How long after its last use a key is still needed for what is not stored:
/// authorization URLs live fifteen minutes, and a replica reports every thirty
/// seconds.
const OPEN_MAX: Duration = Duration::from_mins(20);

/// Takes a key out of the keyring, once nothing needs it.
pub(super) async fn run(mut found: Found, key_id: &str, now: bool) -> CommandResult {
    let shown = found.shown();
    let Some(file) = found.file.clone() else {
        return Err("the keyring is no file: name one with --file".into());
    };
    let in_keyring = match found.keyring.remove(key_id) {
        Ok(()) => true,
        Err(ChangeError::Active(_)) => {
            return Err(format!(
                "{shown}: {key_id} is the active key: activate another first, with `threads-identity keys activate`"
            )
            .into());
        }
        Err(ChangeError::Unknown(_)) => false,
    };
    let mut connection = found.need_database().await?;
    let registered = keys::registered(&mut connection).await?;
    let entry = registered.iter().find(|key| key.key_id == key_id);
    let held = keys::holdings(&mut connection).await?.of(key_id);
    if !in_keyring && entry.is_none() && held == 0 {
        return Err(
            format!("{shown}: there is no key `{key_id}` in it, and the database knows of none").into()
        );
    }
    if held > 0 {
        return Err(format!(
            "{held} stored values are still sealed under {key_id}: seal them anew first, with \
             `threads-identity keys reseal`"
        )
        .into());
    }
    let time = SystemClock.now();
    if entry.and_then(|key| key.last_active_time).is_some_and(|last| last + REPORT_MAX > time) {
        return Err(format!(
            "a replica still seals under {key_id}, or did a minute ago: give it the keyring file with the new \
             active key first, and wait a minute"
        )
        .into());
    }
    if let Some(last) =
        entry.and_then(|key| key.last_active_time).filter(|last| *last + OPEN_MAX > time && !now)
    {
        let minutes = (last + OPEN_MAX - time).whole_minutes() + 1;
        return Err(format!(
            "a replica sealed under {key_id} until a short while ago, and people may hold authorization URLs \
             that are sealed under it: wait {minutes} minutes, or say --now if they may start again"
        )
        .into());
    }
    // First where the replicas look: a key that only the file lacked would be
    // missed by all of them.
    keys::retire(&mut connection, key_id, time).await?;
    if in_keyring {
        write(&file, &found.keyring).map_err(|error| format!("{shown}: {error}"))?;
    }
    print(format_args!("Retired {key_id}. Give {shown} to every replica, and destroy older copies of it."));
    Ok(())
}
