//! `serve` and `migrate`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{CommandResult, Variables, print};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::readiness::Readiness;
use crate::serve::{self, Listeners};
use crate::service::{BuildError, Service};
use crate::store;

/// Runs the service until it is asked to stop.
pub(super) async fn run(file: Option<&Path>, json: bool, variables: &Variables) -> CommandResult {
    let config = Config::load(file, variables.iter().cloned())?;
    tracing::info!(config = ?config, "starting");
    let service = Arc::new(Service::new(&config, Arc::new(SystemClock))?);
    let listeners = Listeners::bind(&config).await?;
    let (grpc, ops) = (listeners.grpc_address()?, listeners.ops_address()?);
    tracing::info!(%grpc, %ops, "listening");
    if json {
        print(json!({ "grpc": grpc.to_string(), "ops": ops.to_string() }));
    }
    Ok(serve::run(&config, service, Readiness::default(), listeners, asked_to_stop()).await?)
}

/// Brings the schema up to date.
pub(super) async fn migrate(file: Option<&Path>, variables: &Variables) -> CommandResult {
    let config = Config::load(file, variables.iter().cloned())?;
    let url = config.database.url.as_ref().ok_or(BuildError::NoDatabase)?;
    store::migrate(url).await?;
    print("The schema is up to date.");
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a handler there is nothing to wait for but ctrl_c below.
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
