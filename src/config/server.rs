//! `[server]`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::Tls;
use super::section::Section;

/// `[server]`: where this process listens, and to how many.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Server {
    /// `grpc_listen`, default `127.0.0.1:50051`.
    pub grpc_listen: SocketAddr,
    /// `http_listen`, default `127.0.0.1:8080`: the hosted callback, Meta's
    /// callbacks and the status of a deletion.
    pub http_listen: SocketAddr,
    /// `ops_listen`, default `127.0.0.1:9090`: health and metrics.
    pub ops_listen: SocketAddr,
    /// `public_url`: where people and Meta reach the HTTP side, without a slash at
    /// the end. Unless it is set, that is where `http_listen` listens.
    pub public_url: Option<Url>,
    /// `reflection`, default true: whether authenticated callers may ask for
    /// the API's descriptors.
    pub reflection: bool,
    /// `reload_interval`, default 5 s: how often the configuration file is looked
    /// at for other callers and issuers.
    pub reload_interval: Duration,
    /// `drain_timeout`, default 20 s: how long calls in flight may take once
    /// the process is asked to stop. At most 28 s, so that it has ended within the
    /// thirty seconds that supervisors give.
    pub drain_timeout: Duration,
    /// `connections_max`, default 2,000: the most connections of the gRPC side.
    pub connections_max: usize,
    /// `connections_per_peer_max`, default 64: the most of one peer, on each
    /// listener. In IPv6 a peer is a /64. Trusted proxies, and this machine, have no such
    /// limit: everybody comes through them.
    pub connections_per_peer_max: usize,
    /// `http_connections_max`, default 500: the most connections of the HTTP side.
    pub http_connections_max: usize,
    /// `handshake_timeout`, default 5 s: how long a client may take for TLS, and
    /// then for the first bytes of HTTP/2.
    pub handshake_timeout: Duration,
    /// `http_idle_timeout`, default 10 s: how long a client of the HTTP side may take
    /// for the head of a request, and so also how long it may stay between two.
    pub http_idle_timeout: Duration,
    /// `connection_age_max`, default 15 min: after this long, give or take a
    /// tenth, a gRPC client is asked to connect anew (GOAWAY). What is in flight
    /// goes on.
    pub connection_age_max: Duration,
    /// `trusted_proxies`, default none: the networks of the proxies whose
    /// `X-Forwarded-For` is believed. An address means itself alone.
    pub trusted_proxies: Arc<[IpNet]>,
    /// `[server.tls]`: without it everything is plaintext.
    pub tls: Option<Tls>,
    /// `http_tls`, default false: whether the HTTP side serves with the same
    /// certificate; otherwise TLS ends in front of it.
    pub http_tls: bool,
    /// `insecure_allow_plaintext`, default false: whether gRPC may be served without
    /// TLS on an address that is not loopback.
    pub insecure_allow_plaintext: bool,
    /// `insecure_allow_anyone`, default false: whether gRPC may be served without
    /// callers on an address that is not loopback.
    pub insecure_allow_anyone: bool,
}

impl Server {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let tls = Tls::read(section.section("tls"));
        let http_tls = section.boolean("http_tls", false);
        if http_tls && tls.is_none() && !section.has_problems_in("tls") {
            section.problem("http_tls", "needs server.tls.certificate_file and server.tls.key_file");
        }
        let drain_timeout = section.duration("drain_timeout", Duration::from_secs(20));
        if drain_timeout > Duration::from_secs(28) {
            section
                .problem("drain_timeout", "must be at most \"28s\": a stop has ended after thirty seconds");
        }
        let read = Self {
            grpc_listen: section.address("grpc_listen", ([127, 0, 0, 1], 50051)),
            http_listen: section.address("http_listen", ([127, 0, 0, 1], 8080)),
            ops_listen: section.address("ops_listen", ([127, 0, 0, 1], 9090)),
            public_url: read_public_url(&mut section),
            reflection: section.boolean("reflection", true),
            reload_interval: section.duration("reload_interval", Duration::from_secs(5)),
            drain_timeout,
            connections_max: section.count("connections_max", 2000, 1..=1_000_000),
            connections_per_peer_max: section.count("connections_per_peer_max", 64, 1..=1_000_000),
            http_connections_max: section.count("http_connections_max", 500, 1..=1_000_000),
            handshake_timeout: section.duration("handshake_timeout", Duration::from_secs(5)),
            http_idle_timeout: section.duration("http_idle_timeout", Duration::from_secs(10)),
            connection_age_max: section.duration("connection_age_max", Duration::from_mins(15)),
            trusted_proxies: read_networks(&mut section, "trusted_proxies"),
            tls,
            http_tls,
            insecure_allow_plaintext: section.boolean("insecure_allow_plaintext", false),
            insecure_allow_anyone: section.boolean("insecure_allow_anyone", false),
        };
        section.finish();
        read
    }
}

/// An address that paths are put behind, so with nothing behind its own.
fn read_public_url(section: &mut Section<'_>) -> Option<Url> {
    const KEY: &str = "public_url";
    let text = section.string(KEY)?;
    let mut url = section.web_url(KEY, &text)?;
    if url.query().is_some() || url.fragment().is_some() {
        section.problem(KEY, "must have no query (?) and no fragment (#)");
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

fn read_networks(section: &mut Section<'_>, key: &str) -> Arc<[IpNet]> {
    let texts = section.strings(key).unwrap_or_default();
    let mut networks = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let network = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
        match network {
            Ok(network) => networks.push(network),
            Err(_) => section.problem(
                &format!("{key}.{i}"),
                "must be a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or one address",
            ),
        }
    }
    networks.into()
}
