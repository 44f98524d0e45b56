//! What leaves the service, and what it takes from wherever it went. Other ends than
//! the simulator, written by hand: what no HTTP library would send.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use threads_identity::proto::v1::CompleteAuthorizationRequest;
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::simulator::{Endpoint, Fault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::harness::{REDIRECT_URI, Wishes, World, bad_fields, failed};
use crate::shorthand::fresh_profile;

/// An HTTP server that answers every request with these bytes, and then with whatever
/// comes of a loop.
#[derive(Clone)]
struct Other {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    written: Arc<AtomicU64>,
}

impl Other {
    async fn start(head: String, endless: Option<&'static [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = Self { address, requests: Arc::default(), written: Arc::default() };
        let own = other.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(own.clone().answer(stream, head.clone(), endless));
            }
        });
        other
    }

    async fn answer(self, mut stream: TcpStream, head: String, endless: Option<&'static [u8]>) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let Ok(read) = stream.read(&mut buffer).await else { return };
            request.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((headers, body)) = text.split_once("\r\n\r\n") {
                let length = headers.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
                });
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            if read == 0 {
                return;
            }
        }
        self.requests.lock().unwrap().push(String::from_utf8(request).unwrap());
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        while let Some(chunk) = endless {
            if stream.write_all(chunk).await.is_err() {
                break;
            }
            self.written.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A world in which the code exchange goes there.
    async fn world(&self) -> World {
        let app = format!("token_url = \"http://{}/oauth/access_token\"\n", self.address);
        World::with(Wishes { app: Box::leak(app.into_boxed_str()), ..Wishes::default() }).await
    }

    /// A code is sent there, once, and nobody knows what became of it.
    async fn is_not_believed(&self) {
        let world = self.world().await;
        failed(world.link("user-1", "full").await, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
        assert_eq!(self.requests().len(), 1);
        assert_eq!(world.counted("select count(*) from accounts").await, 0);
    }
}

/// An answer that would be believed, but for its headers.
fn with_headers(headers: &str) -> String {
    let body = r#"{"access_token":"THx","user_id":1}"#;
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_that_would_have_to_be_unpacked_is_refused() {
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let headers = format!("Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n");
        Other::start(with_headers(&headers), None).await.is_not_believed().await;
    }
    let twice = "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n";
    Other::start(with_headers(twice), None).await.is_not_believed().await;
}

#[tokio::test]
async fn an_answer_without_the_type_of_json_is_refused() {
    for headers in ["", "Content-Type: text/html\r\n", "Content-Type: application/octet-stream\r\n"] {
        Other::start(with_headers(headers), None).await.is_not_believed().await;
    }
    // The same with it is taken, as far as the next step: this tests the test.
    let other = Other::start(with_headers("Content-Type: application/json\r\n"), None).await;
    let mut world = other.world().await;
    world.expect_violations();
    let refused = world.link("user-1", "full").await.unwrap_err();
    assert_ne!(refused.code(), Code::Aborted, "{refused:?}");
    assert!(world.controls.count(Endpoint::LongLivedExchange) > 0);
    // Nothing is asked for that would have to be unpacked.
    let request = &other.requests()[0];
    assert!(!request.to_ascii_lowercase().contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn a_stream_without_an_end_is_cut_at_the_cap() {
    const CHUNK: &[u8] = b"10000\r\n";
    static PIECE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| [CHUNK, vec![b'x'; 0x1_0000].as_slice(), b"\r\n"].concat());
    let json = "Content-Type: application/json\r\n";
    let chunked = format!("HTTP/1.1 200 OK\r\n{json}Transfer-Encoding: chunked\r\n\r\n");
    let sized = format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 10737418240\r\n\r\n");
    let until_closed = format!("HTTP/1.1 200 OK\r\n{json}\r\n");
    for head in [chunked, sized, until_closed] {
        let other = Other::start(head, Some(&PIECE)).await;
        other.is_not_believed().await;
        // What was taken beyond the cap of 256 KiB lies in the buffers of the two sockets.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let written = other.written.load(Ordering::Relaxed);
        assert!(written < 32 * 1024 * 1024, "{written} bytes were taken");
        let later = other.written.load(Ordering::Relaxed);
        assert_eq!(written, later, "the connection is still open");
    }
    // Headers without an end, too.
    static HEADER: &[u8] = b"X-Header: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    let other = Other::start("HTTP/1.1 200 OK\r\n".to_owned(), Some(HEADER)).await;
    other.is_not_believed().await;
    assert!(other.written.load(Ordering::Relaxed) < 32 * 1024 * 1024);
}

/// Counts who comes, and takes nothing.
async fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    tokio::spawn(async move {
        loop {
            let _stream = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, hits)
}

#[tokio::test]
async fn nobody_is_followed_anywhere() {
    let (address, hits) = trap().await;
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} X\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n");
        Other::start(head, None).await.is_not_believed().await;
    }
    for header in ["Refresh: 0; url=", "Link: <", "Alt-Svc: h2=\"", "Content-Location: "] {
        let headers = format!("Content-Type: text/html\r\n{header}http://{address}/\r\n");
        Other::start(with_headers(&headers), None).await.is_not_believed().await;
    }
    let world = World::start().await;
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    for fault in [Fault::Redirect(format!("http://{address}/")), Fault::Redirect(format!("//{address}/"))] {
        world.controls.fault_times(Endpoint::Me, 3, fault);
        let read = world.profile(fresh_profile(&account.account_id, 0)).await;
        failed(read, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    }
    assert_eq!(hits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_picture_is_never_fetched() {
    let (address, hits) = trap().await;
    let world = World::start().await;
    let url = format!("http://{address}/picture.jpg");
    world.controls.set_picture("full", Some(&url));
    let linked = world.link("user-1", "full").await.unwrap();
    assert_eq!(linked.profile.unwrap().threads_profile_picture_url.as_deref(), Some(url.as_str()));
    let id = linked.account.unwrap().account_id;
    let profile = world.profile(fresh_profile(&id, 0)).await.unwrap().profile.unwrap();
    assert_eq!(
        profile.threads_profile_picture_url.as_deref(),
        Some(url.as_str()),
        "it is handed on as it is"
    );
    assert_eq!(hits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_code_brings_no_parameters_and_no_lines_into_the_exchange() {
    let other = Other::start(with_headers("Content-Type: text/html\r\n"), None).await;
    let world = other.world().await;
    let smuggled = "AQ&redirect_uri=https://evil.example/&client_id=2;grant_type=x%0d%0aX-Header:1+2#f=/?é";
    let codes = [
        ("AQ&redirect_uri=https://evil.example/&client_id=2", true),
        ("AQ=;grant_type=x%0d%0aX-Header:1+2#f=/?", true),
        ("AQ\r\nX-Header: 1", false),
        ("AQ\n", false),
        ("AQ x", false),
        (smuggled, false),
    ];
    for (code, is_a_code) in codes {
        let created = world.create("user-1").await;
        let result = Some(parameters::Result::Code(code.to_owned()));
        let request = CompleteAuthorizationRequest {
            answer: Some(Answer::Parameters(Parameters { state: created.state, result })),
            user_id: Some("user-1".to_owned()),
            session_binding: None,
        };
        let before = other.requests().len();
        let completed = world.complete_as("web", request).await;
        if !is_a_code {
            assert_eq!(bad_fields(completed), ["parameters.code"], "{code:?}");
            assert_eq!(other.requests().len(), before, "{code:?} was sent");
            continue;
        }
        failed(completed, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
        let request = other.requests().pop().unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /oauth/access_token HTTP/1.1\r\n"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("x-header"), "{head}");
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["client_id", "client_secret", "grant_type", "redirect_uri", "code"]);
        assert_eq!((pairs[3].1.as_str(), pairs[4].1.as_str()), (REDIRECT_URI, code));
    }
}
