//! `dev`: the whole thing on one machine, with nothing installed or registered.
//!
//! An embedded Postgres, the Threads simulator, the service, and a demo backend
//! that does what a caller's backend does, and takes a newcomer on a tour. Data
//! and keys are kept in a folder, so that the second start finds what the first
//! one linked.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{CommandResult, DevArgs, Variables, asked_to_stop, print, write_keyring, write_private};
use crate::clock::{Clock, SystemClock};
use crate::grpc::new_caller_key;
use crate::postgres::SERVER_VARIABLE;
use crate::readiness::Readiness;
use crate::sealing::Keyring;
use crate::secret::DatabaseUrl;
use crate::serve::{self, Listeners};
use crate::service::Service;
use crate::simulator::{Options as SimulatorOptions, Simulator};
use crate::store;

mod configuration;
mod database;
mod demo;
mod guide;
mod threads;
mod travel;

use configuration::{Parts, configuration};
use demo::Demo;
use threads::Threads;
use travel::Travel;

/// The ports unless something else has them.
const GRPC_PORT: u16 = 50051;
const HTTP_PORT: u16 = 8080;
const OPS_PORT: u16 = 9090;
const SIMULATOR_PORT: u16 = 8091;
const DEMO_PORT: u16 = 8090;
/// The hosted callback of the only app.
const CALLBACK_PATH: &str = "/api/auth/callback/threads";
/// Where nothing answers, for `link`: somebody carries the address over to a terminal.
const PASTED_PATH: &str = "/from-a-terminal";

type Failure = Box<dyn StdError + Send + Sync>;

/// Where everything is.
struct Places {
    grpc: SocketAddr,
    http: String,
    ops: SocketAddr,
    simulator: String,
    demo: String,
    caller_key: String,
    database_url: String,
    data_dir: PathBuf,
}

/// Runs everything until it is asked to stop.
///
/// # Errors
/// What keeps a part from starting, in a sentence that says what to do.
pub async fn run(args: &DevArgs, variables: &Variables) -> CommandResult {
    let data_dir = args.data_dir.clone().unwrap_or_else(|| default_data_dir(variables));
    std::fs::create_dir_all(&data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
    let data_dir = data_dir.canonicalize()?;
    let keyring_file = keyring_file(&data_dir)?;
    let (caller_key, caller_hash) = caller_key(&data_dir)?;

    let database = database::start(&data_dir, variables).await?;
    let url = DatabaseUrl::new(database.url().to_owned());
    store::migrate(&url).await?;

    let demo_listener = listen(DEMO_PORT).await?;
    // Bound now and held, so that whoever else starts at this moment moves on.
    let listeners =
        Listeners::new(listen(GRPC_PORT).await?, listen(HTTP_PORT).await?, listen(OPS_PORT).await?);
    let demo_url = format!("http://{}", demo_listener.local_addr()?);
    // Threads sends the browser to the service, and that sends it on to the demo.
    let http_url = format!("http://{}", listeners.http_address()?);
    let redirect_uris = [CALLBACK_PATH, PASTED_PATH].map(|path| format!("{http_url}{path}"));
    let simulator = simulator(&http_url, &redirect_uris).await?;
    let threads = Threads::new(simulator.base_url(), SimulatorOptions::default().client_id)?;
    let travel = Arc::new(Travel::resume(&data_dir, threads.clone()).await?);
    let config = configuration(Parts {
        database_url: database.url(),
        keyring_file,
        caller_hash: &caller_hash,
        redirect_uris: &redirect_uris,
        return_to: &demo::return_to(&demo_url),
        simulator_url: &simulator.base_url(),
        grpc_listen: listeners.grpc_address()?,
        http_listen: listeners.http_address()?,
        ops_listen: listeners.ops_address()?,
    })?;
    let service = Arc::new(Service::new(&config, Arc::clone(travel.clock()) as Arc<dyn Clock>)?);
    travel.take_along(&service);
    let places = Places {
        grpc: listeners.grpc_address()?,
        http: http_url,
        ops: listeners.ops_address()?,
        simulator: simulator.base_url(),
        demo: demo_url,
        caller_key,
        database_url: database.url().to_owned(),
        data_dir,
    };

    let stop = CancellationToken::new();
    let readiness = Readiness::default();
    let served = serve::run(&config, service, readiness.clone(), listeners, stop.clone().cancelled_owned());
    let demo = Arc::new(Demo::new(&places, threads, travel, stop.clone())?);
    let shown = demo::run(demo_listener, Arc::clone(&demo));
    let announced = async {
        let ready = async {
            wait_until_ready(&readiness).await;
            demo.begin().await;
            announce(&places, args.json);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asked_to_stop() => stop.cancel(),
            // A part that failed leaves nothing to wait for.
            () = stop.cancelled() => {}
            () = ready => {}
        }
    };
    let (served, shown, ()) = tokio::join!(stopping(&stop, served), stopping(&stop, shown), announced);
    simulator.stop().await;
    database.stop().await;
    served?;
    shown
}

/// Runs a command with `DATABASE_URL` naming an empty scratch database, and
/// answers with its exit code.
///
/// # Errors
/// If Postgres or the command cannot be started.
pub async fn with_postgres(command: &[OsString], variables: &Variables) -> Result<ExitCode, Failure> {
    let environment = |name: &str| variable(variables, name).map(str::to_owned);
    let databases = crate::postgres::scratch::Databases::start(&environment, async |_| Ok(())).await?;
    let database = databases.create().await?;
    let (program, arguments) = command.split_first().ok_or("a command is required")?;
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .status()
        .await
        .map_err(|error| format!("{}: {error}", program.display()))?;
    // None for a command that a signal ended.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// A part that ends, for whatever reason, ends the whole.
async fn stopping<E: Into<Failure>>(
    stop: &CancellationToken,
    part: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    let result = part.await;
    if !stop.is_cancelled() {
        stop.cancel();
    }
    result.map_err(Into::into)
}

async fn wait_until_ready(readiness: &Readiness) {
    let mut changes = readiness.subscribe();
    // The sender lives in `readiness`: this ends only when ready.
    let _ = changes.wait_for(Option::is_none).await;
}

fn announce(places: &Places, as_json: bool) {
    if !as_json {
        return print(guide::text(places));
    }
    print(json!({
        "grpc": places.grpc.to_string(),
        "http": places.http,
        "ops": places.ops.to_string(),
        "simulator": places.simulator,
        "demo": places.demo,
        "caller_key": places.caller_key,
        "database_url": places.database_url,
        "data_dir": places.data_dir,
    }));
}

/// `$XDG_DATA_HOME/threads-identity/dev`, or where such data goes without it.
/// Root's home is closed to the user that Postgres may have to run as.
fn default_data_dir(variables: &Variables) -> PathBuf {
    let set = |name| variable(variables, name).filter(|value| !value.is_empty());
    let home = || set("HOME").or(set("USERPROFILE")).map(|home| Path::new(home).join(".local/share"));
    let base = match set("XDG_DATA_HOME") {
        Some(base) => PathBuf::from(base),
        None if set("HOME") == Some("/root") => PathBuf::from("/var/lib"),
        None => home().unwrap_or_else(std::env::temp_dir),
    };
    base.join("threads-identity").join("dev")
}

fn variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The keyring of the folder, made on the first run, and read so that a fault in it
/// is told by its place.
fn keyring_file(data_dir: &Path) -> Result<PathBuf, Failure> {
    let file = data_dir.join("keys.toml");
    if !file.exists() {
        let now = SystemClock.now().format(&time::format_description::well_known::Rfc3339)?;
        write_keyring(&file, &Keyring::generate(&now))?;
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(&file)?);
    Keyring::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// The caller key of the folder and its hash. The key is kept, so that what a
/// newcomer pasted yesterday works today; a real one is never stored.
fn caller_key(data_dir: &Path) -> Result<(String, String), Failure> {
    let file = data_dir.join("caller.key");
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Some((key, hash)) = text.trim().split_once(' ')
    {
        return Ok((key.to_owned(), hash.to_owned()));
    }
    let (key, hash) = new_caller_key();
    write_private(&file, format!("{key} {hash}\n").as_bytes())?;
    Ok((key, hash))
}

/// Threads, which knows the addresses that its dashboard asks for.
async fn simulator(http_url: &str, redirect_uris: &[String]) -> Result<Simulator, Failure> {
    let options = |port| SimulatorOptions {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        redirect_uris: redirect_uris.to_vec(),
        deauthorize_url: Some(format!("{http_url}/threads/deauthorize")),
        data_deletion_url: Some(format!("{http_url}/threads/data-deletion")),
        ..SimulatorOptions::default()
    };
    match Simulator::start(options(SIMULATOR_PORT)).await {
        Ok(simulator) => Ok(simulator),
        Err(_) => Ok(Simulator::start(options(0)).await?),
    }
}

/// A listener on the usual port, or on a free one if it is taken.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
    }
}

/// Whether somebody named a server for `dev` and tests to use.
fn given_server(variables: &Variables) -> Option<&str> {
    variable(variables, SERVER_VARIABLE).filter(|url| !url.is_empty())
}
