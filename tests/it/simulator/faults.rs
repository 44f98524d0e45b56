//! Each fault as it is seen on the wire.

use std::time::{Duration, Instant};

use serde_json::Value;
use threads_identity::simulator::{Endpoint, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CLIENT_ID, REDIRECT, SECRET, World, error, json};

/// Sends one request by hand and returns every byte that comes back until the connection closes.
async fn raw(world: &World, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.simulator.address()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut bytes = Vec::new();
    // A reset is as good an end as any.
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection stays open");
    bytes
}

fn me_by_hand(token: &str) -> String {
    format!("GET /v1.0/me HTTP/1.1\r\nHost: sim\r\nUser-Agent: hand\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn a_cut_leaves_not_one_byte() {
    let world = World::start().await;
    let code = world.code("full");
    let form = format!(
        "client_id={CLIENT_ID}&client_secret={SECRET}&grant_type=authorization_code&redirect_uri={REDIRECT}&code={code}"
    );
    let request = format!(
        "POST /oauth/access_token HTTP/1.1\r\nHost: sim\r\nUser-Agent: hand\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    world.controls.fault_next(Endpoint::CodeExchange, Fault::CutBeforeRead);
    assert_eq!(raw(&world, &request).await, b"");
    assert_eq!(world.controls.issued_tokens("full").len(), 0, "it was not processed");
    world.controls.fault_next(Endpoint::CodeExchange, Fault::CutAfterRequest);
    assert_eq!(raw(&world, &request).await, b"");
    assert_eq!(world.controls.issued_tokens("full").len(), 1, "it was processed");
    assert_eq!(world.exchange(&[("code", &code)]).await.status(), 400);
    let entries = world.controls.ledger();
    let exchanges = entries.iter().filter(|entry| entry.endpoint == Endpoint::CodeExchange);
    let seen: Vec<_> = exchanges.map(|entry| (entry.fault, entry.status)).collect();
    assert_eq!(seen, [(Some("cut_before_read"), None), (Some("cut_after_request"), None), (None, Some(400))]);
}

#[tokio::test]
async fn a_cut_spares_the_other_connections() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::Me, Fault::CutAfterRequest);
    assert!(world.http.get(world.url("/me")).bearer_auth(&token).send().await.is_err());
    assert_eq!(world.me(&token).await.status(), 200);
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_holds() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::Me, Fault::Truncated);
    let answer = String::from_utf8(raw(&world, &me_by_hand(&token)).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"));
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    assert_eq!(body.len(), length / 2);
    world.controls.fault_next(Endpoint::Me, Fault::Truncated);
    assert!(world.me(&token).await.text().await.is_err());
}

#[tokio::test]
async fn a_huge_answer_keeps_coming() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::Me, Fault::Huge);
    let response = world.me(&token).await;
    assert_eq!(response.content_length(), None);
    assert!(response.bytes().await.unwrap().len() > 10 << 20);
}

#[tokio::test]
async fn a_dripping_answer_is_slow_and_ends_with_the_simulator() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::Me, Fault::SlowDrip);
    let mut response = world.me(&token).await;
    let start = Instant::now();
    let mut bytes = 0;
    while bytes < 20 {
        bytes += response.chunk().await.unwrap().unwrap().len();
    }
    assert!(start.elapsed() >= Duration::from_millis(50) && bytes < 30, "{bytes}");
    world.simulator.stop().await;
}

#[tokio::test]
async fn delays_and_hangs_keep_the_client_waiting() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(200)));
    let start = Instant::now();
    assert_eq!(world.me(&token).await.status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(200));

    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::HangBeforeAnswer);
    let hanging = tokio::time::timeout(Duration::from_millis(200), world.extend(&token)).await;
    assert!(hanging.is_err());
    world.controls.received(Endpoint::LongLivedExchange, 1).await;
    assert_eq!(world.controls.issued_tokens("full").len(), 2, "it was processed");

    world.controls.fault_next(Endpoint::Me, Fault::HangBeforeAnswer);
    let request = world.http.get(world.url("/me")).bearer_auth(&token).send();
    let (answer, ()) = tokio::join!(request, async {
        world.controls.received(Endpoint::Me, 2).await;
        world.simulator.stop().await;
    });
    assert!(answer.is_err(), "stopping cuts what would never be answered");
}

#[tokio::test]
async fn answers_can_be_replaced() {
    let world = World::start().await;
    let token = world.short("full").await;
    let next = |fault| world.controls.fault_next(Endpoint::Me, fault);

    let body = "{\"error\":\"scripted\"}".to_owned();
    next(Fault::Status { status: 429, content_type: "text/plain".to_owned(), body: body.clone() });
    let answer = world.me(&token).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (429, &"text/plain".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), body);

    let kind = "THApiException".to_owned();
    next(Fault::Graph { status: 400, code: 190, subcode: Some(460), kind: kind.clone(), transient: None });
    assert_eq!(error(world.me(&token).await).await, (400, 190, Some(460), kind.clone()));
    next(Fault::Graph { status: 500, code: 2, subcode: None, kind, transient: Some(true) });
    assert_eq!(json(world.me(&token).await).await["error"]["is_transient"], true);
    next(Fault::Flat { status: 400, message: "scripted".to_owned() });
    assert_eq!(json(world.me(&token).await).await["error_message"], "scripted");
}

#[tokio::test]
async fn answers_can_be_spoiled() {
    let world = World::start().await;
    let token = world.short("full").await;
    let next = |fault| world.controls.fault_next(Endpoint::Me, fault);
    for (fault, status) in [(Fault::Html200, 200), (Fault::Html502, 502)] {
        next(fault);
        let answer = world.me(&token).await;
        assert_eq!(answer.status(), status);
        assert!(answer.text().await.unwrap().starts_with("<!doctype html>"));
    }
    next(Fault::EmptyBody);
    let answer = world.me(&token).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, ""));
    next(Fault::GarbageJson);
    assert!(serde_json::from_str::<Value>(&world.me(&token).await.text().await.unwrap()).is_err());
    next(Fault::Redirect("http://127.0.0.1:1/".to_owned()));
    let answer = world.me(&token).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (302, &"http://127.0.0.1:1/".parse().unwrap())
    );
    next(Fault::Headers(vec![("x-app-usage".to_owned(), "not json".to_owned())]));
    let answer = world.me(&token).await;
    assert_eq!(answer.headers()["x-app-usage"], "not json");
    assert_eq!(json(answer).await["username"], "maya.sim");
}

#[tokio::test]
async fn answers_can_have_the_wrong_types() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::WrongTypes);
    let wrong = json(world.extend(&token).await).await;
    let expected = serde_json::json!({"access_token": 17, "token_type": 17, "expires_in": {}});
    assert_eq!(wrong, expected);
    assert_eq!(world.me(&token).await.status(), 200, "and then all is well again");
}

#[tokio::test]
async fn faults_are_used_up_in_order_and_can_be_cleared() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.fault_times(Endpoint::Me, 2, Fault::Html502);
    world.controls.fault_next(Endpoint::Me, Fault::Html200);
    world.controls.fault_next(Endpoint::Refresh, Fault::Html502);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = world.me(&token).await;
        seen.push((answer.status().as_u16(), answer.headers()["content-type"] == "text/html; charset=utf-8"));
    }
    assert_eq!(seen, [(502, true), (502, true), (200, true), (200, false)]);
    world.controls.clear_faults();
    assert_ne!(world.refresh(&token).await.status(), 502);
}
