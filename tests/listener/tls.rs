//! TLS as the binary serves it, and its certificate as it changes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::certificates::Authority;
use crate::peers::{client_config, handshake};
use crate::world::{PATIENCE, Process, World, believing, secured};

const SETTINGS: &str = "[server.tls]\ncertificate_file = \"server.pem\"\nkey_file = \"server.key\"\n\
                        reload_interval = \"100ms\"\n";

/// The certificate that a new connection is shown.
async fn shown(process: &Process, authority: &Authority) -> Vec<u8> {
    let config = client_config(authority, None, rustls::DEFAULT_VERSIONS);
    let stream = handshake(process.grpc, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A greeting of this version and nothing newer (RFC 5246, appendix E).
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend_from_slice(&[7; 32]);
    // No session; two usual ciphers; no compression.
    hello.extend_from_slice(&[0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0]);
    // Signatures (ECDSA on P-256), groups (P-256), forms of points.
    let extensions: [&[u8]; 3] =
        [&[0, 13, 0, 4, 0, 2, 4, 3], &[0, 10, 0, 4, 0, 2, 0, 23], &[0, 11, 0, 2, 1, 0]];
    let extensions = extensions.concat();
    hello.extend_from_slice(&[0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[tokio::test]
async fn tls_is_1_2_or_newer_and_nothing_else_is_spoken() {
    let world = World::new().await;
    let authority = Authority::new("ours");
    authority.server().write(&world.folder);
    let process = world.serve(SETTINGS).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = handshake(process.grpc, client_config(&authority, None, &[version])).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    world.ask(&secured(process.grpc, believing(&authority, None)).connect().await.unwrap()).await.unwrap();
    // The older ones end with a fatal alert, protocol_version (70); the same greeting of
    // 1.2 is answered.
    for (version, answered) in [([3, 0], false), ([3, 1], false), ([3, 2], false), ([3, 3], true)] {
        let mut stream = TcpStream::connect(process.grpc).await.unwrap();
        stream.write_all(&client_hello(version)).await.unwrap();
        let mut answer = [0; 7];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("it answers").unwrap();
        let refused = (answer[0], answer[5], answer[6]) == (0x15, 2, 70);
        assert_eq!((answer[0] == 0x16, refused), (answered, !answered), "{version:?}: {answer:?}");
    }
    // No h2c, no HTTP/1, and no ALPN but ours.
    let plain = process.endpoint().connect().await;
    let answered = match plain {
        Ok(channel) => world.ask(&channel).await.is_ok(),
        Err(_) => false,
    };
    assert!(!answered, "plaintext was answered on the port of TLS");
    let mut config = client_config(&authority, None, rustls::DEFAULT_VERSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(handshake(process.grpc, config).await.is_err());
    let failed = "threads_identity_connections_refused_total{listener=\"grpc\",reason=\"handshake_failed\"}";
    assert!(process.metric(failed).await > 4.5);
    // And as others see it, where they are at hand.
    let others = |version: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", version, "-connect", &process.grpc.to_string()]);
        openssl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    if let Ok(current) = others("-tls1_2") {
        assert!(current.success());
        assert!(!others("-tls1_1").unwrap().success() && !others("-tls1").unwrap().success());
    }
}

#[tokio::test]
async fn a_client_needs_a_good_certificate_where_one_is_required() {
    let world = World::new().await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.server().write(&world.folder);
    fs::write(world.folder.join("clients.pem"), ours.pem()).unwrap();
    let required = format!("{SETTINGS}client_ca_file = \"clients.pem\"\n");
    let optional = format!("{required}client_certificates = \"optional\"\n");
    let names = ["web.example.com"];
    let (good, foreign, expired) = (ours.client(&names), theirs.client(&names), ours.expired_client(&names));
    for (settings, without) in [(required, false), (optional, true)] {
        let process = world.serve(&settings).await;
        let answered = async |own| match secured(process.grpc, believing(&ours, own)).connect().await {
            Ok(channel) => match world.ask(&channel).await {
                Ok(()) => true,
                Err(status) => {
                    assert!(status.details().is_empty(), "the service itself has answered: {status:?}");
                    false
                }
            },
            Err(_) => false,
        };
        assert!(answered(Some(&good)).await);
        assert!(!answered(Some(&foreign)).await);
        assert!(!answered(Some(&expired)).await);
        assert_eq!(answered(None).await, without);
    }
}

const CERTIFICATE_END: &str = "threads_identity_tls_certificate_end_timestamp_seconds";

fn end_of_year(year: i32) -> f64 {
    const DAY: u32 = 86_400;
    let days = rcgen::date_time_ymd(year, 12, 31).unix_timestamp() / i64::from(DAY);
    f64::from(u32::try_from(days).unwrap()) * f64::from(DAY)
}

#[tokio::test]
async fn a_certificate_is_renewed_under_load_and_a_broken_one_is_not_taken() {
    let world = World::new().await;
    let authority = Authority::new("ours");
    let first = authority.server();
    first.write(&world.folder);
    let process = world.serve(SETTINGS).await;
    let before = shown(&process, &authority).await;
    let done = Arc::new(AtomicBool::new(false));
    let connected = AtomicUsize::new(0);
    let reloads = |result: &str| format!("threads_identity_tls_reloads_total{{result=\"{result}\"}}");
    // One client stays, another comes anew for each call.
    let staying = async {
        let channel = secured(process.grpc, believing(&authority, None)).connect().await.unwrap();
        while !done.load(Ordering::Acquire) {
            world.ask(&channel).await.unwrap();
        }
    };
    let coming = async {
        while !done.load(Ordering::Acquire) {
            let channel = secured(process.grpc, believing(&authority, None)).connect().await.unwrap();
            world.ask(&channel).await.unwrap();
            connected.fetch_add(1, Ordering::Relaxed);
        }
    };
    let renewing = async {
        let mut last = before.clone();
        for _ in 0..5 {
            authority.server().write(&world.folder);
            process.until("the new one is shown", async || shown(&process, &authority).await != last).await;
            last = shown(&process, &authority).await;
        }
        // A key that is another's, no PEM at all, nothing, and no file.
        for broken in ["another", "-----BEGIN nonsense", "", "gone"] {
            let refused = process.metric(&reloads("refused")).await;
            match broken {
                "another" => fs::write(world.folder.join("server.key"), &first.key).unwrap(),
                "gone" => fs::remove_file(world.folder.join("server.key")).unwrap(),
                text => fs::write(world.folder.join("server.pem"), text).unwrap(),
            }
            process
                .until("it is refused", async || process.metric(&reloads("refused")).await > refused + 1.5)
                .await;
            assert_eq!(shown(&process, &authority).await, last, "{broken}");
        }
        assert!((process.metric(CERTIFICATE_END).await - end_of_year(4000)).abs() < 1.0);
        // Mended, it is taken.
        authority.server_until(2090).write(&world.folder);
        process.until("the mended one is shown", async || shown(&process, &authority).await != last).await;
        process
            .until("its end is told", async || {
                (process.metric(CERTIFICATE_END).await - end_of_year(2090)).abs() < 1.0
            })
            .await;
        done.store(true, Ordering::Release);
    };
    tokio::join!(staying, coming, renewing);
    assert!(connected.load(Ordering::Relaxed) > 5);
    assert!(process.metric(&reloads("taken")).await > 5.5);
    let log = process.log();
    assert!(log.contains("server.tls.key_file: does not belong to the certificate"), "{log}");
    assert!(!log.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn the_http_side_may_use_the_same_certificate() {
    let world = World::new().await;
    let authority = Authority::new("ours");
    authority.server().write(&world.folder);
    let process = world.serve(&format!("[server]\nhttp_tls = true\n{SETTINGS}")).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()])
        .resolve("localhost", process.http)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let url = |scheme: &str| format!("{scheme}://localhost:{}/", process.http.port());
    assert_eq!(client.get(url("https")).send().await.unwrap().status(), 404);
    assert!(client.get(url("http")).send().await.is_err());
}

#[tokio::test]
async fn a_service_behind_tls_can_be_watched_from_a_terminal() {
    let world = World::new().await;
    let authority = Authority::new("ours");
    authority.server().write(&world.folder);
    let own = authority.client(&["web.example.com"]);
    let path = |name: &str| world.folder.join(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("clients.pem"), path("own.pem"), path("own.key"));
    fs::write(&ca, authority.pem()).unwrap();
    fs::write(&certificate, &own.certificate).unwrap();
    fs::write(&key, &own.key).unwrap();
    let process = world.serve(&format!("{SETTINGS}client_ca_file = \"clients.pem\"\n")).await;
    let watch = |arguments: &[&str]| {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_threads-identity"));
        watch.args([&["watch"], arguments].concat()).env_clear();
        watch.env("THREADS_IDENTITY_CALLER_KEY", world.key());
        watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let server = format!("https://{}", process.grpc);
    let own = ["--certificate-file", &certificate, "--client-key-file", &key];
    let mut running = watch(&[&["--json", "--server", &server, "--ca-file", &ca], &own[..]].concat());
    process.until("it watches", async || process.metric("threads_identity_watch_streams").await > 0.5).await;
    // The service knows of it before the position has come.
    let mut position = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut position).unwrap();
    assert!(Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap().success());
    let ended = running.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && told.contains("--cursor"), "{told}");
    // What is asked for amiss is told by its option.
    let plain = format!("http://{}", process.grpc);
    for (arguments, expected) in [
        (&["--server", &plain, "--ca-file", &ca][..], "--server: needs https://"),
        (&["--server", "ftp://id.example.com"], "--server: must be an address"),
        (&["--server", &server, "--ca-file", "/nowhere/ca.pem"], "--ca-file: /nowhere/ca.pem: "),
        (&["--server", &server, "--certificate-file", &certificate], "--client-key-file"),
        (&["--server", &server, "--ca-file", &key], "--ca-file: holds no certificate"),
    ] {
        let ended = watch(arguments).wait_with_output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && told.contains(expected), "{arguments:?}: {told}");
        assert!(!told.contains("PRIVATE KEY"));
    }
    // What is met on the way is told with what to do.
    let accounts = |arguments: &[&str]| {
        let mut accounts = Command::new(env!("CARGO_BIN_EXE_threads-identity"));
        accounts.args([&["accounts", "user-1"], arguments].concat()).env_clear();
        let ended = accounts.env("THREADS_IDENTITY_CALLER_KEY", world.key()).output().unwrap();
        (ended.status.success(), String::from_utf8(ended.stderr).unwrap())
    };
    let (is_good, told) = accounts(&[&["--server", &server, "--ca-file", &ca], &own[..]].concat());
    assert!(is_good, "{told}");
    let believed_by_nobody = [&["--server", server.as_str()], &own[..]].concat();
    for (arguments, expected) in [
        (believed_by_nobody.as_slice(), "Name with --ca-file whose certificates are to be believed"),
        (&["--server", &server, "--ca-file", &ca], "--certificate-file"),
        (&["--server", &plain], "it begins with https:// where the service has TLS"),
    ] {
        let (is_good, told) = accounts(arguments);
        assert!(
            !is_good && told.contains("cannot be reached") && told.contains(expected),
            "{arguments:?}: {told}"
        );
    }
}
