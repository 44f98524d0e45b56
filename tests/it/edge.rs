//! The edge: what holds for every call, whatever it asks for.

use std::time::{Duration, Instant};

use prost::Message as _;
use threads_identity::proto::v1::BatchGetProfilesRequest;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use crate::harness::{Wishes, World, failed, metadata};
use crate::raw::{self, framed, methods};
use crate::shorthand::{NOBODY, account, until};

const GET_ACCOUNT: &str = "/threads.identity.v1.AccountService/GetAccount";
const BATCH: &str = "/threads.identity.v1.ProfileService/BatchGetProfiles";

#[tokio::test]
async fn every_answer_carries_a_request_id() {
    let world = World::start().await;
    world.fill("default", "many", 1).await;
    let body = || framed(&account(NOBODY, None).encode_to_vec());
    for id in ["abc", "A-1_2.3", &"x".repeat(64)] {
        let answer = world.raw("web", GET_ACCOUNT, &[("x-request-id", id)], body()).await;
        assert_eq!(answer.header("x-request-id"), id);
    }
    for id in ["", "a b", "a\"b", "a,b", "{}", "a/b", &"x".repeat(65)] {
        let answer = world.raw("web", GET_ACCOUNT, &[("x-request-id", id)], body()).await;
        let new = answer.header("x-request-id");
        assert!(new != id && new.len() == 32, "{new:?} in place of {id:?}");
    }
    let mut paths = methods();
    paths.extend(["/nobody.Knows/This".to_owned(), "/grpc.health.v1.Health/Check".to_owned()]);
    for path in paths {
        for caller in ["web", "only-erase"] {
            let answer = world.raw(caller, &path, &[("x-request-id", "mine")], framed(b"")).await;
            assert_eq!(answer.header("x-request-id"), "mine", "{path}");
        }
        let answer = raw::call(world.grpc, &path, &[("x-request-id", "mine")], framed(b"")).await;
        assert_eq!(answer.header("x-request-id"), "mine", "{path}");
    }
}

#[tokio::test]
async fn an_internal_error_names_the_request_and_nothing_else() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world
        .meddle("update accounts set state = 'REAUTHORIZATION_REQUIRED', state_reason = 'SIMSECRET nonsense'")
        .await;
    let body = framed(&account(&id, None).encode_to_vec());
    for given in ["", "given-by-the-caller"] {
        let answer = world.raw("web", GET_ACCOUNT, &[("x-request-id", given)], body.clone()).await;
        let status = answer.result().unwrap_err();
        assert!(!format!("{status:?}").contains("nonsense"), "{status:?}");
        let details = failed::<()>(Err(status), Code::Internal, "INTERNAL");
        assert_eq!(metadata(&details)["request_id"], answer.header("x-request-id"));
        assert_eq!(metadata(&details).len(), 1);
        assert!(given.is_empty() || answer.header("x-request-id") == given);
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_as_such() {
    let world = World::start().await;
    let cut_off = {
        let mut frame = framed(&account(NOBODY, None).encode_to_vec());
        frame.truncate(20);
        frame
    };
    for method in methods() {
        for body in [
            framed(&[0xff; 3]),
            framed(&[0x0a]),
            framed(&[0x0a, 0x7f, 0x61]),
            framed(&[0xff; 11]),
            framed(&[0x07]),
            cut_off.clone(),
            vec![1, 0, 0, 0, 0],
            vec![2, 0, 0, 0, 0],
            vec![0, 0, 0],
            Vec::new(),
        ] {
            let answer = world.raw("web", &method, &[], body.clone()).await;
            let status = answer.result().unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{method} {body:?} {status:?}");
            failed::<()>(Err(status), Code::InvalidArgument, "REQUEST_MALFORMED");
        }
    }
    // A string that is not UTF-8.
    let answer = world.raw("web", GET_ACCOUNT, &[], framed(&[0x0a, 0x02, 0xc3, 0x28])).await;
    failed(answer.result(), Code::InvalidArgument, "REQUEST_MALFORMED");
    // A field that nobody knows is none of our business.
    let answer = world.raw("web", GET_ACCOUNT, &[], framed(&[0xfa, 0x3f, 0x01, 0x61])).await;
    failed(answer.result(), Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test]
async fn a_compressed_request_is_refused_with_a_reason() {
    let world = World::start().await;
    for encoding in ["gzip", "zstd", "deflate", "br", "nonsense"] {
        let body = vec![1, 0, 0, 0, 3, 0x1f, 0x8b, 0x08];
        let answer = world.raw("web", GET_ACCOUNT, &[("grpc-encoding", encoding)], body).await;
        failed(answer.result(), Code::InvalidArgument, "REQUEST_MALFORMED");
    }
    let body = framed(&account(NOBODY, None).encode_to_vec());
    for (name, value) in [("grpc-encoding", "identity"), ("grpc-accept-encoding", "gzip,zstd")] {
        let answer = world.raw("web", GET_ACCOUNT, &[(name, value)], body.clone()).await;
        failed(answer.result(), Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_request_may_be_large_but_not_larger() {
    let world = World::start().await;
    let sized = |bytes: usize| {
        let mut message = BatchGetProfilesRequest { account_ids: vec![String::new()], user_id: None };
        message.account_ids[0] = "x".repeat(bytes - message.encoded_len() - 2);
        framed(&message.encode_to_vec())
    };
    let answer = world.raw("web", BATCH, &[], sized(64 * 1024 - 2)).await;
    failed(answer.result(), Code::InvalidArgument, "FIELD_INVALID");
    for bytes in [64 * 1024 + 8, 1024 * 1024, 5 * 1024 * 1024] {
        let answer = world.raw("web", BATCH, &[], sized(bytes)).await;
        failed(answer.result(), Code::ResourceExhausted, "REQUEST_TOO_LARGE");
    }
    // The length alone is enough, and nothing is set aside for it.
    let answer = world.raw("web", BATCH, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await;
    failed(answer.result(), Code::ResourceExhausted, "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn what_does_not_exist_is_said_not_to() {
    let world = World::start().await;
    for path in [
        "/nobody.Knows/This",
        "/",
        "/threads.identity.v1.AccountService/",
        "/threads.identity.v1.AccountService/GetAccounts",
        "/threads.identity.v1.AccountService/getaccount",
        "/threads.identity.v2.AccountService/GetAccount",
        "/threads.identity.v1.EventService/WatchAccounts",
    ] {
        let answer = world.raw("web", path, &[], framed(b"")).await;
        failed(answer.result(), Code::Unimplemented, "METHOD_UNKNOWN");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_says_so_itself() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let body = framed(&account(&id, None).encode_to_vec());
    for timeout in ["200m", "200000u", "1n", "0S"] {
        let mut sql = world.sql().await;
        sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
        let start = Instant::now();
        let answer = world.raw("web", GET_ACCOUNT, &[("grpc-timeout", timeout)], body.clone()).await;
        failed(answer.result(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert!(start.elapsed() < Duration::from_secs(10));
        sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
        until("the row can be read again", async || world.account(&id).await.is_ok()).await;
    }
    // What is not a timeout by the protocol is ignored.
    for timeout in ["", "S", "-1S", "1", "5x", "999999999S"] {
        let answer = world.raw("web", GET_ACCOUNT, &[("grpc-timeout", timeout)], body.clone()).await;
        assert!(answer.result().is_ok(), "{timeout:?}: {:?}", answer.result());
    }
}

#[tokio::test]
async fn a_table_that_is_locked_is_a_database_that_is_unavailable() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
    let (read, fetched, unlinked) =
        tokio::join!(world.account(&id), world.token(crate::shorthand::token(&id, "user-1")), async {
            world.accounts("web").unlink_account(crate::shorthand::unlink(&id, "user-1")).await
        },);
    failed(read, Code::Unavailable, "STORAGE_UNAVAILABLE");
    failed(fetched, Code::Unavailable, "STORAGE_UNAVAILABLE");
    failed(unlinked, Code::Unavailable, "STORAGE_UNAVAILABLE");
    sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    assert!(world.account(&id).await.is_ok());
}

#[tokio::test]
async fn calls_that_are_given_up_are_not_counted_as_going_on() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
    const IN_FLIGHT: &str = "threads_identity_calls_in_flight";
    {
        let calls = futures_util::future::join_all((0..5).map(|_| world.account(&id)));
        tokio::select! {
            _ = calls => panic!("nothing can be read"),
            () = until("five calls wait", async || world.metric(IN_FLIGHT).await > 4.5) => {}
        }
    }
    until("none waits any more", async || world.metric(IN_FLIGHT).await < 0.5).await;
}

#[tokio::test]
async fn metrics_can_be_read_and_tell_no_secret() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.token(crate::shorthand::token(&id, "user-1")).await.unwrap();
    let _ = world.raw("web", "/nobody.Knows/This", &[], framed(b"")).await;
    let _ = raw::call(world.grpc, GET_ACCOUNT, &[("authorization", "Bearer nobody")], framed(b"")).await;
    let answer = reqwest::get(format!("http://{}/metrics", world.ops)).await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("threads_identity_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for reason in ["OK", "METHOD_UNKNOWN", "CALLER_UNKNOWN"] {
        assert!(text.contains(&format!("reason=\"{reason}\"")), "{reason} in {text}");
    }
    for secret in ["user-1", "maya", "17841405793187219", "SIMSECRET", "tidkey_", "nobody", id.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn reflection_tells_of_every_service_under_both_its_names() {
    use tonic_reflection::pb::{v1, v1alpha};
    let world = World::start().await;
    let expected: std::collections::BTreeSet<String> =
        methods().iter().map(|path| path[1..].split('/').next().unwrap().to_owned()).collect();

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(world.channel_of("only-erase"));
    let stream = Request::new(tokio_stream::once(request));
    let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!()
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "threads.identity.v1.AccountService".to_owned(),
        )),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(world.channel_of("only-erase"));
    let stream = Request::new(tokio_stream::once(request));
    let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(
        answer,
        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
    ));
}

#[tokio::test]
async fn reflection_can_be_off() {
    let world = World::with(Wishes { config: "[server]\nreflection = false\n", ..Wishes::default() }).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        failed(
            world.raw("web", &path, &[], framed(b"")).await.result(),
            Code::Unimplemented,
            "METHOD_UNKNOWN",
        );
    }
}
