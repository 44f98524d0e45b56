//! `erase`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::progress::Progress;
use super::{CommandResult, ConfigArgs, Variables, print};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Keys, meant_app};
use crate::erasures::{BATCH, all_of_user, batch, distinct};
use crate::ids::{AccountId, ThreadsUserId, USER_ID_MAX};
use crate::sealing::Keyring;
use crate::secret::DatabaseUrl;
use crate::store::erasures::{By, Cause, Named, Whom, count_of_user, due, knows_app, ledger};
use crate::store::{self, Pool, StoreError};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many bad lines of a file are told.
const TOLD_MAX: usize = 100;
/// What an interruption or a failure leaves.
const REPEAT: &str = "what is erased stays erased: run it again, and it does the rest";

/// Arguments of `erase`.
#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    whom: EraseWhom,
    /// The app: the only one, or `default`, unless given; for the ledger, all of them.
    #[arg(long, value_name = "APP", conflicts_with = "replay")]
    app: Option<String>,
    /// Only say how many accounts would be erased.
    #[arg(long, conflicts_with = "export")]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON. The ledger is JSON in any case, an object on each line.
    #[arg(long)]
    json: bool,
}

/// Who is erased, or what becomes of the ledger.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct EraseWhom {
    /// Erase every account of this user, as the caller names it.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Erase the accounts of the Threads ids in this file: one a line, decimal;
    /// blank lines and what follows a # do not count.
    #[arg(long, value_name = "FILE")]
    threads_ids: Option<PathBuf>,
    /// Print the ledger of erasures, to be kept beside each backup.
    #[arg(long)]
    export: bool,
    /// Erase whoever the ledger in this file names and a restore brought back.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// Erases, or shows or applies the ledger.
pub(super) async fn run(args: EraseArgs, variables: &Variables) -> CommandResult {
    let (url, keys) =
        Config::load_database_and_keys(args.config.config.as_deref(), variables.iter().cloned())?;
    let url = url.ok_or("database.url: is required (or the variable DATABASE_URL)")?;
    if args.whom.export {
        return export(&url, args.app.as_deref()).await;
    }
    let configured = Config::load(args.config.config.as_deref(), variables.iter().cloned());
    let apps: Vec<String> = configured.into_iter().flat_map(|config| config.apps).map(|app| app.id).collect();
    let app = meant_app(args.app.as_deref(), apps.iter().map(String::as_str));
    if args.whom.replay.is_none() {
        require_app(&url, app, &apps).await?;
    }
    let by = |cause| By { cause, caller: "operator", detail: None, now: SystemClock.now() };
    let done = if let Some(file) = &args.whom.replay {
        let named = distinct(read_lines(file, "an entry of the ledger", read_entry)?);
        let work = Work { pool: store::pool_of_one(&url)?, by: by(Cause::Replay), dry_run: args.dry_run };
        let done = work.accounts(&named, Whom::Replayed).await?;
        if !args.dry_run {
            ledger::replayed(&mut store::keys::open(&url).await?).await?;
        }
        done
    } else if let Some(file) = &args.whom.threads_ids {
        let ids = read_lines(file, "a Threads id, 1 to 32 decimal digits", ThreadsUserId::parse)?;
        let keyring = keyring_of(&url, keys).await?;
        let work = Work { pool: store::pool_of_one(&url)?, by: by(Cause::Operator), dry_run: args.dry_run };
        let of_app = |id| keyring.id_key().account_id(app, id);
        let ids: BTreeSet<AccountId> = ids.iter().map(of_app).collect();
        let named = |id| Named { id, app_id: app.to_owned(), erase_time: work.by.now };
        let named: Vec<Named> = ids.into_iter().map(named).collect();
        work.accounts(&named, Whom::Accounts).await?
    } else {
        let user_id = args.whom.user.as_deref().unwrap_or_default();
        if !(1..=USER_ID_MAX).contains(&user_id.len()) {
            return Err(format!("--user: must be 1 to {USER_ID_MAX} bytes").into());
        }
        let work = Work { pool: store::pool_of_one(&url)?, by: by(Cause::Operator), dry_run: args.dry_run };
        work.user(app, user_id).await?
    };
    tell(&args, app, &done);
    Ok(())
}

/// Refuses an app that nobody has heard of: one typing error, and a list of people
/// would count as erased while all of them are still there.
async fn require_app(url: &DatabaseUrl, app: &str, apps: &[String]) -> Result<(), Failure> {
    if apps.iter().any(|known| known == app) || knows_app(&store::pool_of_one(url)?, app).await? {
        return Ok(());
    }
    let known = if apps.is_empty() { String::new() } else { format!("; configured: {}", apps.join(", ")) };
    Err(format!("--app: nothing is known of an app {app:?}{known}").into())
}

/// How it went.
struct Done {
    /// How many were named; one for a user.
    named: usize,
    /// How many accounts there were.
    erased: u64,
}

fn tell(args: &EraseArgs, app: &str, done: &Done) {
    if args.json {
        return print(json!({ "named": done.named, "erased": done.erased, "dry_run": args.dry_run }));
    }
    let erased = if args.dry_run { "Would erase" } else { "Erased" };
    let accounts = if done.erased == 1 { "account" } else { "accounts" };
    let named = match (&args.whom.user, &args.whom.replay) {
        (Some(_), _) => format!("of the user, in app {app:?}"),
        (None, Some(_)) => format!("of {} in the ledger", done.named),
        (None, None) => format!("of {} Threads ids, in app {app:?}", done.named),
    };
    print(format_args!("{erased} {} {accounts} {named}.", done.erased));
    if args.whom.replay.is_some() && !args.dry_run {
        print("The ledger has been applied: the service may start.");
    }
}

/// An erasing that goes on, or is only counted.
struct Work<'a> {
    pool: Pool,
    by: By<'a>,
    dry_run: bool,
}

impl Work<'_> {
    async fn user(&self, app_id: &str, user_id: &str) -> Result<Done, Failure> {
        let total = count_of_user(&self.pool, app_id, user_id).await?;
        if self.dry_run {
            return Ok(Done { named: 1, erased: total });
        }
        let mut progress = Progress::new(total, "accounts");
        let erased =
            all_of_user(&self.pool, app_id, user_id, self.by, |erased| progress.advance(erased)).await;
        progress.finish();
        Ok(Done { named: 1, erased: erased.map_err(|error| interrupted(&error))? })
    }

    async fn accounts<'n>(
        &self,
        named: &'n [Named],
        whom: fn(&'n [Named]) -> Whom<'n>,
    ) -> Result<Done, Failure> {
        let mut progress = Progress::new(named.len() as u64, "accounts");
        let mut erased = 0;
        for chunk in named.chunks(BATCH) {
            let whom = whom(chunk);
            erased += if self.dry_run {
                due(&self.pool, whom, self.by.now, i64::MAX).await?.len() as u64
            } else {
                batch(&self.pool, whom, self.by).await.map_err(|error| interrupted(&error))?
            };
            progress.advance(chunk.len() as u64);
        }
        progress.finish();
        Ok(Done { named: named.len(), erased })
    }
}

fn interrupted(error: &StoreError) -> Failure {
    format!("{error}; {REPEAT}").into()
}

/// The keyring by which Threads ids become account ids. With another database's
/// nobody would be found, and that would look like nobody being there.
async fn keyring_of(url: &DatabaseUrl, keys: Option<Keys>) -> Result<Keyring, Failure> {
    let keyring = match keys {
        None => return Err("keys.file: is required (or the variable THREADS_IDENTITY_KEY)".into()),
        Some(Keys::Value(text)) => Keyring::parse(&text).map_err(|error| format!("keys: {error}"))?,
        Some(Keys::File { path, .. }) => {
            let shown = path.display();
            let text = fs::read_to_string(&path).map(zeroize::Zeroizing::new);
            let text = text.map_err(|error| format!("{shown}: {error}"))?;
            Keyring::parse(&text).map_err(|error| format!("{shown}: {error}"))?
        }
    };
    let mut connection = store::keys::open(url).await?;
    match store::keys::id_key_fingerprint(&mut connection).await? {
        Some(theirs) if theirs == keyring.id_key().fingerprint() => Ok(keyring),
        Some(_) => Err("the keyring's id_key is not the one under which the database was filled".into()),
        None => Err("the database has never been used by the service: is it the right one?".into()),
    }
}

/// Reads a file line by line. Unless all of it is good nothing is to be done, and
/// every bad line is told by its number, but not what stands in it.
fn read_lines<T>(file: &Path, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match read(line) {
            Some(value) => good.push(value),
            None => bad.push(i + 1),
        }
    }
    if bad.is_empty() {
        return Ok(good);
    }
    let told: Vec<String> = bad.iter().take(TOLD_MAX).map(usize::to_string).collect();
    let more = bad.len().saturating_sub(TOLD_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(format!("{shown}: not {what}: line {}{more}; nothing was done", told.join(", ")).into())
}

/// A line of the ledger.
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    app: String,
    account: String,
}

fn read_entry(line: &str) -> Option<Named> {
    let Entry { time, app, account } = serde_json::from_str(line).ok()?;
    Some(Named { id: AccountId::parse(&account)?, app_id: app, erase_time: time })
}

async fn export(url: &DatabaseUrl, app: Option<&str>) -> CommandResult {
    let mut connection = store::keys::open(url).await?;
    let show = |named: Named| {
        let entry = Entry { time: named.erase_time, app: named.app_id, account: named.id.to_string() };
        // Nothing in it fails to be text.
        print(serde_json::to_string(&entry).unwrap_or_default());
    };
    ledger::export(&mut connection, app, show).await?;
    Ok(())
}
