//! What time does to tokens, grants and throttles.

use threads_identity::simulator::{OldToken, RefreshAnswers};

use super::{CLIENT_ID, DAY, START, World, error, json, text};

#[tokio::test]
async fn tokens_die_by_time() {
    let world = World::start().await;
    let expired = (400, 190, Some(463), "OAuthException".to_owned());
    let short = world.short("full").await;
    let long = world.long("full").await;
    world.controls.advance(3_599);
    assert_eq!(world.me(&short).await.status(), 200);
    world.controls.advance(1);
    assert_eq!(error(world.me(&short).await).await, expired);
    assert_eq!(error(world.extend(&short).await).await, expired);
    world.controls.set_time(START + 5_183_943);
    assert_eq!(world.me(&long).await.status(), 200);
    world.controls.set_time(START + 5_183_944);
    assert_eq!(error(world.refresh(&long).await).await, expired);
    world.controls.knobs(|knobs| knobs.dead_token_status = 401);
    assert_eq!(world.me(&long).await.status(), 401);
}

#[tokio::test]
async fn a_refresh_needs_a_day_and_a_grant() {
    let world = World::start().await;
    let long = world.long("full").await;
    world.controls.advance(DAY - 1);
    assert_eq!(error(world.refresh(&long).await).await.1, 100);
    world.bad("s old");
    world.controls.clear_ledger();
    world.controls.advance(1);
    world.controls.knobs(|knobs| knobs.old_token = OldToken::Revoked);
    let second = text(&json(world.refresh(&long).await).await, "access_token");
    assert_eq!(error(world.me(&long).await).await.1, 190);
    world.controls.advance(DAY);
    world.controls.knobs(|knobs| knobs.refresh_answers = RefreshAnswers::Same);
    assert_eq!(text(&json(world.refresh(&second).await).await, "access_token"), second);
    world.good();
    assert_eq!(error(world.refresh(&second).await).await.1, 100, "its age begins again");

    let wrong = [("grant_type", "th_refresh_access_token"), ("access_token", second.as_str())];
    assert_eq!(world.get("/refresh_access_token", &wrong).await.status(), 400);
    let short = world.short("full").await;
    assert_eq!(error(world.refresh(&short).await).await.1, 100);

    let private = world.long("private").await;
    world.controls.advance(DAY);
    world.controls.knobs(|knobs| knobs.private_refresh = false);
    assert_eq!(error(world.refresh(&private).await).await.1, 10);
    world.controls.knobs(|knobs| knobs.private_refresh = true);
    assert_eq!(world.refresh(&private).await.status(), 200);
}

#[tokio::test]
async fn a_shorter_life_shortens_what_is_too_young() {
    let world = World::start().await;
    world.controls.knobs(|knobs| knobs.refresh_minimum_age = 5);
    let long = world.long("full").await;
    world.controls.advance(5);
    assert_eq!(world.refresh(&long).await.status(), 200);
    world.good();
    let young = world.long("full").await;
    world.controls.advance(4);
    assert_eq!(error(world.refresh(&young).await).await.1, 100);
    world.bad("only 4 s old");
    // What is let pass is not what is asked for.
    world.controls.clear_ledger();
    world.controls.knobs(|knobs| knobs.refresh_minimum_age = 365 * DAY);
    world.controls.advance(DAY);
    assert_eq!(error(world.refresh(&young).await).await.1, 100);
    world.good();
}

#[tokio::test]
async fn a_token_given_as_of_earlier_is_that_old() {
    let world = World::start().await;
    let given = |age| world.controls.grant_token("full", CLIENT_ID, "threads_basic threads_delete", age);
    let old = given(5_183_944 - 60);
    let young = given(DAY - 1);
    let expired = (400, 190, Some(463), "OAuthException".to_owned());
    assert_eq!(world.me(&old).await.status(), 200);
    world.controls.advance(60);
    assert_eq!(error(world.me(&old).await).await, expired);
    assert_eq!(world.refresh(&young).await.status(), 200);
    world.good();

    // With the grant of that time, unless the person has consented since.
    let grant = 90 * DAY;
    world.controls.knobs(|knobs| knobs.long_lifetime = 365 * DAY);
    let lapsed = world.controls.grant_token("home", CLIENT_ID, "threads_basic", grant);
    assert_eq!(error(world.me(&lapsed).await).await.1, 100);
    let consented = world.long("work").await;
    let given = world.controls.grant_token("work", CLIENT_ID, "threads_basic", grant);
    assert_eq!(world.me(&consented).await.status(), 200);
    assert_eq!(world.me(&given).await.status(), 200);

    assert!(world.controls.grant_token("nobody", CLIENT_ID, "threads_basic", 0).is_empty());
    world.bad("nobody");
}

#[tokio::test]
async fn whoever_asks_is_told_which_tokens_were_refreshed_and_how_often() {
    let world = World::start().await;
    let controls = &world.controls;
    let first = controls.grant_token("full", CLIENT_ID, "threads_basic", 2 * DAY);
    let other = controls.grant_token("home", CLIENT_ID, "threads_basic", 0);
    assert!(controls.is_newest(&first) && controls.is_newest(&other));
    let second = text(&json(world.refresh(&first).await).await, "access_token");
    assert_eq!(world.refresh(&other).await.status(), 400, "too young");
    assert!(controls.is_newest(&second) && !controls.is_newest(&first) && !controls.is_newest("THAA"));
    controls.advance(7);
    let third = text(&json(world.refresh(&first).await).await, "access_token");
    assert!(controls.is_newest(&third));

    let seen: Vec<_> = controls.refreshes();
    let told: Vec<_> = seen.iter().map(|refresh| (&*refresh.persona, refresh.time, refresh.times)).collect();
    assert_eq!(told, [("full", START, 1), ("full", START + 7, 2)]);
    assert!(seen.iter().all(|refresh| *refresh.token == *first));
    assert!(!format!("{seen:?}").contains("SIMSECRET"));
    assert_eq!((controls.refresh_count("full"), controls.refresh_count("home")), (2, 0));
    assert_eq!((controls.token_refresh_count(&first), controls.token_refresh_count(&other)), (2, 0));
    controls.clear_ledger();
    assert!(controls.refreshes().is_empty());
    assert_eq!(controls.refresh_count("full"), 2);
}

#[tokio::test]
async fn a_grant_lapses_before_its_token_unless_a_refresh_renews_it() {
    let world = World::start().await;
    world.controls.knobs(|knobs| knobs.long_lifetime = 365 * DAY);
    let refreshed = world.long("full").await;
    let left = world.long("home").await;
    world.controls.advance(60 * DAY);
    assert_eq!(world.refresh(&refreshed).await.status(), 200);
    world.controls.advance(30 * DAY);
    assert_eq!(world.me(&refreshed).await.status(), 200);
    let lapsed = (400, 100, Some(10), "THApiException".to_owned());
    assert_eq!(error(world.me(&left).await).await, lapsed);
    world.controls.lapse_grant("full");
    assert_eq!(error(world.refresh(&refreshed).await).await, lapsed);
}

#[tokio::test]
async fn throttles_end_by_themselves() {
    let world = World::start().await;
    let (full, home) = (world.short("full").await, world.short("home").await);
    world.controls.throttle("full", 60);
    assert_eq!(error(world.me(&full).await).await.1, 17);
    assert_eq!(world.me(&home).await.status(), 200);
    world.controls.throttle_app(CLIENT_ID, 120);
    assert_eq!(error(world.me(&home).await).await.1, 4);
    world.good();
    for _ in 0..5 {
        world.me(&home).await;
    }
    world.good();
    world.me(&home).await;
    world.bad("slow down");
    world.controls.advance(120);
    assert_eq!(world.me(&full).await.status(), 200);
}
