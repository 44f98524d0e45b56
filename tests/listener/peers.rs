//! What a request is told of who sent it, and how many may connect.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use threads_identity::config::{ClientCertificates, Tls};
use threads_identity::listener::tls::{Application, Certified, Files};
use threads_identity::listener::{Admission, Listener, Protocol};
use threads_identity::metrics::Metrics;
use threads_identity::peer::Peer;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::certificates::{Authority, Issued};
use crate::world::{PATIENCE, World};

/// What a client of this authority's server is set up with.
pub fn client_config(
    authority: &Authority,
    own: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A connection over TLS, as far as the client sees it.
pub async fn handshake(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), TcpStream::connect(address).await?).await
}

/// Answers with the names of whoever asks.
async fn tell(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let peer = request.extensions().get::<Peer>().unwrap();
    Ok(Response::new(Body::from(format!("{} {}", peer.address.ip(), peer.names.join(",")))))
}

/// A listener that tells the names.
struct Telling {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Telling {
    async fn start(tls: Option<&Tls>, admission: Admission) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let certified = match tls {
            None => None,
            Some(tls) => Some(Certified::new(tls, &Files::read(tls).await, Application::Grpc).unwrap()),
        };
        let protocol =
            Protocol::Http2 { streams_max: 10, header_bytes_max: 16 * 1024, age_max: Duration::from_secs(2) };
        let listener = Listener {
            name: "grpc",
            socket,
            protocol,
            certified,
            admission,
            handshake_timeout: Duration::from_secs(2),
            metrics: Arc::clone(&metrics),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(listener.serve(service_fn(tell), stop.clone()));
        Self { address, stop, task, metrics }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}

/// Asks once, over a connection that is there.
async fn ask(io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> Result<String, h2::Error> {
    let (mut client, connection) = h2::client::handshake(io).await?;
    let call = async {
        let request = Request::get("https://localhost/").body(()).unwrap();
        let (answer, _) = client.send_request(request, true)?;
        let mut body = answer.await?.into_body();
        let mut text = Vec::new();
        while let Some(chunk) = body.data().await {
            text.extend_from_slice(&chunk?);
        }
        Ok(String::from_utf8(text).unwrap())
    };
    tokio::select! {
        answered = call => answered,
        Err(ended) = connection => Err(ended),
    }
}

#[tokio::test]
async fn the_names_in_a_verified_certificate_reach_the_request_and_no_others_do() {
    let world = World::new().await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("ours"));
    let (certificate_file, key_file) = ours.server().write(&world.folder);
    let ca = world.folder.join("clients.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let names = ["web.example.com", "spiffe://example.com/ns/web"];
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    for client_certificates in [ClientCertificates::Required, ClientCertificates::Optional] {
        let tls = Tls {
            certificate_file: certificate_file.clone(),
            key_file: key_file.clone(),
            client_ca_file: Some(ca.clone()),
            client_certificates,
            reload_interval: Duration::from_secs(5),
        };
        let telling = Telling::start(Some(&tls), Admission::new(100, 100, Arc::default())).await;
        for version in versions {
            let told = async |own: Option<&Issued>| {
                let config = client_config(&ours, own, &[version]);
                // In TLS 1.3 a client learns only with the first answer that it is refused.
                let stream = handshake(telling.address, config).await.map_err(drop)?;
                ask(stream).await.map_err(drop)
            };
            let good = ours.client(&names);
            assert_eq!(told(Some(&good)).await.unwrap(), format!("127.0.0.1 {}", names.join(",")));
            assert_eq!(told(Some(&ours.client(&[]))).await.unwrap(), "127.0.0.1 ");
            assert!(told(Some(&theirs.client(&names))).await.is_err(), "signed by another of the same name");
            assert!(told(Some(&ours.expired_client(&names))).await.is_err(), "expired");
            let server = ours.server();
            assert!(told(Some(&server)).await.is_err(), "a server's certificate is no client's");
            let without = told(None).await;
            match client_certificates {
                ClientCertificates::Required => assert!(without.is_err()),
                ClientCertificates::Optional => assert_eq!(without.unwrap(), "127.0.0.1 "),
            }
        }
        let refused = telling.metrics.encode().unwrap();
        assert!(refused.contains("reason=\"handshake_failed\""), "{refused}");
        telling.stop().await;
    }
}

#[tokio::test]
async fn one_peer_has_so_many_connections_and_another_has_its_own() {
    let telling = Telling::start(None, Admission::new(5, 3, Arc::default())).await;
    let from = async |address: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(telling.address).await.unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(from("127.0.0.1").await);
    }
    let mut byte = [0];
    let mut fourth = from("127.0.0.1").await;
    assert!(matches!(timeout(PATIENCE, fourth.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    assert_eq!(ask(from("127.0.0.2").await).await.unwrap(), "127.0.0.2 ");
    // One that leaves makes room.
    held.pop();
    loop {
        if let Ok(answer) = ask(from("127.0.0.1").await).await {
            break assert_eq!(answer, "127.0.0.1 ");
        }
    }
    let refused = telling.metrics.encode().unwrap();
    assert!(
        refused.contains("connections_refused_total{listener=\"grpc\",reason=\"peer_full\"}"),
        "{refused}"
    );
    telling.stop().await;
}

#[tokio::test]
async fn who_says_nothing_or_something_else_is_left() {
    let telling = Telling::start(None, Admission::new(100, 100, Arc::default())).await;
    for said in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\0\x05"] {
        let mut stream = TcpStream::connect(telling.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, said.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(rest.is_empty());
    }
    let refused = telling.metrics.encode().unwrap();
    for reason in ["silent\"} 2", "not_http2\"} 2"] {
        assert!(refused.contains(&format!("{{listener=\"grpc\",reason=\"{reason}")), "{reason} in {refused}");
    }
    telling.stop().await;
}

#[tokio::test]
async fn a_connection_that_has_grown_old_is_told_so_and_its_calls_go_on() {
    let telling = Telling::start(None, Admission::new(100, 100, Arc::default())).await;
    let (mut client, connection) =
        h2::client::handshake(TcpStream::connect(telling.address).await.unwrap()).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = || Request::get("http://localhost/").body(()).unwrap();
    let (answer, _) = client.send_request(request(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // GOAWAY without an error: the connection ends by itself, and well.
    timeout(PATIENCE, ended).await.expect("it ends").unwrap().unwrap();
    assert!(client.ready().await.is_err());
    telling.stop().await;
}
