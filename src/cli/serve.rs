//! `serve` and `migrate`.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{CommandResult, Variables, core_dumps, print};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::listener::descriptors;
use crate::readiness::Readiness;
use crate::serve::{self, Listeners};
use crate::service::Service;
use crate::store::{self, erasures::ledger};
use crate::telemetry;

/// Runs the service until it is asked to stop. `filter` is what `RUST_LOG` says.
pub(super) async fn run(
    file: Option<&Path>,
    json: bool,
    filter: Option<&str>,
    variables: &Variables,
) -> CommandResult {
    let config = Config::load(file, variables.iter().cloned())?;
    let running = telemetry::serve(&config.telemetry, filter)
        .map_err(|error| format!("telemetry.otlp_endpoint: cannot be used: {error}"))?;
    core_dumps::forbid();
    let served = serve(&config, json).await;
    // What is left is written before the process ends, and before it says why.
    let _ = tokio::task::spawn_blocking(|| running.end()).await;
    served
}

async fn serve(config: &Config, json: bool) -> CommandResult {
    let apps: Vec<&str> = config.apps.iter().map(|app| app.id.as_str()).collect();
    let callers: Vec<&str> = config.callers.iter().map(|caller| caller.name.as_str()).collect();
    tracing::info!(?apps, ?callers, version = env!("CARGO_PKG_VERSION"), "starting");
    descriptors::raise();
    let service = Arc::new(Service::new(config, Arc::new(SystemClock))?);
    let listeners = Listeners::bind(config).await?;
    let (grpc, http, ops) = (listeners.grpc_address()?, listeners.http_address()?, listeners.ops_address()?);
    tracing::info!(%grpc, %http, %ops, "listening");
    let asked = asked_to_stop();
    if json {
        print(json!({ "grpc": grpc.to_string(), "http": http.to_string(), "ops": ops.to_string() }));
    }
    Ok(serve::run(config, service, Readiness::default(), listeners, asked).await?)
}

/// Brings the schema up to date; after a restore, also asks for the ledger.
pub(super) async fn migrate(
    file: Option<&Path>,
    after_restore: bool,
    variables: &Variables,
) -> CommandResult {
    let url = Config::load_database_url(file, variables.iter().cloned())?;
    store::migrate(&url).await?;
    print("The schema is up to date.");
    if !after_restore {
        return Ok(());
    }
    let mut connection = store::keys::open(&url).await?;
    if !ledger::require_replay(&mut connection).await? {
        return Err("the database has never been used by the service: is it the right one?".into());
    }
    print(
        "Cursors of before are refused. Nothing is served until `threads-identity erase --replay FILE` has run \
         with the ledger that was kept beside the backup.",
    );
    Ok(())
}

/// Waits for SIGINT or SIGTERM. Listens from the call on: whoever is then told
/// that we are there may at once ask us to stop.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let (interrupt, terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    async move {
        #[cfg(unix)]
        if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    }
}
