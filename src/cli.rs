//! The command line.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::LogFormat;
use crate::telemetry;

mod accounts;
mod advice;
mod audit;
mod beside;
mod callers;
mod client;
mod core_dumps;
mod doctor;
mod erase;
mod examples;
mod export;
mod huge_pages;
mod import;
mod keys;
mod link;
mod manual;
mod private_file;
mod profile;
mod progress;
mod serve;
mod shown;
#[cfg(feature = "simulator")]
mod simulate;
mod terminal;
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
#[command(name = "threads-identity", version, about, propagate_version = true, after_help = examples::FIRST_STEPS)]
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
    #[command(after_help = examples::DEV)]
    Dev(DevArgs),
    /// Run the service.
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Bring the database's schema up to date. Safe to run from many replicas.
    #[command(after_help = examples::MIGRATE)]
    Migrate(MigrateArgs),
    /// Run the Threads simulator alone, for tests of your own.
    ///
    /// A Threads for any client: its authorization window, tokens and profiles,
    /// with people to be, faults to script, and a list of what the client did
    /// wrong. Everything is controlled over HTTP below /_simulator/.
    #[cfg(feature = "simulator")]
    #[command(after_help = examples::SIMULATE)]
    Simulate(SimulateArgs),
    /// Make keyrings, and change keys while the service runs.
    #[command(subcommand, after_help = examples::KEYS)]
    Keys(keys::KeysCommand),
    /// Link a Threads account to a user, with a browser on any machine.
    ///
    /// Prints a URL to open, and waits for the address at which the browser ends, as
    /// one line of standard input. Speaks to the service as a caller with the role
    /// `link`.
    #[command(after_help = examples::LINK)]
    Link(link::LinkArgs),
    /// List the accounts of a user.
    ///
    /// Speaks to the service as a caller with the role `read`.
    #[command(after_help = examples::ACCOUNTS)]
    Accounts(accounts::AccountsArgs),
    /// Show the profiles of a user's accounts.
    ///
    /// Speaks to the service as a caller with the role `read`.
    #[command(after_help = examples::PROFILE)]
    Profile(profile::ProfileArgs),
    /// Print the changes of accounts as they happen, until interrupted.
    ///
    /// Speaks to the service as a caller with the role `read` for one user, and
    /// `sync` for the whole app. Goes on by itself after an interruption.
    #[command(after_help = examples::WATCH)]
    Watch(watch::WatchArgs),
    /// Make credentials for the backends that call.
    #[command(subcommand, after_help = examples::CALLERS)]
    Callers(callers::CallersCommand),
    /// Show what is known to have happened to an account or a user.
    ///
    /// Reads the database itself: who fetched which token, what changed, how
    /// links ended. A user's trail is looked for in whole tables, which takes its
    /// time where there are many rows.
    #[command(after_help = examples::AUDIT)]
    Audit(audit::AuditArgs),
    /// Erase people, and keep and apply the ledger of whom was erased.
    ///
    /// Works on the database itself, beside the service or without it. May be
    /// interrupted and repeated: what is erased is not found again.
    #[command(after_help = examples::ERASE)]
    Erase(erase::EraseArgs),
    /// Bring accounts over from Auth.js, from better-auth or from a CSV file.
    ///
    /// Reads each token's profile at Threads once, and stores what works. May be
    /// interrupted and repeated: what is in is passed over. Exits with 1 if a row is
    /// refused, or if it ended early.
    #[command(after_help = examples::IMPORT)]
    Import(import::ImportArgs),
    /// Take accounts out, with their tokens if you say so, or all that is stored of
    /// one user.
    #[command(after_help = examples::EXPORT)]
    Export(export::ExportArgs),
    /// Look at configuration, database, keys, clock and apps, and say what is wrong
    /// with them and what to do.
    ///
    /// Changes nothing. Exits with 1 if something does not work, with 0 otherwise;
    /// with --strict, warnings count, too.
    #[command(after_help = examples::DOCTOR)]
    Doctor(doctor::DoctorArgs),
    /// Print what a shell needs to complete these commands.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each command.
    #[command(after_help = examples::MAN)]
    Man(manual::ManArgs),
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
        if let Some(default) = self.command.log_level() {
            telemetry::init(LogFormat::Text, filter, default);
        }
        let done = match self.command {
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
                let file = args.config.config.as_deref();
                runtime()?.block_on(serve::migrate(file, args.after_restore, variables))
            }
            Command::Link(args) => runtime()?.block_on(link::run(args, variables)),
            Command::Accounts(args) => runtime()?.block_on(accounts::run(args, variables)),
            Command::Profile(args) => runtime()?.block_on(profile::run(args, variables)),
            Command::Watch(args) => runtime()?.block_on(watch::run(args, variables)),
            Command::Audit(args) => runtime()?.block_on(audit::run(args, variables)),
            Command::Erase(args) => runtime()?.block_on(erase::run(args, variables)),
            Command::Import(args) => runtime()?.block_on(import::run(args, variables)),
            Command::Export(args) => runtime()?.block_on(export::run(args, variables)),
            Command::Keys(command) => runtime()?.block_on(keys::run(command, variables)),
            Command::Callers(command) => callers::run(&command),
            Command::Completions(args) => manual::completions(&args, &Self::command()),
            Command::Man(args) => manual::man(&args, &Self::command()),
            Command::Doctor(args) => return runtime()?.block_on(doctor::run(args, variables)),
            #[cfg(feature = "simulator")]
            Command::Dev(args) => runtime()?.block_on(crate::dev::run(&args, variables)),
            #[cfg(feature = "simulator")]
            Command::Simulate(args) => runtime()?.block_on(simulate::run(args)),
            #[cfg(feature = "simulator")]
            Command::WithPostgres(args) => {
                return runtime()?.block_on(crate::dev::with_postgres(&args.command, variables));
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

impl Command {
    /// From which level on it logs, unless `RUST_LOG` says otherwise. `None`: it starts
    /// its own log, or needs none.
    fn log_level(&self) -> Option<&'static str> {
        match self {
            Self::Serve(_) | Self::Keys(_) | Self::Callers(_) | Self::Completions(_) | Self::Man(_) => None,
            #[cfg(feature = "simulator")]
            Self::WithPostgres(_) => None,
            // What fails is told as a finding.
            Self::Doctor(_) => Some("off"),
            // What fails is told as a row.
            Self::Import(_) => Some("error"),
            _ => Some("warn"),
        }
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

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_each_of_them_parses() {
        fn walk(command: &clap::Command, name: &str) -> usize {
            let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
            let inside: usize = shown.map(|sub| walk(sub, &format!("{name} {}", sub.get_name()))).sum();
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = text.lines().filter(|line| line.starts_with("  threads-identity "));
            let mut parsed = 0;
            for line in lines {
                let typed = line.split(['#', '|', '<', '>']).next().unwrap();
                let words: Vec<&str> = typed.split_whitespace().collect();
                Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
                parsed += 1;
            }
            assert!(parsed > 0, "{name} has no example");
            parsed + inside
        }
        assert!(walk(&Cli::command(), "threads-identity") > 30);
    }
}
