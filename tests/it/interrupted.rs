//! Links that were interrupted and whose caller does not come back.

use std::time::Duration;

use threads_identity::proto::v1::authorization::State;
use threads_identity::proto::v1::{AuthorizationOutcome, ErrorReason, OnConflict};
use threads_identity::simulator::{Endpoint, Fault};

use crate::harness::{Wishes, World, link};
use crate::refreshing::{DAY, HOUR, MINUTE};

/// A completion that stops after the exchange of its code.
async fn interrupted(world: &World, user_id: &str, persona: &str) -> String {
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    let created = world.create(user_id).await;
    let callback_url = world.consent(&created, persona);
    world.complete(&callback_url, user_id).await.unwrap_err();
    world.controls.clear_faults();
    created.authorization_id
}

#[tokio::test]
async fn a_link_that_stopped_at_a_failure_of_threads_is_finished_by_whoever_comes_by() {
    let world = World::start().await;
    let id = interrupted(&world, "user-1", "full").await;
    assert_eq!(world.round().await.finished, 0, "its caller is given a moment");
    world.advance(MINUTE);
    let other = world.replica().await;
    let (one, two) = tokio::join!(world.round(), other.round());
    assert_eq!(one.finished + two.finished, 1);
    let found = world.authorization(&id).await.unwrap();
    assert_eq!((found.state(), found.outcome()), (State::Succeeded, AuthorizationOutcome::Linked));
    let account = world.account(&found.account_id).await.unwrap();
    assert_eq!(account.user_id, "user-1");
    assert_eq!(Some(world.token_of(&account).await), world.controls.newest_token("full"));
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    assert_eq!(world.happened(&account.account_id).await, "LINKED");
    assert_eq!(
        world.counted("select count(*) from authorizations where short_lived_token is not null").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_whose_process_was_killed_is_finished_after_its_claim() {
    let world = World::start().await;
    let first = world.mortal(Wishes::default()).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::HangBeforeAnswer);
    tokio::select! {
        answer = first.complete(&callback_url, "user-1") => panic!("answered: {answer:?}"),
        () = world.until("select exists (select from authorizations where step = 'EXCHANGED')") => {}
    }
    drop(first);
    assert_eq!(world.round().await.finished, 0);
    world.advance(Duration::from_secs(31));
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!(found.state(), State::Succeeded);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    // The caller who comes back after all is told the same.
    let completed = world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(completed.account.unwrap().account_id, found.account_id);
}

#[tokio::test]
async fn what_it_was_asked_for_still_counts() {
    let world = World::start().await;
    // Another user's account, and no leave to take it over.
    world.linked("user-1", "full").await;
    let refused = interrupted(&world, "user-2", "full").await;
    // The account to consent for anew, and another person comes back.
    let account = world.linked("user-3", "bare").await;
    let created = world.create_with(threads_identity::proto::v1::create_authorization_url_request::Link {
        account_id: Some(account.account_id.clone()),
        ..link("user-3")
    });
    let created = created.await;
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    let callback_url = world.consent(&created, "emoji");
    world.complete(&callback_url, "user-3").await.unwrap_err();
    world.controls.clear_faults();
    world.advance(MINUTE);
    assert_eq!(world.round().await.finished, 2);
    let reason = async |id: &str| world.authorization(id).await.unwrap().failure_reason();
    assert_eq!(reason(&refused).await, ErrorReason::AccountLinkedToAnotherUser);
    assert_eq!(reason(&created.authorization_id).await, ErrorReason::AccountMismatch);
}

#[tokio::test]
async fn what_cannot_be_finished_within_the_hour_ends_with_its_reason() {
    let world = World::start().await;
    let id = interrupted(&world, "user-1", "full").await;
    world.controls.fault_times(Endpoint::LongLivedExchange, 1000, Fault::Html502);
    for _ in 0..5 {
        world.advance(10 * MINUTE);
        assert_eq!(world.round().await.finished, 0);
    }
    let calls = world.controls.count(Endpoint::LongLivedExchange);
    assert!((9..=21).contains(&calls), "tried, and not all the time: {calls}");
    world.advance(10 * MINUTE);
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&id).await.unwrap();
    assert_eq!(
        (found.state(), found.failure_reason()),
        (State::Failed, ErrorReason::AuthorizationInterrupted)
    );
    assert_eq!(
        world.counted("select count(*) from authorizations where short_lived_token is not null").await,
        0
    );
    assert_eq!(world.counted("select count(*) from accounts").await, 0);
}

#[tokio::test]
async fn a_refusal_ends_it_at_once() {
    let world = World::start().await;
    let id = interrupted(&world, "user-1", "full").await;
    world.controls.lapse_grant("full");
    world.advance(MINUTE);
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&id).await.unwrap();
    assert_eq!((found.state(), found.failure_reason()), (State::Failed, ErrorReason::PermissionMissing));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_was_cut_off_has_come_to_nothing() {
    let world = World::start().await;
    let first = world.mortal(Wishes::default()).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::CodeExchange, Fault::HangBeforeAnswer);
    tokio::select! {
        answer = first.complete(&callback_url, "user-1") => panic!("answered: {answer:?}"),
        () = world.controls.received(Endpoint::CodeExchange, 1) => {}
    }
    drop(first);
    world.advance(Duration::from_secs(31));
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!(found.failure_reason(), ErrorReason::AuthorizationInterrupted);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1, "a code is sent once");
}

#[tokio::test]
async fn a_code_that_was_never_sent_waits_for_its_caller_and_not_for_ever() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let app = format!("token_url = \"http://127.0.0.1:{port}/oauth/access_token\"\n");
    let world = World::with(Wishes { app: Box::leak(app.into_boxed_str()), ..Wishes::default() }).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.complete(&callback_url, "user-1").await.unwrap_err();
    world.advance(59 * MINUTE);
    assert_eq!(world.round().await.finished, 0);
    world.advance(HOUR);
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!(found.failure_reason(), ErrorReason::AuthorizationInterrupted);
    world.advance(DAY);
    assert_eq!(world.round().await.finished, 0);
}

#[tokio::test]
async fn an_older_consent_takes_an_account_over_from_nobody_who_consented_since() {
    let world = World::start().await;
    world.linked("user-1", "full").await;
    world.advance(MINUTE);
    let take_over = threads_identity::proto::v1::create_authorization_url_request::Link {
        on_conflict: OnConflict::Transfer.into(),
        ..link("user-2")
    };
    let older = world.create_with(take_over.clone()).await;
    let callback_url = world.consent(&older, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    world.complete(&callback_url, "user-2").await.unwrap_err();
    world.controls.clear_faults();
    // Meanwhile the person consents anew, for the user who has the account.
    world.advance(Duration::from_secs(30));
    world.link("user-1", "full").await.unwrap();
    world.advance(MINUTE);
    assert_eq!(world.round().await.finished, 1);
    let found = world.authorization(&older.authorization_id).await.unwrap();
    assert_eq!(found.failure_reason(), ErrorReason::AccountLinkedToAnotherUser);
    assert_eq!(world.look_up("select user_id from accounts").await, "user-1");
}

#[tokio::test]
async fn what_nobody_can_finish_ends_whosever_it_is() {
    let world = World::start().await;
    let id = interrupted(&world, "user-1", "full").await;
    world.meddle("update authorizations set app_id = 'gone'").await;
    world.advance(30 * MINUTE);
    assert_eq!(world.round().await.finished, 0);
    world.advance(31 * MINUTE);
    assert_eq!(world.round().await.finished, 1);
    let open =
        "select count(*) from authorizations where state = 'IN_PROGRESS' or short_lived_token is not null";
    assert_eq!(world.counted(open).await, 0, "{id}");
}
