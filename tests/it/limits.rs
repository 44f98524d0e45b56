//! What is turned away: too many calls at once, callers who call too often, calls
//! that have no time left, and who counts as one peer.

use std::time::{Duration, Instant};

use prost::Message as _;
use reqwest::StatusCode;
use threads_identity::grpc::new_caller_key;
use threads_identity::proto::v1::CompleteAuthorizationRequest;
use threads_identity::simulator::{Endpoint, Fault};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::callback::fetch;
use crate::harness::{Wishes, World, completion, failed};
use crate::raw::{self, framed, methods};
use crate::shorthand::{NOBODY, account, fresh_profile, until};

const GET_ACCOUNT: &str = "/threads.identity.v1.AccountService/GetAccount";
const COMPLETE: &str = "/threads.identity.v1.AuthorizationService/CompleteAuthorization";

#[tokio::test]
async fn a_call_too_many_is_turned_away_at_once_and_before_the_database() {
    let config = "[limits]\ncalls_max = 3\ncalls_per_caller_max = 30\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let mut ids = Vec::new();
    for persona in ["full", "elsewhere", "pictured"] {
        ids.push(world.linked(&format!("user-{persona}"), persona).await.account_id);
    }
    let before = world.controls.count(Endpoint::Me);
    for _ in &ids {
        world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_secs(4)));
    }
    let held = futures_util::future::join_all(ids.iter().map(|id| world.profile(fresh_profile(id, 0))));
    let meanwhile = async {
        world.controls.received(Endpoint::Me, before + 3).await;
        // The database would let nobody in: whoever is turned away does not ask it.
        let mut sql = world.sql().await;
        sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
        let start = Instant::now();
        for _ in 0..20 {
            let details = failed(world.account(&ids[0]).await, Code::Unavailable, "OVERLOADED");
            assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        }
        let took = start.elapsed();
        sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
        // Neither health nor watches are counted.
        let mut health = HealthClient::new(world.connect().await);
        health.check(HealthCheckRequest::default()).await.unwrap();
        let (mut watch, _) = world.watch().await;
        world.emit(&ids, "TOKEN_REFRESHED").await;
        watch.change().await;
        took
    };
    let (held, took) = tokio::join!(held, meanwhile);
    assert!(took < Duration::from_secs(3), "twenty refusals took {took:?}");
    for answered in held {
        answered.unwrap();
    }
    assert!(world.metric("threads_identity_calls_shed_total").await > 19.5);
    world.account(&ids[0]).await.unwrap();
}

/// A call whose message never comes, and how it ends.
async fn without_a_message(grpc: std::net::SocketAddr, path: &str, key: Option<&str>) -> tonic::Status {
    let socket = tokio::net::TcpStream::connect(grpc).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let mut request = http::Request::post(format!("http://{grpc}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let call = async {
        let (answer, _stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let answer = answer.await.unwrap();
        tonic::Status::from_header_map(answer.headers()).expect("a status at once")
    };
    tokio::select! {
        status = call => status,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

#[tokio::test]
async fn calls_without_a_message_take_up_nothing_of_others() {
    let config = "[limits]\ncalls_max = 8\ncalls_per_caller_max = 6\nrequest_timeout = \"6s\"\ndeadline_max = \"2m\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let id = world.linked("user-1", "full").await.account_id;
    let start = Instant::now();
    let held = (0..6).map(|_| without_a_message(world.grpc, GET_ACCOUNT, Some(world.key("second"))));
    let held = futures_util::future::join_all(held);
    let meanwhile = async {
        let one_more =
            || world.raw("second", GET_ACCOUNT, &[], framed(&account(NOBODY, None).encode_to_vec()));
        until("all are held", async || world.metric("threads_identity_calls_in_flight").await > 5.5).await;
        // The same caller gets no more ...
        let details = failed(one_more().await.result(), Code::ResourceExhausted, "CALLER_RATE_LIMITED");
        assert!(details.retry_info().is_some());
        // ... and another, of another app, all that there is.
        let others = (0..6).map(|_| world.account(&id));
        for answered in futures_util::future::join_all(others).await {
            answered.unwrap();
        }
    };
    let (held, ()) = tokio::join!(held, meanwhile);
    for status in held {
        failed::<()>(Err(status), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    assert!(start.elapsed() < Duration::from_mins(1), "not for as long as a call may take");
    let again = world.raw("second", GET_ACCOUNT, &[], framed(&account(NOBODY, None).encode_to_vec())).await;
    failed(again.result(), Code::NotFound, "ACCOUNT_NOT_FOUND");

    // Nor do strangers hold anything up by asking for health by halves.
    let start = Instant::now();
    let status = without_a_message(world.grpc, "/grpc.health.v1.Health/Check", None).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn a_caller_who_calls_too_often_is_told_when_to_come_back_and_others_are_not() {
    let config = "[limits]\ncaller_rate = 1\ncaller_burst = 20\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let mut answered = 0;
    let details = loop {
        let result =
            world.raw("web", GET_ACCOUNT, &[], framed(&account(NOBODY, None).encode_to_vec())).await.result();
        if result.as_ref().unwrap_err().code() == Code::ResourceExhausted {
            break failed(result, Code::ResourceExhausted, "CALLER_RATE_LIMITED");
        }
        failed(result, Code::NotFound, "ACCOUNT_NOT_FOUND");
        answered += 1;
        assert!(answered < 1000, "there is no limit");
    };
    assert!(answered >= 20, "the burst is {answered}");
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    failed(
        world.accounts("only-read").get_account(account(NOBODY, None)).await,
        Code::NotFound,
        "ACCOUNT_NOT_FOUND",
    );
    tokio::time::sleep(wait + Duration::from_millis(50)).await;
    failed(world.account(NOBODY).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let metric = "threads_identity_calls_rate_limited_total{caller=\"web\"}";
    assert!(world.metric(metric).await > 0.5);
}

#[tokio::test]
async fn a_caller_may_have_a_rate_of_its_own() {
    let (key, hash) = new_caller_key();
    let text = format!(
        "[limits]\ncaller_rate = 1000\n[[callers]]\nname = \"slow\"\napp = \"default\"\nroles = [\"read\"]\n\
         rate = 1\nburst = 2\nkey_sha256 = [\"{hash}\"]\n"
    );
    let world = World::with(Wishes { config: text.leak(), ..Wishes::default() }).await;
    let bearer = format!("Bearer {key}");
    let mut codes = Vec::new();
    for _ in 0..50 {
        let body = framed(&account(NOBODY, None).encode_to_vec());
        let answer = raw::call(world.grpc, GET_ACCOUNT, &[("authorization", &bearer)], body).await;
        codes.push(answer.result().unwrap_err().code());
    }
    assert_eq!(codes[..2], [Code::NotFound, Code::NotFound]);
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    for _ in 0..50 {
        failed(world.account(NOBODY).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_call_with_no_time_left_begins_nothing() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let body = framed(&completion(&callback_url, "user-1").encode_to_vec());
    for timeout in ["0n", "0S", "1n", "1u", "1m", "5m"] {
        for method in methods() {
            let answer = world.raw("web", &method, &[("grpc-timeout", timeout)], framed(b"")).await;
            failed(answer.result(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        }
        let answer = world.raw("web", COMPLETE, &[("grpc-timeout", timeout)], body.clone()).await;
        failed(answer.result(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0, "the code is unspent");
    assert_eq!(world.counted("select count(*) from authorizations").await, 0);
    // Whatever little time there is, the answer is one of the two, and repeating it ends well.
    for timeout in ["6m", "10m", "20m", "50m"] {
        let answer = world.raw("web", COMPLETE, &[("grpc-timeout", timeout)], body.clone()).await;
        if let Err(status) = answer.result() {
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Aborted), "{status:?}");
        }
    }
    let request = CompleteAuthorizationRequest::decode(&body[5..]).unwrap();
    let account = loop {
        match world.complete_as("web", request.clone()).await {
            Ok(done) => break done.account.unwrap(),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    assert_eq!(account.user_id, "user-1");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test]
async fn a_deadline_is_ours_where_the_caller_has_none_or_one_too_long() {
    let config =
        "[limits]\ndeadline = \"300ms\"\ndeadline_max = \"600ms\"\nprovider_deadline_max = \"30s\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let id = world.linked("user-1", "full").await.account_id;
    let body = framed(&fresh_profile(&id, 0).encode_to_vec());
    const GET_PROFILE: &str = "/threads.identity.v1.ProfileService/GetProfile";
    for timeout in [None, Some("99999999H"), Some("20S")] {
        world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_secs(8)));
        let headers: Vec<(&str, &str)> =
            timeout.map(|timeout| ("grpc-timeout", timeout)).into_iter().collect();
        let start = Instant::now();
        let answer = world.raw("web", GET_PROFILE, &headers, body.clone()).await;
        failed(answer.result(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert!(start.elapsed() < Duration::from_secs(7), "Threads was waited for");
        // The reading that had begun is shared by whoever comes now.
        until("it has ended", async || world.metric("threads_identity_calls_in_flight").await < 0.5).await;
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_person_is_a_peer_and_in_ipv6_each_network_is() {
    let config = "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"2001:db8:ffff::1\"]\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let look = async |forwarded: &str| {
        let path = "/threads/data-deletion/none";
        fetch(&world, reqwest::Method::GET, path, &[("x-forwarded-for", forwarded)]).await.status
    };
    for n in 0..150 {
        // What stands before the last address that is not ours is anybody's invention.
        let forwarded = format!("9.9.9.9, 192.0.2.{n}, 2001:db8:ffff::1");
        assert_eq!(look(&forwarded).await, StatusCode::NOT_FOUND, "{forwarded}");
    }
    let mut limited = 0;
    for n in 0..150 {
        limited +=
            usize::from(look(&format!("1.2.3.{n}, 2001:db8::{n:x}")).await == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(limited > 0, "a hundred and fifty addresses of one network have shared nothing");
    assert_eq!(look("2001:db8:0:1::1").await, StatusCode::NOT_FOUND, "another network is another");
}
