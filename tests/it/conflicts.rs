//! What a completed authorization does to an account: every outcome, and every
//! refusal once Threads has answered.

use std::time::Duration;

use sqlx::Row as _;
use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use threads_identity::proto::v1::{
    Account, AuthorizationOutcome, CompleteAuthorizationRequest, CompleteAuthorizationResponse,
    CreateAuthorizationUrlRequest, OnConflict, authorization,
};
use threads_identity::simulator::Endpoint;
use tonic::{Code, Status};

use crate::harness::{World, completion, failed, link, metadata};

const BINDING: &[u8] = b"0123456789abcdef";

async fn transfer(world: &World, user_id: &str, persona: &str) -> CompleteAuthorizationResponse {
    let created = world.create_with(Link { on_conflict: OnConflict::Transfer.into(), ..link(user_id) }).await;
    world.complete(&world.consent(&created, persona), user_id).await.unwrap()
}

async fn consent_again(
    world: &World,
    account: &Account,
    persona: &str,
) -> Result<CompleteAuthorizationResponse, Status> {
    let again = Link { account_id: Some(account.account_id.clone()), ..link(&account.user_id) };
    let created = world.create_with(again).await;
    world.complete(&world.consent(&created, persona), &account.user_id).await
}

async fn sign_in(world: &World, persona: &str, scopes: &[&str]) -> CompleteAuthorizationResponse {
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::SignIn(SignIn { session_binding: BINDING.to_vec() })),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.create_as("web", request).await.unwrap();
    let request = CompleteAuthorizationRequest {
        user_id: None,
        session_binding: Some(BINDING.to_vec()),
        ..completion(&world.consent(&created, persona), "")
    };
    let completed = world.complete_as("web", request.clone()).await.unwrap();
    assert_eq!(world.complete_as("web", request).await.unwrap(), completed, "repeated");
    completed
}

/// Kind, user and previous user of all events, oldest first.
async fn events(world: &World) -> Vec<(String, String, Option<String>)> {
    let query = "select kind, user_id, previous_user_id from events order by event_id";
    let rows = sqlx::query(query).fetch_all(&mut world.sql().await).await.unwrap();
    rows.into_iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn event(kind: &str, user_id: &str, previous: Option<&str>) -> (String, String, Option<String>) {
    (kind.to_owned(), user_id.to_owned(), previous.map(str::to_owned))
}

#[tokio::test]
async fn linking_consenting_again_and_linking_after_an_unlink_are_told_apart() {
    let world = World::start().await;
    let linked = world.link("user-1", "full").await.unwrap();
    assert_eq!(linked.outcome(), AuthorizationOutcome::Linked);
    let linked = linked.account.unwrap();
    world.advance(Duration::from_secs(60));

    let again = world.link("user-1", "full").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Reauthorized);
    let again = again.account.unwrap();
    assert_eq!((&again.account_id, again.create_time), (&linked.account_id, linked.create_time));
    assert!(again.authorize_time.unwrap().seconds > linked.authorize_time.unwrap().seconds);
    assert_eq!(Some(world.token_of(&again).await), world.controls.newest_token("full"));

    world.unlink(&again).await;
    let relinked = world.link("user-1", "full").await.unwrap();
    assert_eq!(relinked.outcome(), AuthorizationOutcome::Relinked);
    let relinked = relinked.account.unwrap();
    assert_eq!(relinked.state(), State::Active);
    assert_eq!((&relinked.account_id, relinked.create_time), (&linked.account_id, linked.create_time));

    // What another user has unlinked is nobody's.
    world.unlink(&relinked).await;
    let second = world.link("user-2", "full").await.unwrap();
    assert_eq!(second.outcome(), AuthorizationOutcome::Linked);
    let second = second.account.unwrap();
    assert_eq!((second.user_id.as_str(), second.last_token_fetch_time), ("user-2", None));
    let kinds: Vec<_> =
        events(&world).await.into_iter().map(|(kind, user, _)| format!("{kind} {user}")).collect();
    let expected = [
        "LINKED user-1",
        "REAUTHORIZED user-1",
        "UNLINKED user-1",
        "RELINKED user-1",
        "UNLINKED user-1",
        "LINKED user-2",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn an_account_of_another_user_is_refused_without_naming_anybody() {
    let world = World::start().await;
    let first = world.link("user-secret-name", "full").await.unwrap().account.unwrap();
    let token = world.token_of(&first).await;
    let created = world.create("user-2").await;
    let callback_url = world.consent(&created, "full");
    let before = world.dump().await.lines().filter(|line| line.starts_with("accounts:")).collect::<String>();
    for _ in 0..2 {
        let status = world.complete(&callback_url, "user-2").await.unwrap_err();
        assert!(!format!("{status:?}").contains("user-secret-name"));
        assert!(!String::from_utf8_lossy(status.details()).contains(&first.account_id));
        let details = failed::<()>(Err(status), Code::AlreadyExists, "ACCOUNT_LINKED_TO_ANOTHER_USER");
        assert_eq!(metadata(&details).keys().collect::<Vec<_>>(), ["authorization_id"]);
    }
    let after = world.dump().await.lines().filter(|line| line.starts_with("accounts:")).collect::<String>();
    assert_eq!(after, before, "nothing of the account has changed");
    assert_eq!(world.token_of(&first).await, token);
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!((found.state(), found.account_id.as_str()), (authorization::State::Failed, ""));
    assert_eq!(
        world.counted("select count(*) from authorizations where short_lived_token is not null").await,
        0
    );
    assert_eq!(events(&world).await.len(), 1);
}

#[tokio::test]
async fn a_transfer_takes_the_account_over_and_its_event_names_both() {
    let world = World::start().await;
    let first = world.link("user-1", "full").await.unwrap().account.unwrap();
    world.token_of(&first).await;
    world.advance(Duration::from_secs(3600));
    let taken = transfer(&world, "user-2", "full").await;
    assert_eq!(taken.outcome(), AuthorizationOutcome::Transferred);
    let account = taken.account.unwrap();
    assert_eq!(
        (account.account_id.as_str(), account.user_id.as_str()),
        (first.account_id.as_str(), "user-2")
    );
    assert_ne!(account.create_time, first.create_time, "new to this user");
    assert_eq!(account.last_token_fetch_time, None, "nothing of the other user's doings is shown");
    assert_eq!(Some(world.token_of(&account).await), world.controls.newest_token("full"));
    assert_eq!(transfer(&world, "user-2", "full").await.outcome(), AuthorizationOutcome::Reauthorized);
    assert_eq!(transfer(&world, "user-3", "bare").await.outcome(), AuthorizationOutcome::Linked);
    let expected = [
        event("LINKED", "user-1", None),
        event("TRANSFERRED", "user-2", Some("user-1")),
        event("REAUTHORIZED", "user-2", None),
        event("LINKED", "user-3", None),
    ];
    assert_eq!(events(&world).await, expected);
    // Nothing to take over from somebody who has unlinked.
    world.unlink(&account).await;
    assert_eq!(transfer(&world, "user-4", "full").await.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(events(&world).await.pop().unwrap(), event("LINKED", "user-4", None));
}

#[tokio::test]
async fn the_first_outcome_is_told_to_nobody_once_the_account_is_another_users() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.complete(&callback_url, "user-1").await.unwrap();
    transfer(&world, "user-2", "full").await;
    let refused = world.complete(&callback_url, "user-1").await;
    failed(refused, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn a_repeat_after_an_unlink_shows_the_account_as_it_stands() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let account = world.complete(&callback_url, "user-1").await.unwrap().account.unwrap();
    world.unlink(&account).await;
    let again = world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(again.account.unwrap().state(), State::Unlinked);
    assert_eq!(again.profile, None);
}

#[tokio::test]
async fn renewed_consent_is_for_one_account_of_the_user_and_no_other() {
    let world = World::start().await;
    let account = world.link("user-1", "home").await.unwrap().account.unwrap();
    let renewed = consent_again(&world, &account, "home").await.unwrap();
    assert_eq!(renewed.outcome(), AuthorizationOutcome::Reauthorized);

    // The browser was logged in as the other account.
    let refused = consent_again(&world, &account, "work").await;
    let details = failed(refused, Code::FailedPrecondition, "ACCOUNT_MISMATCH");
    assert_eq!(metadata(&details)["account_id"], account.account_id);
    assert!(metadata(&details).contains_key("authorization_id"));
    assert_eq!(world.counted("select count(*) from accounts").await, 1);

    let spent = world.controls.count(Endpoint::CodeExchange);
    let stranger = Account { user_id: "user-2".to_owned(), ..account.clone() };
    let unknown =
        Account { account_id: "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90".to_owned(), ..account.clone() };
    for account in [stranger, unknown] {
        let details =
            failed(consent_again(&world, &account, "home").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
        assert_eq!(metadata(&details)["account_id"], account.account_id);
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), spent, "no code was spent for nothing");
    // Unlinked is no obstacle: the row is still the user's.
    world.unlink(&account).await;
    let relinked = consent_again(&world, &account, "home").await.unwrap();
    assert_eq!(relinked.outcome(), AuthorizationOutcome::Relinked);
}

#[tokio::test]
async fn renewed_consent_does_not_bring_back_an_account_taken_over_meanwhile() {
    let world = World::start().await;
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    let again = Link { account_id: Some(account.account_id.clone()), ..link("user-1") };
    let created = world.create_with(again).await;
    let callback_url = world.consent(&created, "full");
    transfer(&world, "user-2", "full").await;
    failed(world.complete(&callback_url, "user-1").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(world.counted("select count(*) from accounts where user_id = 'user-2'").await, 1);
}

#[tokio::test]
async fn a_sign_in_finds_the_user_or_makes_one() {
    let world = World::start().await;
    let new = sign_in(&world, "full", &[]).await;
    assert_eq!(new.outcome(), AuthorizationOutcome::SignedIn);
    assert!(new.user_created);
    let new = new.account.unwrap();
    assert!(!new.user_id.is_empty() && new.user_id.len() <= 64);
    let known = sign_in(&world, "full", &[]).await;
    assert!(!known.user_created);
    let known = known.account.unwrap();
    assert_eq!((&known.user_id, &known.account_id), (&new.user_id, &new.account_id));

    let linked = world.link("user-1", "bare").await.unwrap().account.unwrap();
    let signed_in = sign_in(&world, "bare", &[]).await;
    assert!(!signed_in.user_created);
    assert_eq!(signed_in.account.unwrap().user_id, "user-1");

    world.unlink(&linked).await;
    let returned = sign_in(&world, "bare", &[]).await;
    assert!(!returned.user_created);
    let account = returned.account.unwrap();
    assert_eq!((account.user_id.as_str(), account.state()), ("user-1", State::Active));
    assert_eq!(Some(world.token_of(&account).await), world.controls.newest_token("bare"));

    let other = sign_in(&world, "emoji", &[]).await;
    assert_ne!(other.account.unwrap().user_id, new.user_id);
    let found = world.authorization(&other.authorization_id).await.unwrap();
    assert_eq!(found.outcome(), AuthorizationOutcome::SignedIn);
}

#[tokio::test]
async fn a_sign_in_that_asked_for_less_takes_nothing_away() {
    let world = World::start().await;
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link("user-1"))),
        scopes: vec!["threads_delete".to_owned()],
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.create_as("web", request).await.unwrap();
    let linked = world.complete(&world.consent(&created, "full"), "user-1").await.unwrap().account.unwrap();
    let token = world.token_of(&linked).await;
    world.advance(Duration::from_secs(60));
    world.controls.rename("full", "maya.renamed");

    let less = sign_in(&world, "full", &[]).await;
    assert_eq!(less.profile.unwrap().username.as_deref(), Some("maya.renamed"), "the profile is the new one");
    let account = less.account.unwrap();
    assert_eq!(account.scopes, ["threads_basic", "threads_delete"]);
    assert_eq!(world.token_of(&account).await, token);

    let same = sign_in(&world, "full", &["threads_delete"]).await.account.unwrap();
    assert_eq!(Some(world.token_of(&same).await), world.controls.newest_token("full"));
    // What holds nothing any more has nothing to lose.
    world.unlink(&same).await;
    let back = sign_in(&world, "full", &[]).await.account.unwrap();
    assert_eq!(back.scopes, ["threads_basic"]);
    assert_eq!(Some(world.token_of(&back).await), world.controls.newest_token("full"));
}

#[tokio::test]
async fn the_newest_consent_wins_also_when_an_older_one_finishes_later() {
    let world = World::start().await;
    let of = |scope: &str| CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link("user-1"))),
        scopes: vec![scope.to_owned()],
        ..CreateAuthorizationUrlRequest::default()
    };
    let older = world.create_as("web", of("threads_older")).await.unwrap();
    let older_url = world.consent(&older, "full");
    // Threads fails after the older one's code was exchanged, until the newer one is through.
    let down = threads_identity::simulator::Fault::Html502;
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, down);
    failed(world.complete(&older_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    world.advance(Duration::from_secs(60));
    let newer = world.create_as("web", of("threads_newer")).await.unwrap();
    let newer = world.complete(&world.consent(&newer, "full"), "user-1").await.unwrap().account.unwrap();
    let token = world.token_of(&newer).await;

    world.advance(Duration::from_secs(60));
    let late = world.complete(&older_url, "user-1").await.unwrap();
    assert_eq!(late.outcome(), AuthorizationOutcome::Reauthorized);
    let account = late.account.unwrap();
    assert_eq!(account.scopes, ["threads_basic", "threads_newer"]);
    assert_eq!(account.authorize_time, newer.authorize_time);
    assert_eq!(world.token_of(&account).await, token);
    assert_ne!(Some(token), world.controls.newest_token("full"));
}
