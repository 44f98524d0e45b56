//! What Threads' answers say: ids, lifetimes, waits, and an address where
//! nobody listens.

use std::time::Duration;

use threads_identity::simulator::{Endpoint, Envelope, ExpiresIn, Fault, UserId};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::harness::{START, Wishes, World, failed, metadata};

#[tokio::test]
async fn no_digit_of_an_id_is_lost_however_it_is_written() {
    let world = World::start().await;
    for spelling in [UserId::Number, UserId::String, UserId::Absent] {
        world.controls.knobs(|knobs| knobs.user_id = spelling);
        for persona in ["full", "bare", "bigid", "emoji"] {
            let linked = world.link(&format!("user-{persona}"), persona).await.unwrap();
            let id = world.controls.persona(persona).unwrap().id;
            assert_eq!(linked.account.unwrap().threads_user_id, id);
            assert_eq!(linked.profile.unwrap().id, id);
        }
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 4);
}

#[tokio::test]
async fn answers_that_name_two_people_link_nobody() {
    let world = World::start().await;
    let conflict = async |user: &str| {
        let created = world.create(user).await;
        let callback_url = world.consent(&created, "full");
        let details =
            failed(world.complete(&callback_url, user).await, Code::Internal, "PROVIDER_IDENTITY_CONFLICT");
        assert!(!metadata(&details)["request_id"].is_empty());
        let asked = world.controls.ledger().len();
        failed(world.complete(&callback_url, user).await, Code::Internal, "PROVIDER_IDENTITY_CONFLICT");
        assert_eq!(world.controls.ledger().len(), asked);
    };
    // One digit apart, which a float would not tell.
    world.controls.knobs(|knobs| knobs.exchange_user_id = Some("17841405793187220".to_owned()));
    conflict("user-1").await;
    world.controls.knobs(|knobs| knobs.user_id = UserId::String);
    conflict("user-2").await;
    world.controls.knobs(|knobs| {
        knobs.exchange_user_id = None;
        knobs.me_id = Some("17841405793187218".to_owned());
    });
    conflict("user-3").await;
    assert_eq!(world.counted("select count(*) from accounts").await, 0);

    // Also where a linked account's answers do: the account stays as it is.
    world.controls.knobs(|knobs| knobs.me_id = None);
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    let token = world.token_of(&account).await;
    world.controls.knobs(|knobs| knobs.me_id = Some("17841405793187218".to_owned()));
    conflict("user-1").await;
    assert_eq!(world.token_of(&account).await, token);
}

#[tokio::test]
async fn a_token_lives_as_long_as_threads_says() {
    let world = World::start().await;
    for (said, seconds) in [
        (ExpiresIn::Real, 5_183_944),
        (ExpiresIn::Seconds(5_102_784), 5_102_784),
        (ExpiresIn::Text("5184000".to_owned()), 5_184_000),
        (ExpiresIn::Absent, 5_184_000),
        (ExpiresIn::Seconds(99_999_999_999), 5_184_000),
    ] {
        world.controls.knobs(|knobs| knobs.expires_in = said.clone());
        let account = world.link("user-1", "full").await.unwrap().account.unwrap();
        let expires = account.token_expire_time.unwrap().seconds - START.unix_timestamp();
        assert_eq!(expires, seconds, "{said:?}");
    }
    for said in [ExpiresIn::Seconds(0), ExpiresIn::Seconds(-1), ExpiresIn::Text("soon".to_owned())] {
        world.controls.knobs(|knobs| knobs.expires_in = said.clone());
        failed(world.link("user-2", "bare").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 1);
}

#[tokio::test]
async fn a_rate_limit_tells_how_long_threads_asks_to_wait() {
    let world = World::start().await;
    let usage =
        |minutes: &str| format!(r#"{{"1":[{{"type":"x","estimated_time_to_regain_access":{minutes}}}]}}"#);
    for (i, (headers, seconds)) in [
        (vec![], 60),
        (vec![("Retry-After", "120".to_owned())], 120),
        (vec![("Retry-After", "soon".to_owned())], 60),
        (vec![("Retry-After", "0".to_owned())], 60),
        (vec![("Retry-After", "99999999999".to_owned())], 86_400),
        (vec![("X-Business-Use-Case-Usage", usage("19"))], 19 * 60),
        (vec![("X-Business-Use-Case-Usage", usage("\"x\""))], 60),
        (vec![("X-Business-Use-Case-Usage", "{[".to_owned())], 60),
        (vec![("Retry-After", "30".to_owned()), ("X-Business-Use-Case-Usage", usage("2"))], 120),
        (vec![("X-App-Usage", r#"{"call_count":95}"#.to_owned())], 60),
    ]
    .into_iter()
    .enumerate()
    {
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        world.controls.knobs(|knobs| knobs.headers.clone_from(&headers));
        world.controls.throttle("full", 10);
        let refused = world.link(&format!("user-{i}"), "full").await;
        let details = failed(refused, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED");
        let wait = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(wait, Duration::from_secs(seconds), "{headers:?}");
        world.advance(Duration::from_secs(60));
    }
    // At the code exchange it is over: the code is refused and will be too old.
    world.controls.throttle_app("990602627938098", 3600);
    for envelope in [Envelope::Graph, Envelope::Flat] {
        world.controls.knobs(|knobs| {
            knobs.headers = vec![("Retry-After".to_owned(), "90".to_owned())];
            knobs.exchange_errors = envelope;
        });
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, "full");
        let limited = |answer| failed(answer, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED");
        let details = limited(world.complete(&callback_url, "user-1").await);
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(90)));
        let asked = world.controls.ledger().len();
        limited(world.complete(&callback_url, "user-1").await);
        assert_eq!(world.controls.ledger().len(), asked);

        // Until the wait is over nobody's code is even sent, and none is lost.
        let other = world.create("user-2").await;
        let other_url = world.consent(&other, "full");
        world.controls.throttle_app("990602627938098", 0);
        let details = limited(world.complete(&other_url, "user-2").await);
        assert!(!metadata(&details).contains_key("authorization_id"), "it has not ended");
        world.advance(Duration::from_secs(90));
        world.controls.knobs(|knobs| knobs.headers.clear());
        let linked = world.complete(&other_url, "user-2").await.unwrap().account.unwrap();
        world.unlink(&linked).await;
        world.controls.throttle_app("990602627938098", 3600);
    }
}

#[tokio::test]
async fn a_profile_that_the_short_lived_token_does_not_get_is_read_with_the_long_lived_one() {
    let world = World::start().await;
    let refusal = Fault::Graph {
        status: 400,
        code: 190,
        subcode: None,
        kind: "OAuthException".to_owned(),
        transient: None,
    };
    world.controls.fault_next(Endpoint::Me, refusal);
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    let tokens = world.controls.issued_tokens("full");
    let ledger = world.controls.ledger();
    let asked: Vec<_> = ledger
        .iter()
        .filter(|entry| entry.endpoint == Endpoint::Me)
        .map(|entry| entry.token.as_deref().unwrap())
        .collect();
    assert_eq!(asked, [tokens[0].as_str(), tokens[1].as_str()]);
    assert_eq!(world.token_of(&account).await, tokens[1]);
}

#[tokio::test]
async fn a_code_that_certainly_was_not_sent_may_be_sent_later() {
    // An address where nobody listens, until somebody does.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let app = format!("token_url = \"http://127.0.0.1:{port}/oauth/access_token\"\n");
    let world = World::with(Wishes { app: Box::leak(app.into_boxed_str()), ..Wishes::default() }).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    for _ in 0..2 {
        failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    }
    // It may be repeated even when the state has become too old to begin with.
    world.advance(Duration::from_secs(16 * 60));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let simulator = world.simulator_url().trim_start_matches("http://").to_owned();
    let forward = async {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = TcpStream::connect(&simulator).await.unwrap();
            tokio::io::copy_bidirectional(&mut from, &mut to).await.ok();
        }
    };
    let completed = tokio::select! {
        completed = world.complete(&callback_url, "user-1") => completed.unwrap(),
        () = forward => unreachable!(),
    };
    assert_eq!(completed.account.unwrap().user_id, "user-1");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}
