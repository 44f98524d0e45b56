//! Health, and an end in order.

use std::time::Duration;

use threads_identity::simulator::{Endpoint, Fault};
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Wishes, World, failed};
use crate::shorthand::{fresh_profile, profile, until};

/// Long enough for anything that ends at all.
const AMPLE: Duration = Duration::from_secs(60);

async fn health(world: &World, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(world.connect().await);
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn health_is_serving_once_the_database_has_been_looked_at() {
    let world = World::start().await;
    for service in ["", "threads.identity.v1.AccountService", "threads.identity.v1.AccessTokenService"] {
        until("it serves", async || health(&world, service).await == ServingStatus::Serving).await;
    }
    let ready = reqwest::get(format!("http://{}/readyz", world.ops)).await.unwrap();
    assert_eq!((ready.status().as_u16(), ready.text().await.unwrap()), (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_what_comes_then_is_turned_away() {
    let mut world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.rename("full", "maya_new");
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(1500)));
    let mut client = world.profiles("web");
    let request = fresh_profile(&id, 0);
    let in_flight = async move { client.get_profile(request).await.unwrap().into_inner().profile.unwrap() };
    let (mut other, grpc) = (world.profiles("web"), world.grpc);
    let received = world.controls.clone();
    let stopping = async {
        received.received(Endpoint::Me, 2).await;
        world.begin_stop();
        until("new calls are turned away", async || match other.get_profile(profile(&id, None)).await {
            Ok(_) => false,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                // From the server itself where the connection still carries it.
                if !status.details().is_empty() {
                    failed::<()>(Err(status), Code::Unavailable, "SHUTTING_DOWN");
                }
                true
            }
        })
        .await;
        until("new connections are refused", async || tokio::net::TcpStream::connect(grpc).await.is_err())
            .await;
    };
    let (finished, ()) = tokio::join!(in_flight, stopping);
    assert_eq!(finished.profile.unwrap().username.as_deref(), Some("maya_new"));
    timeout(AMPLE, world.stop()).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn an_open_health_watch_hears_of_the_end_and_does_not_keep_it_off() {
    let config = "[server]\ndrain_timeout = \"500ms\"\n";
    let mut world = World::with(Wishes { config, ..Wishes::default() }).await;
    until("it serves", async || health(&world, "").await == ServingStatus::Serving).await;
    let mut client = HealthClient::new(world.connect().await);
    let mut watch = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let ready = reqwest::get(format!("http://{}/readyz", world.ops)).await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
    let (stopped, heard) = tokio::join!(timeout(AMPLE, world.stop()), watch.message());
    stopped.expect("it ends").unwrap();
    assert_eq!(heard.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn a_call_that_outlives_the_drain_time_does_not_keep_the_end_off() {
    let config = "[server]\ndrain_timeout = \"300ms\"\n";
    let mut world = World::with(Wishes { config, ..Wishes::default() }).await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.fault_next(Endpoint::Me, Fault::HangBeforeAnswer);
    let mut client = world.profiles("web");
    let hanging = client.get_profile(fresh_profile(&id, 0));
    let controls = world.controls.clone();
    tokio::select! {
        _ = hanging => panic!("Threads never answers"),
        () = async {
            controls.received(Endpoint::Me, 2).await;
            timeout(AMPLE, world.stop()).await.expect("it ends").unwrap();
        } => {}
    }
}

#[tokio::test]
async fn a_service_can_be_stopped_at_once_and_another_takes_over() {
    let mut world = World::start().await;
    timeout(AMPLE, world.stop()).await.expect("it ends").unwrap();
    let replica = world.replica().await;
    assert!(replica.linked("user-1", "full").await.token_expire_time.is_some());
}

#[tokio::test]
async fn nothing_that_is_silent_holds_up_the_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let config =
        "[server]\ndrain_timeout = \"28s\"\nhandshake_timeout = \"5m\"\nhttp_idle_timeout = \"5m\"\n";
    let mut world = World::with(Wishes { config, ..Wishes::default() }).await;
    until("it serves", async || health(&world, "").await == ServingStatus::Serving).await;
    // Nothing at all; half a beginning of HTTP/2; a whole one whose client never reads,
    // and so never takes note of the end.
    let mut silent = vec![tokio::net::TcpStream::connect(world.grpc).await.unwrap()];
    for begun in ["PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut stream = tokio::net::TcpStream::connect(world.grpc).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    // The same of HTTP/1: nothing, half a head, and one that stays after its answer.
    silent.push(tokio::net::TcpStream::connect(world.http).await.unwrap());
    let mut stream = tokio::net::TcpStream::connect(world.http).await.unwrap();
    stream.write_all(b"GET /api/auth HTTP/1.1\r\nHost: ").await.unwrap();
    silent.push(stream);
    let mut stream = tokio::net::TcpStream::connect(world.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    silent.push(stream);
    // And streams that have no end of their own.
    let mut client = HealthClient::new(world.connect().await);
    let mut watch = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    until("they are all taken", async || {
        let open = |listener: &str| format!("threads_identity_connections_open{{listener=\"{listener}\"}}");
        world.metric(&open("grpc")).await > 4.5 && world.metric(&open("http")).await > 2.5
    })
    .await;
    let start = std::time::Instant::now();
    let (stopped, last) = tokio::join!(timeout(AMPLE, world.stop()), async {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        watch.message().await
    });
    stopped.expect("it ends").unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "the end took {took:?} of the 28 s that are for calls in flight");
    failed(last, Code::Unavailable, "SHUTTING_DOWN");
}
