//! `keys list`.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{CommandResult, Failure, Found};
use crate::cli::{print, print_note};
use crate::store::keys::{self, Holdings, Registered};

/// A key, as it is listed.
#[derive(Serialize)]
struct Line {
    id: String,
    active: bool,
    create_time: Option<String>,
    /// Whether the keyring has it; without it nothing that it holds opens.
    in_keyring: bool,
    /// How many stored values it holds; null if nobody counted.
    values: Option<i64>,
    /// When a replica last reported that it seals under it.
    last_active_time: Option<String>,
}

/// Lists the keys, and what they hold where there is a database to ask.
pub(super) async fn run(found: &Found, json: bool) -> CommandResult {
    let database = match found.open_database().await? {
        None => None,
        Some(mut connection) => {
            let registered = keys::registered(&mut connection).await?;
            Some((registered, keys::holdings(&mut connection).await?))
        }
    };
    let lines = lines(found, database.as_ref())?;
    if json {
        print(serde_json::to_string(&lines)?);
    } else {
        print_table(&lines);
    }
    match &database {
        None => print_note("Stored values were not counted: no database is configured."),
        Some((_, holdings)) => warn(found, &lines, holdings),
    }
    Ok(())
}

fn lines(found: &Found, database: Option<&(Vec<Registered>, Holdings)>) -> Result<Vec<Line>, Failure> {
    let text = |time: OffsetDateTime| time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339);
    let values = |id: &str| database.map(|(_, holdings)| holdings.of(id));
    let last_active = |id: &str| {
        let key = database.and_then(|(registered, _)| registered.iter().find(|key| key.key_id == id));
        key.and_then(|key| key.last_active_time).map(text).transpose()
    };
    let mut lines = Vec::new();
    for key in found.keyring.describe() {
        lines.push(Line {
            values: values(&key.id),
            last_active_time: last_active(&key.id)?,
            id: key.id,
            active: key.active,
            create_time: Some(key.create_time),
            in_keyring: true,
        });
    }
    let held = database.into_iter().flat_map(|(_, holdings)| &holdings.by_key);
    for (id, count) in held.filter(|(id, _)| !found.keyring.has(id)) {
        lines.push(Line {
            id: id.clone(),
            active: false,
            create_time: None,
            in_keyring: false,
            values: Some(*count),
            last_active_time: last_active(id)?,
        });
    }
    Ok(lines)
}

fn print_table(lines: &[Line]) {
    print("ID        ACTIVE  MADE                  VALUES      LAST REPORTED ACTIVE");
    for line in lines {
        let active = if line.active { "yes" } else { "no" };
        let made = line.create_time.as_deref().filter(|_| line.in_keyring).unwrap_or("NOT IN THE KEYRING");
        let values = line.values.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let last = line.last_active_time.as_deref().unwrap_or("-");
        print(format_args!("{:<8}  {active:<6}  {made:<20}  {values:<10}  {last}", line.id));
    }
}

/// Says what somebody must look at.
fn warn(found: &Found, lines: &[Line], holdings: &Holdings) {
    let shown = found.shown();
    for line in lines.iter().filter(|line| !line.in_keyring) {
        print_note(format_args!(
            "WARNING: {} stored values are sealed under {}, which is not in {shown}: they cannot be opened. \
             Put the key back, or those people must consent again.",
            line.values.unwrap_or(0),
            line.id
        ));
    }
    if holdings.unsealed > 0 {
        print_note(format_args!("WARNING: {} stored values are no sealed values at all.", holdings.unsealed));
    }
}
