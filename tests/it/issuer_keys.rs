//! The keys of issuers: when they are read, and what happens when they cannot be.

use std::time::Instant;

use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use tonic::{Code, Request};

use crate::harness::{START, Wishes, World, failed};
use crate::issuer::{Issuer, Key, encode};
use crate::shorthand::{NOBODY, account, until};

/// A world that trusts an issuer.
async fn trusting(issuer: &Issuer, more: &str) -> World {
    let config = issuer.lines(more) + &issuer.caller("by-token");
    World::with(Wishes { config: config.leak(), ..Wishes::default() }).await
}

impl World {
    async fn reads_of(&self, issuer: &Issuer, result: &str) -> f64 {
        let labels = format!("{{issuer=\"{}\",result=\"{result}\"}}", issuer.url);
        self.metric(&format!("threads_identity_issuer_reads_total{labels}")).await
    }
}

#[tokio::test]
async fn ten_thousand_unknown_keys_cause_no_more_than_a_read_in_thirty_seconds() {
    const CALLS: usize = 10_000;
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let world = trusting(&issuer, "").await;
    until("the keys have been read", async || issuer.reads() > 0).await;
    let begun = Instant::now();
    let client = AccountServiceClient::new(world.connect().await);
    let good = key.token(&issuer.claims());
    let mut calls = stream::iter(0..CALLS)
        .map(|n| {
            let mut client = client.clone();
            let is_good = n % 100 == 0;
            let header = json!({ "alg": "ES256", "kid": format!("unknown-{n}") }).to_string();
            let claims = issuer.claims().to_string();
            let bad = format!("{}.{}.{}", encode(header), encode(claims), encode([7; 64]));
            let mut request = Request::new(account(NOBODY, None));
            let value = format!("Bearer {}", if is_good { &good } else { &bad });
            request.metadata_mut().insert("authorization", value.parse().unwrap());
            async move { (is_good, client.get_account(request).await) }
        })
        .buffer_unordered(64);
    while let Some((is_good, result)) = calls.next().await {
        if is_good {
            failed(result, Code::NotFound, "ACCOUNT_NOT_FOUND");
        } else {
            failed(result, Code::Unauthenticated, "CALLER_UNKNOWN");
        }
    }
    let most = 1 + 1 + usize::try_from(begun.elapsed().as_secs()).unwrap() / 30;
    assert!(issuer.reads() <= most, "{} reads in {:?}", issuer.reads(), begun.elapsed());
    assert_eq!(world.refusals("token_key_unknown").await, (CALLS - CALLS / 100) as i64);
}

#[tokio::test]
async fn a_new_key_opens_as_soon_as_it_is_used() {
    let (old, new) = (Key::ec("old"), Key::ed("new"));
    let issuer = Issuer::start(START.unix_timestamp(), &[&old]).await;
    let world = trusting(&issuer, "retry_interval = \"1ms\"").await;
    assert!(world.lets_in(&old.token(&issuer.claims())).await);
    issuer.publish(&[&old, &new]);
    // Many ask at once, and it is read for all of them.
    let before = issuer.reads();
    let token = new.token(&issuer.claims());
    let calls = (0..20).map(|_| world.lets_in(&token));
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|is_in| is_in));
    assert!(issuer.reads() <= before + 2, "{} reads", issuer.reads() - before);
    assert!(world.lets_in(&old.token(&issuer.claims())).await);
}

#[tokio::test]
async fn the_first_calls_wait_for_the_keys() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let world = trusting(&issuer, "").await;
    assert!(world.lets_in(&key.token(&issuer.claims())).await);
    assert_eq!(issuer.reads(), 1);
}

#[tokio::test]
async fn a_key_that_is_taken_out_opens_nothing_soon_after() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let issuer = Issuer::start(START.unix_timestamp(), &[&old, &new]).await;
    let world = trusting(&issuer, "refresh_interval = \"50ms\"\nretry_interval = \"10ms\"").await;
    let (by_old, by_new) = (old.token(&issuer.claims()), new.token(&issuer.claims()));
    assert!(world.lets_in(&by_old).await && world.lets_in(&by_new).await);
    issuer.publish(&[&new]);
    until("the old key is gone", async || !world.lets_in(&by_old).await).await;
    for _ in 0..20 {
        assert!(world.lets_in(&by_new).await);
    }
}

#[tokio::test]
async fn while_keys_cannot_be_read_known_ones_work_and_unknown_ones_do_not() {
    let (known, unknown) = (Key::ec("known"), Key::ec("unknown"));
    let issuer = Issuer::start(START.unix_timestamp(), &[&known]).await;
    let world = trusting(&issuer, "refresh_interval = \"20ms\"\nretry_interval = \"20ms\"").await;
    assert!(world.lets_in(&known.token(&issuer.claims())).await);
    let far = issuer.claims_but(&json!({ "exp": START.unix_timestamp() + 301 }));
    let breakages: [&dyn Fn(); 5] = [
        &|| issuer.break_down(),
        &|| issuer.redirect("/jwks"),
        &|| issuer.answer_hugely(),
        &|| issuer.publish_text("<html>not found</html>"),
        &|| issuer.publish(&[]),
    ];
    for (n, breakage) in breakages.into_iter().enumerate() {
        breakage();
        let failed = world.reads_of(&issuer, "failed").await;
        until("reads fail", async || world.reads_of(&issuer, "failed").await >= failed + 3.0).await;
        // A token that is not in memory, and one that is.
        let fresh = issuer.claims_but(&json!({ "jti": n.to_string() }));
        assert!(world.lets_in(&known.token(&fresh)).await, "{n}");
        assert!(world.lets_in(&known.token(&far)).await, "{n}");
        world.refuses(&unknown.token(&far), "token_key_unknown", "an unknown key").await;
        issuer.publish(&[&known]);
        let good = world.reads_of(&issuer, "ok").await;
        until("reads go well", async || world.reads_of(&issuer, "ok").await > good).await;
    }
    issuer.publish(&[&known, &unknown]);
    until("the other key is read", async || world.lets_in(&unknown.token(&far)).await).await;
}

#[tokio::test]
async fn keys_that_could_not_be_read_for_too_long_open_nothing() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let more = "refresh_interval = \"300ms\"\nretry_interval = \"10ms\"\nstale_max = \"2s\"";
    let world = trusting(&issuer, more).await;
    let token = key.token(&issuer.claims());
    until("the token opens", async || world.lets_in(&token).await).await;
    issuer.break_down();
    until("the keys are too old", async || !world.lets_in(&token).await).await;
    world.refuses(&token, "token_keys_unavailable", "keys too old").await;
    // Keys of callers have nothing to do with it.
    assert!(world.lets_in(world.key("web")).await);
    issuer.publish(&[&key]);
    until("the token opens again", async || world.lets_in(&token).await).await;
}

#[tokio::test]
async fn an_issuer_that_is_away_from_the_beginning_keeps_nobody_else_out() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    issuer.break_down();
    let world = trusting(&issuer, "retry_interval = \"50ms\"").await;
    let token = key.token(&issuer.claims());
    assert!(world.lets_in(world.key("web")).await);
    world.refuses(&token, "token_keys_unavailable", "no keys yet").await;
    issuer.publish(&[&key]);
    until("the token opens", async || world.lets_in(&token).await).await;
}

#[tokio::test]
async fn keys_may_stand_in_a_file_that_changes() {
    let (old, new) = (Key::ec("old"), Key::ed("new"));
    let path = std::env::temp_dir().join(format!("threads-identity-jwks-{}.json", std::process::id()));
    let set =
        |keys: &[&Key]| json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string();
    std::fs::write(&path, set(&[&old])).unwrap();
    let issuer = Issuer::start(START.unix_timestamp(), &[]).await;
    let lines = issuer.lines("refresh_interval = \"20ms\"\nretry_interval = \"20ms\"");
    let file = format!("jwks_file = \"{}\"", path.display());
    let config =
        lines.replace(&format!("jwks_url = \"{}/jwks\"", issuer.url), &file) + &issuer.caller("by-token");
    let world = World::with(Wishes { config: config.leak(), ..Wishes::default() }).await;
    assert!(world.lets_in(&old.token(&issuer.claims())).await);
    std::fs::write(&path, set(&[&new])).unwrap();
    until("the new key opens", async || world.lets_in(&new.token(&issuer.claims())).await).await;
    std::fs::remove_file(&path).unwrap();
    let failed = world.reads_of(&issuer, "failed").await;
    until("reads fail", async || world.reads_of(&issuer, "failed").await > failed).await;
    assert!(world.lets_in(&new.token(&issuer.claims_but(&json!({ "jti": "x" })))).await);
    assert!(!world.lets_in(&old.token(&issuer.claims())).await);
    assert_eq!(issuer.reads(), 0);
}
