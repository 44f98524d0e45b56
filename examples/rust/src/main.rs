//! THREADS_IDENTITY_ADDRESS=… THREADS_IDENTITY_CA_FILE=… THREADS_IDENTITY_CALLER_KEY=… cargo run

use std::env::var;
use std::error::Error;
use std::sync::Arc;

use backend::accounts::Accounts;
use backend::identity::Identity;
use backend::{watcher, web};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let ca = std::fs::read(required("THREADS_IDENTITY_CA_FILE")?)?;
    let key = required("THREADS_IDENTITY_CALLER_KEY")?;
    let identity = Identity::new(&required("THREADS_IDENTITY_ADDRESS")?, &ca, &key)?;
    let file = var("ACCOUNTS_FILE").unwrap_or_else(|_| "accounts.json".to_owned());
    let accounts = Arc::new(Accounts::open(file.into())?);
    let graph_url = var("THREADS_GRAPH_URL").unwrap_or_else(|_| "https://graph.threads.com".to_owned());
    let listen = var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());

    let stop = CancellationToken::new();
    let watching = watcher::keep_true(identity.clone(), Arc::clone(&accounts), stop.clone(), |_| Ok(()));
    let watching = tokio::spawn(watching);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let asked = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    axum::serve(listener, web::router(identity, accounts, graph_url)).with_graceful_shutdown(asked).await?;
    stop.cancel();
    watching.await?;
    Ok(())
}

fn required(name: &str) -> Result<String, String> {
    var(name).map_err(|_| format!("{name} is not set"))
}
