//! `import`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::Progress;
use super::serve::asked_to_stop;
use super::{CommandResult, Variables, beside, examples, print, print_note, private_file, terminal};
use crate::ids::USER_ID_MAX;
use crate::imports::{self, Fate, File, Plan, Source, Stop, Tally, Told};
use crate::readiness;
use crate::secret::DatabaseUrl;
use crate::store::foreign::{Foreign, Kind};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The variable that may hold the URL of the source.
const URL_VARIABLE: &str = "THREADS_IDENTITY_IMPORT_URL";

/// The columns of a report.
const HEADER: [&str; 6] = ["row", "user_id", "threads_user_id", "outcome", "reason", "what_to_do"];

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    from: From,
    /// The app whose tokens they are. May be left out if there is one app, or one
    /// called `default`.
    #[arg(long, value_name = "APP", global = true)]
    app: Option<String>,
    /// Ask Threads about every token, but write nothing.
    #[arg(long, global = true)]
    dry_run: bool,
    /// The most tokens that Threads is asked about in a second.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200), global = true)]
    rate: u32,
    /// Where to write, as CSV, every row that was refused or whose person must
    /// consent again, and why. Holds no token; only you may read it.
    #[arg(long, value_name = "FILE", global = true)]
    report: Option<PathBuf>,
    /// The configuration file of the service.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print what was done as one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From the tables of Auth.js (NextAuth) in Postgres, which may be in use.
    ///
    /// The database's URL comes from --url-file, or from the variable
    /// `THREADS_IDENTITY_IMPORT_URL`. Nothing is written there.
    #[command(after_help = examples::IMPORT_AUTHJS)]
    Authjs(TableArgs),
    /// From the tables of better-auth in Postgres, which may be in use.
    ///
    /// The database's URL comes from --url-file, or from the variable
    /// `THREADS_IDENTITY_IMPORT_URL`. Nothing is written there.
    #[command(after_help = examples::IMPORT_BETTER_AUTH)]
    BetterAuth(TableArgs),
    /// From a CSV file whose first line names its columns.
    ///
    /// `user_id` and `threads_user_id` are needed; `access_token`, `expires_at`, `issued_at`,
    /// `authorized_at` and scopes are read if they are there.
    #[command(after_help = examples::IMPORT_CSV)]
    Csv {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct TableArgs {
    /// A file that holds the URL of the source's database and nothing else.
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The table of accounts, with its schema if need be. Found by its columns
    /// otherwise.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// What the source calls Threads.
    #[arg(long, value_name = "ID", default_value = "threads")]
    provider: String,
}

/// Brings accounts over.
pub(super) async fn run(args: ImportArgs, variables: &Variables) -> CommandResult {
    let (service, app) = beside::build(args.config.as_deref(), args.app.as_deref(), variables)?;
    if let Some(obstacle) = readiness::look(&service).await? {
        return Err(format!("nothing was imported: {obstacle}").into());
    }
    let (name, source) = open(&args.from, variables).await?;
    let total = source.total().await?;
    if total == 0 {
        print_note(
            "Nothing is there to import. Of a table: is --provider what the source calls Threads, and may this role \
             see its rows (row level security)?",
        );
    }
    let mut report = args.report.as_deref().map(Report::begin).transpose()?;
    let mut progress = Progress::new(total, "rows");
    let plan = Plan { source: name, rate: args.rate, dry_run: args.dry_run };
    let tell = |told: &Told, fate: Fate| {
        progress.advance(1);
        if let Some(report) = &mut report {
            report.add(told, fate);
        }
    };
    let (asked, stopping) = (asked_to_stop(), service.stopping.clone());
    let (tally, done) = {
        let work = imports::run(&service, &app, source, &plan, tell);
        tokio::pin!(work, asked);
        loop {
            tokio::select! {
                done = &mut work => break done,
                () = &mut asked, if !stopping.is_cancelled() => stopping.cancel(),
            }
        }
    };
    progress.finish();
    service.store.pool.close().await;
    let reported = report.map_or(Ok(()), Report::end);
    conclude(&args, tally, total, done)?;
    reported
}

async fn open(from: &From, variables: &Variables) -> Result<(&'static str, Source), Failure> {
    let table = async |args: &TableArgs, kind| {
        let url = url(args.url_file.as_deref(), variables)?;
        let table = Foreign::open(url, kind, args.table.as_deref(), &args.provider).await?;
        Ok::<_, Failure>(Source::Table(table))
    };
    Ok(match from {
        From::Authjs(args) => ("authjs", table(args, Kind::Authjs).await?),
        From::BetterAuth(args) => ("better-auth", table(args, Kind::BetterAuth).await?),
        From::Csv { file } => ("csv", Source::File(File::open(file)?)),
    })
}

/// Where the source is. Not from the command line, where everybody sees it.
fn url(file: Option<&Path>, variables: &Variables) -> Result<DatabaseUrl, Failure> {
    let text = if let Some(file) = file {
        fs::read_to_string(file).map_err(|error| format!("--url-file: {}: {error}", file.display()))?
    } else {
        let found = variables.iter().find(|(name, _)| name == URL_VARIABLE).map(|(_, url)| url.clone());
        found.ok_or_else(|| {
            format!("the source's database must be known: --url-file FILE, or the variable {URL_VARIABLE}")
        })?
    };
    Ok(DatabaseUrl::new(text.trim().to_owned()))
}

/// Says what was done, and fails if not everything was.
fn conclude(args: &ImportArgs, tally: Tally, total: u64, done: Result<(), Stop>) -> CommandResult {
    let Tally { active, reauthorization_required, unchanged, refused } = tally;
    if args.json {
        print(json!({
            "rows": total,
            "active": active,
            "reauthorization_required": reauthorization_required,
            "unchanged": unchanged,
            "refused": refused,
            "dry_run": args.dry_run,
            "complete": done.is_ok(),
        }));
    } else {
        let trial = if args.dry_run { "A trial: nothing was written. " } else { "" };
        print(format_args!(
            "{trial}{active} accounts are in with a token that works, {reauthorization_required} are in and their \
             persons must consent again, {unchanged} were in already, {refused} of {total} rows were refused."
        ));
    }
    if let Err(stop) = done {
        return Err(format!("{stop}; what is in stays in: run it again, and it does the rest").into());
    }
    if refused == 0 {
        return Ok(());
    }
    let told = match &args.report {
        Some(file) => format!("see {}", file.display()),
        None => "run it again with --report FILE to see which, and why".to_owned(),
    };
    Err(format!("{refused} rows were refused: {told}").into())
}

/// Whether a regular file stands there that is empty, or begins as reports do.
fn is_report(file: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(file) else { return false };
    let begins = || csv::Reader::from_path(file).and_then(|mut old| Ok(*old.headers()? == HEADER[..]));
    metadata.is_file() && (metadata.len() == 0 || begins().unwrap_or(false))
}

/// What a report shows of a text of somebody else's: as much as any good one has.
fn cell(text: &str) -> String {
    terminal::plain(&text.chars().take(USER_ID_MAX).collect::<String>()).into_owned()
}

/// What is told of single rows. Written as they come, so that an interrupted run
/// leaves it too.
struct Report {
    shown: String,
    writer: csv::Writer<fs::File>,
    result: csv::Result<()>,
}

impl Report {
    fn begin(file: &Path) -> Result<Self, Failure> {
        let shown = file.display().to_string();
        // Of a run before this one; nothing else is written over.
        if is_report(file) {
            fs::remove_file(file).map_err(|error| format!("--report: {shown}: {error}"))?;
        }
        let file =
            private_file::create_private(file).map_err(|error| format!("--report: {shown}: {error}"))?;
        let mut writer = csv::Writer::from_writer(file);
        let result = writer.write_record(HEADER).and_then(|()| Ok(writer.flush()?));
        Ok(Self { shown, writer, result })
    }

    fn add(&mut self, told: &Told, fate: Fate) {
        let Some((reason, advice)) = fate.reason() else { return };
        let number = told.number.map(|number| number.to_string()).unwrap_or_default();
        let (user_id, threads_user_id) = (cell(&told.user_id), cell(&told.threads_user_id));
        let record = [&number, &user_id, &threads_user_id, fate.outcome(), reason, advice];
        if self.result.is_ok() {
            // At once, so that what is killed leaves it too.
            self.result = self.writer.write_record(record).and_then(|()| Ok(self.writer.flush()?));
            if let Err(error) = &self.result {
                print_note(format_args!("--report: {}: {error}", self.shown));
            }
        }
    }

    fn end(mut self) -> CommandResult {
        self.result.and_then(|()| Ok(self.writer.flush()?)).map_err(|error| {
            format!("--report: {}: {error}; the import itself went as told", self.shown).into()
        })
    }
}
