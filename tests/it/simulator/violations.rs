//! What a client must not do.

use std::time::Duration;

use futures_util::future::join_all;
use threads_identity::simulator::{Decision, Endpoint, Fault};

use super::{CLIENT_ID, SECRET, World, fresh_state, parameter};

#[tokio::test]
async fn every_misdeed_of_a_client_is_noted() {
    let world = World::start().await;
    let visit = |changes: &[(&str, Option<&str>)]| {
        let url = world.authorization_url(changes);
        // Some of these the window refuses; what counts is what is noted.
        world.controls.consent(&url, "full", Decision::Allow).ok();
    };
    visit(&[("code_challenge", Some("x"))]);
    world.bad("PKCE");
    visit(&[("client_secret", Some("x"))]);
    world.bad("secret is in the URL");
    visit(&[("state", None)]);
    world.bad("no state");
    visit(&[("state", Some("12345"))]);
    world.bad("less than 128 bits");
    visit(&[("scope", Some("threads_delete"))]);
    world.bad("threads_basic is not in scope");
    let state = fresh_state();
    visit(&[("state", Some(&state))]);
    visit(&[("state", Some(&state)), ("scope", Some("threads_basic,threads_delete"))]);
    world.bad("in two URLs");

    world.controls.clear_ledger();
    let url = world.authorization_url(&[]);
    for _ in 0..2 {
        let callback = world.controls.consent(&url, "full", Decision::Allow).unwrap();
        world.good();
        let code = parameter(&callback, "code").unwrap();
        assert_eq!(world.exchange(&[("code", &code)]).await.status(), 200);
    }
    world.bad("two codes of one state");

    let token = world.short("full").await;
    let query = [("access_token", token.as_str()), ("client_secret", SECRET)];
    world.http.get(world.url("/me")).query(&query).bearer_auth(&token).send().await.unwrap();
    world.bad("both in the header and in the parameters");
    world.bad("Me: the client secret was sent");
    reqwest::get(world.url("/me")).await.unwrap();
    world.bad("no User-Agent");
    world.exchange(&[("code_verifier", "x")]).await;
    world.bad("code exchange: PKCE");

    let secrets = format!("{:?} {:?}", world.controls.violations(), world.controls.ledger());
    assert!(!secrets.contains("SIMSECRET") && !secrets.contains(SECRET) && !secrets.contains(&state));
}

#[tokio::test]
async fn calls_under_way_when_the_platform_says_slow_down_do_not_count() {
    let world = World::start().await;
    let token = world.short("full").await;
    world.controls.throttle_app(CLIENT_ID, 60);
    // None of them has been answered when the last of them arrives.
    world.controls.fault_times(Endpoint::Me, 20, Fault::Delay(Duration::from_secs(1)));
    join_all((0..20).map(|_| world.me(&token))).await;
    world.good();
    for _ in 0..5 {
        world.me(&token).await;
    }
    world.good();
    world.me(&token).await;
    world.bad("slow down");
}

#[tokio::test]
async fn a_dead_token_may_come_back_once() {
    let world = World::start().await;
    let token = world.short("full").await;
    let kind = "OAuthException".to_owned();
    let spurious = Fault::Graph { status: 400, code: 190, subcode: None, kind, transient: None };
    world.controls.fault_next(Endpoint::Me, spurious);
    world.me(&token).await;
    assert_eq!(world.me(&token).await.status(), 200, "it was a false alarm");
    world.controls.revoke_app("full");
    world.me(&token).await;
    world.me(&token).await;
    world.good();
    world.me(&token).await;
    world.bad("came back after 190");
}
