//! Six ways to keep an HTTP/2 server busy with nothing, while somebody else works.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use crate::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, headers,
};
use crate::world::World;

/// How much more memory a flood may take, in bytes: the legitimate client's own needs,
/// and what is on its way.
const MEMORY_MORE_MAX: u64 = 64 * 1024 * 1024;
/// How long a flood that is not cut goes on.
const FLOOD: Duration = Duration::from_secs(4);

/// How many calls a client makes alone, for comparison.
const ALONE: usize = 300;
/// How much longer the slowest of a hundred calls may take beside a flood than alone. The
/// flood and its measuring take processors, too, and so do other tests: a client that
/// waits for the flood to end waits a hundred times longer still.
const SLOWER_MAX: f64 = 50.0;

/// What one flood sends, over and over: from the number of the round.
type Round = fn(u32) -> Vec<u8>;

fn stream(round: u32) -> u32 {
    2 * round + 1
}

fn rapid_reset(round: u32) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream(round), &headers());
    bytes.extend(frame(RST_STREAM, 0, stream(round), &8_u32.to_be_bytes()));
    bytes
}

fn endless_headers(round: u32) -> Vec<u8> {
    match round {
        0 => frame(HEADERS, 0, 1, &headers()),
        _ => frame(CONTINUATION, 0, 1, &b"\0\x01a\x01b".repeat(500)),
    }
}

fn empty_data(round: u32) -> Vec<u8> {
    match round {
        0 => frame(HEADERS, END_HEADERS, 1, &headers()),
        _ => frame(DATA, 0, 1, &[]).repeat(100),
    }
}

/// The server itself resets the stream, as it must for a window that grows by nothing.
fn made_you_reset(round: u32) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream(round), &headers());
    bytes.extend(frame(WINDOW_UPDATE, 0, stream(round), &0_u32.to_be_bytes()));
    bytes
}

fn pings(_: u32) -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8]).repeat(1000)
}

fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[]).repeat(1000)
}

/// How a flood ended.
struct Flooded {
    told_to_go: bool,
    cut: bool,
}

fn flood(address: SocketAddr, round: Round) -> Flooded {
    let mut connection = Connection::open(address);
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < FLOOD && !connection.closed() && connection.send(&round(n)) {
        n += 1;
    }
    // What was said last may still be on its way.
    let deadline = Instant::now() + Duration::from_secs(2);
    while start.elapsed() < FLOOD && !connection.closed() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    Flooded { told_to_go: connection.told_to_go(), cut: connection.closed() }
}

/// Floods, while a client on a connection of its own makes call after call.
async fn beside_a_client(name: &str, round: Round) -> Flooded {
    let world = World::new().await;
    let process = world.serve("").await;
    let client = process.connect().await;
    for _ in 0..20 {
        world.ask(&client).await.unwrap();
    }
    let mut alone = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        alone.push(timed(&world, &client).await);
    }
    let before = process.memory();
    let done = Arc::new(AtomicBool::new(false));
    let (flooding, address) = (Arc::clone(&done), process.grpc);
    let flooding = std::thread::spawn(move || {
        let flooded = flood(address, round);
        flooding.store(true, Ordering::Release);
        flooded
    });
    let mut beside = Vec::new();
    let mut most = before;
    while !done.load(Ordering::Acquire) || beside.is_empty() {
        beside.push(timed(&world, &client).await);
        most = most.max(process.memory());
    }
    let flooded = flooding.join().unwrap();
    let calls = beside.len();
    let [alone, beside] = [alone, beside].map(slowest_of_a_hundred);
    let slower = beside.as_secs_f64() / alone.as_secs_f64();
    eprintln!(
        "{name}: p99 {alone:.1?} alone, {beside:.1?} beside ({slower:.1} times) in {calls} calls; {} KiB more",
        most.saturating_sub(before) / 1024
    );
    assert!(slower < SLOWER_MAX, "{name}: {slower} times slower");
    assert!(most < before + MEMORY_MORE_MAX, "{name}: from {before} to {most} bytes");
    world.ask(&process.connect().await).await.unwrap();
    flooded
}

async fn timed(world: &World, client: &Channel) -> Duration {
    let start = Instant::now();
    world.ask(client).await.unwrap();
    start.elapsed()
}

fn slowest_of_a_hundred(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test]
async fn floods_that_cost_more_than_they_send_are_told_to_go() {
    let floods: [(&str, Round); 4] = [
        ("rapid reset", rapid_reset),
        ("endless headers", endless_headers),
        ("empty data", empty_data),
        ("made you reset", made_you_reset),
    ];
    for (name, round) in floods {
        let flooded = beside_a_client(name, round).await;
        assert!(
            flooded.cut && flooded.told_to_go,
            "{name}: cut {}, told {}",
            flooded.cut,
            flooded.told_to_go
        );
    }
}

#[tokio::test]
async fn floods_that_cost_what_they_send_keep_nobody_from_working() {
    let floods: [(&str, Round); 2] = [("pings", pings), ("settings", settings)];
    for (name, round) in floods {
        beside_a_client(name, round).await;
    }
}
