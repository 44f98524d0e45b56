//! More connections than there is room for, or files to hold them.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use threads_identity::listener::descriptors;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::certificates::Authority;
use crate::world::{PATIENCE, Process, World, believing, secured};

/// How busy a process may be that has nothing to do but turn away: a loop that never
/// waits comes to one.
const BUSY_MAX: f64 = 0.4;

/// How busy it was while this went on, as a share of one processor.
async fn busy(process: &Process, during: impl Future<Output = ()>) -> f64 {
    let (before, start) = (process.busy(), Instant::now());
    during.await;
    (process.busy() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Connections that say nothing.
async fn silent(process: &Process, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(TcpStream::connect(process.grpc).await.unwrap());
    }
    streams
}

#[tokio::test]
async fn a_thousand_who_say_nothing_cost_next_to_nothing_and_then_others_get_in() {
    descriptors::raise();
    let world = World::new().await;
    let process = world.serve_at("127.0.0.1:0", "", Some(256)).await;
    assert!(process.log().contains("fewer connections are let in than configured"), "{}", process.log());
    let mut held = Vec::new();
    let share = busy(&process, async {
        held = silent(&process, 1000).await;
        sleep(Duration::from_secs(3)).await;
    })
    .await;
    assert!(share < BUSY_MAX, "it was busy for {share} of a processor");
    assert!(process.open_files() < 256);
    // Files are left for what else there is.
    assert_eq!(process.get("/readyz").await.as_deref(), Some("ready\n"));
    let full = "threads_identity_connections_refused_total{listener=\"grpc\",reason=\"full\"}";
    assert!(process.metric(full).await > 500.0);
    drop(held);
    process
        .until("a client gets in", async || match process.endpoint().connect().await {
            Ok(channel) => world.ask(&channel).await.is_ok(),
            Err(_) => false,
        })
        .await;
    assert!(process.memory() < 512 * 1024 * 1024);
}

#[tokio::test]
async fn without_a_file_to_open_it_waits_and_does_not_spin() {
    let world = World::new().await;
    let process = world.serve("[server]\nhandshake_timeout = \"5m\"\n").await;
    let channel = process.connect().await;
    world.ask(&channel).await.unwrap();
    // As if everything else had taken them.
    let id = Pid::from_raw(i32::try_from(process.id()).unwrap());
    let few = u64::try_from(process.open_files()).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(id, Resource::Nofile, Rlimit { current: Some(few), maximum }).unwrap();
    let mut waiting = Vec::new();
    let share = busy(&process, async {
        waiting = silent(&process, 20).await;
        sleep(Duration::from_secs(3)).await;
        // Who is connected is served.
        world.ask(&channel).await.unwrap();
    })
    .await;
    assert!(share < BUSY_MAX, "it was busy for {share} of a processor");
    let log = process.log();
    let complaints = log.lines().filter(|line| line.contains("no connection can be accepted")).count();
    assert!((1..=5).contains(&complaints), "it complained {complaints} times:\n{log}");
    prlimit(id, Resource::Nofile, before).unwrap();
    world.ask(&process.connect().await).await.unwrap();
    let failed = "threads_identity_connections_refused_total{listener=\"grpc\",reason=\"accept_failed\"}";
    let failed = process.metric(failed).await;
    assert!((1.0..200.0).contains(&failed), "it tried {failed} times");
}

#[tokio::test]
async fn slow_handshakes_are_left_and_keep_nobody_waiting() {
    let world = World::new().await;
    let authority = Authority::new("ours");
    authority.server().write(&world.folder);
    let settings = "[server]\nhandshake_timeout = \"3s\"\n[server.tls]\ncertificate_file = \"server.pem\"\n\
                    key_file = \"server.key\"\n";
    let process = world.serve(settings).await;
    let mut slow = silent(&process, 40).await;
    for stream in &mut slow[20..] {
        // The beginning of a greeting.
        tokio::io::AsyncWriteExt::write_all(stream, &[0x16, 3, 1, 1, 0, 1, 0]).await.unwrap();
    }
    world.ask(&secured(process.grpc, believing(&authority, None)).connect().await.unwrap()).await.unwrap();
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    let late = "threads_identity_connections_refused_total{listener=\"grpc\",reason=\"handshake_timeout\"}";
    assert!(process.metric(late).await > 39.5);
    // The same of a head of HTTP/1 that never ends: see `http_idle_timeout`.
    process
        .until("their places are free", async || {
            process.metric("threads_identity_connections_open{listener=\"grpc\"}").await < 0.5
        })
        .await;
}

#[tokio::test]
async fn a_request_of_http_1_that_never_ends_is_left() {
    let world = World::new().await;
    let process = world.serve("[server]\nhttp_idle_timeout = \"1s\"\n").await;
    for address in [process.http, process.ops] {
        for said in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, said.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
        }
        // And one that stays after its answer.
        let mut stream = TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 404"));
    }
}
