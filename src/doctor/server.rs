//! Where the service listens, and where people find it.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Report;
use crate::config::{Config, is_loopback};
use crate::serve::refuse_open;

/// Looks at the listeners and the public URL.
pub(super) async fn examine(report: &mut Report, config: &Config) {
    let server = &config.server;
    for (key, address) in [
        ("server.grpc_listen", server.grpc_listen),
        ("server.http_listen", server.http_listen),
        ("server.ops_listen", server.ops_listen),
    ] {
        examine_listener(report, key, address).await;
    }
    for (key, address, other) in [
        ("server.http_listen", server.http_listen, server.grpc_listen),
        ("server.ops_listen", server.ops_listen, server.grpc_listen),
        ("server.ops_listen", server.ops_listen, server.http_listen),
    ] {
        if address.port() != 0 && address == other {
            let fix = "Give each listener a port of its own.";
            report.problem(key, format!("{address} is another listener's, too"), fix);
        }
    }
    examine_exposure(report, config);
    if !server.ops_listen.ip().is_loopback() {
        report.warning(
            "server.ops_listen",
            format!("{} is reached from elsewhere, and asks nobody who they are", server.ops_listen),
            "Let only your monitoring reach it: it tells names of apps and how much is done.",
        );
    }
    examine_public_url(report, config);
}

async fn examine_listener(report: &mut Report, key: &str, address: SocketAddr) {
    match TcpListener::bind(address).await {
        Ok(_) => report.ok(key, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => report.ok(
            key,
            format!("something listens on {address} already: this service, or another program in its place"),
        ),
        Err(error) => report.problem(
            key,
            format!("{address} cannot be listened on: {error}"),
            match error.kind() {
                io::ErrorKind::PermissionDenied => "Take a port above 1023, or give the process the right.",
                _ => "Name an address of this machine; 0.0.0.0 or [::] mean all of them.",
            },
        ),
    }
}

/// Whether the gRPC side is open to a network without what guards it there.
fn examine_exposure(report: &mut Report, config: &Config) {
    const KEY: &str = "server.grpc_listen";
    let server = &config.server;
    if let Err(refused) = refuse_open(config, server.grpc_listen) {
        let text = refused.to_string();
        let (subject, found) = text.split_once(": ").unwrap_or((KEY, &text));
        report.problem(subject, found, "`serve` would not start.");
    } else if !server.grpc_listen.ip().to_canonical().is_loopback() {
        if server.tls.is_none() {
            let found = "callers' keys and people's tokens cross the network in plaintext";
            report.warning(
                "server.insecure_allow_plaintext",
                found,
                "Set server.tls, unless something else encrypts all the way to the callers.",
            );
        }
        if config.is_open() {
            let found = "whoever reaches the port may do everything";
            report.warning(
                "server.insecure_allow_anyone",
                found,
                "Add [[callers]] (`threads-identity callers add`).",
            );
        }
    }
}

fn examine_public_url(report: &mut Report, config: &Config) {
    const KEY: &str = "server.public_url";
    match &config.server.public_url {
        None if config.server.http_listen.ip().is_loopback() => report.warning(
            KEY,
            "is not set: what people and Meta are told leads to this machine alone",
            "Set it to where a proxy with a certificate reaches server.http_listen, such as https://id.example.com.",
        ),
        None => report.problem(
            KEY,
            "is not set: the addresses that people and Meta are told are those of the listener",
            "Set it to the https address at which this service is found.",
        ),
        Some(url) if url.scheme() != "https" && !is_loopback(url) => {
            report.problem(KEY, format!("{url} is not https"), "Meta calls https addresses alone.");
        }
        Some(url) if is_loopback(url) => report.warning(
            KEY,
            format!("{url} leads to this machine alone: neither people nor Meta reach it"),
            "Set it to the https address at which this service is found.",
        ),
        Some(url) => report.ok(KEY, format!("{url}")),
    }
}
