//! Requests that never reach a handler: they cannot be read, or their head is too long.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{PATIENCE, World};

/// What every page carries.
const GUARDS: [&str; 8] = [
    "content-security-policy: default-src 'none'; style-src 'sha256-",
    "cache-control: no-store\r\n",
    "referrer-policy: no-referrer\r\n",
    "x-content-type-options: nosniff\r\n",
    "x-frame-options: DENY\r\n",
    "x-robots-tag: noindex, nofollow\r\n",
    "cross-origin-opener-policy: same-origin\r\n",
    "content-type: text/html; charset=utf-8\r\n",
];

/// Says something, all of it, and reads until the connection ends.
async fn told(address: SocketAddr, said: &[u8]) -> String {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = async {
        // What is refused half-way need not be taken to its end.
        let _ = write.write_all(said).await;
    };
    let mut answer = Vec::new();
    let reading = async { timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("it is closed") };
    let ((), read) = tokio::join!(writing, reading);
    read.unwrap();
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn assert_page(answer: &str, status: &str) {
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\n");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    for guard in GUARDS {
        assert!(head.contains(guard), "{guard} is not in {head}");
    }
    assert!(head.contains("connection: close\r\n") && head.contains("date: "), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", page.len())), "{head}");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert!(!page.contains("canary"), "nothing is echoed: {page}");
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_as_everything_else_is() {
    let world = World::new().await;
    let process = world.serve("").await;
    let long = "canary".repeat(20_000);
    let malformed: [(&str, Vec<u8>); 8] = [
        ("no method", b"\x01\x02\r\n\r\n".to_vec()),
        ("no version", b"GET /canary\r\n\r\n".to_vec()),
        ("another version", b"GET /canary HTTP/7.0\r\n\r\n".to_vec()),
        ("a space in the address", b"GET /can ary HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("no name", b"GET / HTTP/1.1\r\n: canary\r\n\r\n".to_vec()),
        ("a zero", b"GET / HTTP/1.1\r\nX: can\0ary\r\n\r\n".to_vec()),
        ("two lengths", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec()),
        ("a length that is none", b"POST / HTTP/1.1\r\nContent-Length: canary\r\n\r\n".to_vec()),
    ];
    for (what, said) in &malformed {
        eprintln!("{what}");
        assert_page(&told(process.http, said).await, "400");
    }
    let many = "X: canary\r\n".repeat(200);
    let too_long: [(&str, String); 3] = [
        ("an address", format!("GET /api/auth/callback/threads?code={long} HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("a header", format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {long}\r\n\r\n")),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
    ];
    for (what, said) in &too_long {
        eprintln!("{what}");
        assert_page(&told(process.http, said.as_bytes()).await, "431");
    }
    // After an answer of the usual kind, on the same connection.
    let both = told(process.http, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n\x01\r\n\r\n").await;
    let (first, second) = both.split_at(both.rfind("HTTP/1.1 ").unwrap());
    assert!(first.starts_with("HTTP/1.1 404 ") && first.contains("Nothing here"), "{first}");
    assert_page(second, "400");
    // The other listener of HTTP/1 says the same.
    assert_page(&told(process.ops, b"\x01\r\n\r\n").await, "400");
    let counted = "threads_identity_connections_refused_total{listener=\"http\",reason=\"malformed\"}";
    let expected = malformed.len() + too_long.len() + 1;
    assert!((process.metric(counted).await - f64::from(u32::try_from(expected).unwrap())).abs() < 0.1);
    assert!(!process.log().contains("canary"), "{}", process.log());
}
