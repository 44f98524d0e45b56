//! The command line.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::LogFormat;
use crate::telemetry;

mod audit;
mod callers;
mod core_dumps;
mod doctor;
mod erase;
mod huge_pages;
mod keys;
mod private_file;
mod progress;
mod serve;
#[cfg(feature = "simulator")]
mod simulate;
mod watch;

#[cfg(feature = "simulator")]
pub(crate) use {keys::write as write_keyring, private_file::write_private, serve::asked_to_stop};

/// The environment, as it stood at the start.
pub type Variables = Vec<(String, String)>;

/// What every command may fail with: a sentence that says what to do.
pub type CommandResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How long a service that has ended may take to let go of its threads.
const RUNTIME_END_MAX: Duration = Duration::from_secs(1);

/// Threads account linking for any backend, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "threads-identity", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine, with nothing installed or registered.
    ///
    /// Starts Postgres, the Threads simulator, the service and a small demo
    /// backend with a page to click, and prints where they are and what to try.
    #[cfg(feature = "simulator")]
    Dev(DevArgs),
    /// Run the service.
    Serve(ServeArgs),
    /// Bring the database's schema up to date. Safe to run from many replicas.
    Migrate(MigrateArgs),
    /// Run the Threads simulator alone, for tests of your own.
    ///
    /// A Threads for any client: its authorization window, tokens and profiles,
    /// with people to be, faults to script, and a list of what the client did
    /// wrong. Everything is controlled over HTTP below /_simulator/.
    #[cfg(feature = "simulator")]
    Simulate(SimulateArgs),
    /// Make keyrings, and change keys while the service runs.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Print the changes of accounts as they happen, until interrupted.
    ///
    /// The caller's key comes from the variable `THREADS_IDENTITY_CALLER_KEY` or
    /// from a file, never from the command line, where everybody sees it.
    Watch(WatchArgs),
    /// Make credentials for the backends that call.
    #[command(subcommand)]
    Callers(CallersCommand),
    /// Show what is known to have happened to an account or a user.
    ///
    /// Reads the database itself: who fetched which token, what changed, how
    /// links ended. A user's trail is looked for in whole tables, which takes its
    /// time where there are many rows.
    Audit(AuditArgs),
    /// Erase people, and keep and apply the ledger of whom was erased.
    ///
    /// Works on the database itself, beside the service or without it. May be
    /// interrupted and repeated: what is erased is not found again.
    Erase(EraseArgs),
    /// Look at configuration, database, keys, clock and apps, and say what is wrong
    /// with them and what to do.
    ///
    /// Changes nothing. Exits with 1 if something does not work, with 0 otherwise;
    /// with --strict, warnings count, too.
    Doctor(doctor::DoctorArgs),
    /// Run a command with `DATABASE_URL` naming a scratch Postgres.
    #[cfg(feature = "simulator")]
    #[command(hide = true)]
    WithPostgres(WithPostgresArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file. Everything in it but lists of tables can also be
    /// set by environment; one app needs no file at all.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The database has been put back from a backup: refuse the cursors of before,
    /// and serve nothing until `erase --replay` has run.
    #[arg(long)]
    after_restore: bool,
}

/// Arguments of `erase`.
#[derive(Debug, Args)]
struct EraseArgs {
    #[command(flatten)]
    whom: EraseWhom,
    /// The app: `default` unless given; for the ledger, all of them.
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

#[derive(Debug, Args)]
struct AuditArgs {
    /// The account.
    #[arg(long, value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    account: Option<String>,
    /// The user, as the caller names it.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The app that the user is of; all of them unless given.
    #[arg(long, value_name = "APP", requires = "user", conflicts_with = "account")]
    app: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print a JSON object on each line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object with the addresses once everything listens.
    #[arg(long)]
    json: bool,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Print one JSON object when all is ready, instead of the guide.
    #[arg(long)]
    pub json: bool,
    /// Where the database and the keys are kept between runs.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8091")]
    pub listen: SocketAddr,
    /// The Threads app id that it knows.
    #[arg(long, default_value = "990602627938098")]
    pub client_id: String,
    /// The secret of that app. It protects nothing but the simulator.
    #[arg(long, default_value = "sim-threads-app-secret-0001")]
    pub client_secret: String,
    /// A redirect URI registered for that app; may be repeated.
    #[arg(long = "redirect-uri", value_name = "URI", required = true)]
    pub redirect_uris: Vec<String>,
    /// Where to tell that app that a person has removed it.
    #[arg(long, value_name = "URL")]
    pub deauthorize_url: Option<String>,
    /// Where to tell that app that a person wants their data deleted.
    #[arg(long, value_name = "URL")]
    pub data_deletion_url: Option<String>,
    /// Tolerate what Threads is known to tolerate.
    #[arg(long)]
    pub lenient: bool,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Where the service is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
    pub server: String,
    /// Only the changes of this user's accounts.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Go on from here; otherwise from now on.
    #[arg(long)]
    pub cursor: Option<String>,
    /// Print one JSON object a line, each with its cursor.
    #[arg(long)]
    pub json: bool,
    /// The file that holds the caller's key.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// With https: whose certificates are believed, in PEM; otherwise those that
    /// this machine believes.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// With https: the client's own certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub certificate_file: Option<PathBuf>,
    /// The key of the client's own certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    pub client_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum CallersCommand {
    /// Make a key for a caller: printed once, with the lines for the
    /// configuration.
    Add {
        /// The caller's name, for logs and the audit trail.
        name: String,
        /// The app that it sees.
        #[arg(long, default_value = "default")]
        app: String,
        /// What it may do: link, transfer, read, sync, token, erase.
        #[arg(long, value_delimiter = ',', default_value = "link,read")]
        roles: Vec<String>,
    },
}

/// Arguments of `with-postgres`.
#[derive(Debug, Args)]
pub struct WithPostgresArgs {
    /// The command.
    #[arg(trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

impl Cli {
    /// Carries the command out and says how it went.
    pub fn run(self, environment: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
        // What is not UTF-8 is none of our variables.
        let variables: Variables = environment
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        match self.dispatch(&variables) {
            Ok(code) => code,
            Err(error) => {
                report(&*error);
                ExitCode::FAILURE
            }
        }
    }

    fn dispatch(self, variables: &Variables) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
        let filter = variables.iter().find(|(name, _)| name == "RUST_LOG").map(|(_, value)| value.as_str());
        let log = |format, default| telemetry::init(format, filter, default);
        let done = match self.command {
            // It starts its own log, by its configuration.
            Command::Serve(args) => {
                huge_pages::forgo();
                let runtime = runtime()?;
                let served =
                    runtime.block_on(serve::run(args.config.config.as_deref(), args.json, filter, variables));
                // A name that is still being looked up, say, must not hold up the end.
                runtime.shutdown_timeout(RUNTIME_END_MAX);
                served
            }
            Command::Migrate(args) => {
                log(LogFormat::Text, "warn");
                let file = args.config.config.as_deref();
                runtime()?.block_on(serve::migrate(file, args.after_restore, variables))
            }
            Command::Watch(args) => {
                log(LogFormat::Text, "warn");
                runtime()?.block_on(watch::run(args, variables))
            }
            Command::Audit(AuditArgs { account, user, app, config, json }) => {
                log(LogFormat::Text, "warn");
                let (account, file) = (account.as_deref(), config.config.as_deref());
                runtime()?.block_on(audit::run(account, user, app, file, json, variables))
            }
            Command::Erase(args) => {
                log(LogFormat::Text, "warn");
                runtime()?.block_on(erase::run(args, variables))
            }
            Command::Keys(command) => runtime()?.block_on(keys::run(command, variables)),
            Command::Callers(CallersCommand::Add { name, app, roles }) => callers::add(&name, &app, &roles),
            Command::Doctor(args) => {
                // What fails is told as a finding.
                log(LogFormat::Text, "off");
                return runtime()?.block_on(doctor::run(args, variables));
            }
            #[cfg(feature = "simulator")]
            Command::Dev(args) => {
                log(LogFormat::Text, "warn");
                runtime()?.block_on(crate::dev::run(&args, variables))
            }
            #[cfg(feature = "simulator")]
            Command::Simulate(args) => {
                log(LogFormat::Text, "warn");
                runtime()?.block_on(simulate::run(args))
            }
            #[cfg(feature = "simulator")]
            Command::WithPostgres(args) => {
                return runtime()?.block_on(crate::dev::with_postgres(&args.command, variables));
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Prints an error with everything that lies behind it.
#[expect(clippy::print_stderr, reason = "the command's answer to a person")]
fn report(error: &(dyn std::error::Error + 'static)) {
    eprintln!("threads-identity: {error}");
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors already tell what lies behind them.
        if !told.contains(&text) {
            eprintln!("  because: {text}");
        }
        told = text;
        cause = error.source();
    }
}

/// Prints a line of a command's result.
#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn print(line: impl Display) {
    println!("{line}");
}

/// Tells a person what is going on, beside the result.
#[expect(clippy::print_stderr, reason = "what is going on, for a person")]
pub(crate) fn print_note(line: impl Display) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
