//! Completions that are cut short: by a caller who leaves, a deadline, or the
//! death of the process that carries them out.

use std::time::Duration;

use threads_identity::proto::v1::authorization::State;
use threads_identity::proto::v1::{AuthorizationOutcome, CompleteAuthorizationResponse};
use threads_identity::simulator::{Endpoint, Fault};
use tonic::{Code, Request, Status};

use crate::harness::{Wishes, World, completion, failed, metadata};

/// How long a claim holds.
const CLAIM: Duration = Duration::from_secs(30);
const EXCHANGED: &str = "select exists (select from authorizations where step = 'EXCHANGED')";

async fn within(
    world: &World,
    callback_url: &str,
    time: Duration,
) -> Result<CompleteAuthorizationResponse, Status> {
    let mut request = Request::new(completion(callback_url, "user-1"));
    request.set_timeout(time);
    world.authorizations("web").complete_authorization(request).await.map(tonic::Response::into_inner)
}

/// Completes on `service` until `moment`, and then no longer.
async fn complete_until(service: &World, callback_url: &str, moment: impl Future<Output = ()>) {
    tokio::select! {
        answer = service.complete(callback_url, "user-1") => panic!("answered before the moment: {answer:?}"),
        () = moment => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_after_the_exchange_leaves_the_rest_to_another() {
    let world = World::start().await;
    let first = world.mortal(Wishes::default()).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::HangBeforeAnswer);
    let moment = async {
        world.controls.received(Endpoint::LongLivedExchange, 1).await;
        world.until(EXCHANGED).await;
    };
    complete_until(&first, &callback_url, moment).await;
    drop(first);
    // While its claim may still be alive nobody else goes on.
    let refused = within(&world, &callback_url, Duration::from_secs(2)).await;
    failed(refused, Code::Aborted, "AUTHORIZATION_IN_PROGRESS");
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!(found.state(), State::InProgress);
    assert_eq!(world.controls.count(Endpoint::LongLivedExchange), 1);

    world.advance(CLAIM);
    let completed = world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(completed.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    let account = completed.account.unwrap();
    assert_eq!(Some(world.token_of(&account).await), world.controls.newest_token("full"));
    // The consent is as old as it is, whenever its work was done.
    let attempt_time = world.authorization(&created.authorization_id).await.unwrap().attempt_time;
    assert_eq!(account.authorize_time, attempt_time);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_process_that_dies_takes_over_when_its_claim_has_run_out() {
    let world = World::start().await;
    let first = world.mortal(Wishes::default()).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::HangBeforeAnswer);
    complete_until(&first, &callback_url, world.until(EXCHANGED)).await;
    drop(first);
    let waiting = world.complete(&callback_url, "user-1");
    let passing = async {
        // Once it waits it looks at the authorization; then its claim runs out.
        while world.metric("threads_identity_calls_in_flight").await < 1.0 {
            tokio::task::yield_now().await;
        }
        world.advance(CLAIM);
    };
    let (completed, ()) = tokio::join!(waiting, passing);
    completed.unwrap();
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_during_the_exchange_leaves_an_interrupted_authorization() {
    for fault in [Fault::HangBeforeAnswer, Fault::SlowDrip] {
        let world = World::start().await;
        let first = world.mortal(Wishes::default()).await;
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, "full");
        world.controls.fault_next(Endpoint::CodeExchange, fault);
        complete_until(&first, &callback_url, world.controls.received(Endpoint::CodeExchange, 1)).await;
        drop(first);
        world.advance(CLAIM);
        for _ in 0..2 {
            let refused = world.complete(&callback_url, "user-1").await;
            let details = failed(refused, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
            assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
        }
        assert_eq!(world.controls.count(Endpoint::CodeExchange), 1, "it may have been spent");
        let found = world.authorization(&created.authorization_id).await.unwrap();
        assert_eq!(found.state(), State::Failed);
        // The person starts again, and nothing is in the way.
        world.link("user-1", "full").await.unwrap();
    }
}

#[tokio::test]
async fn a_short_lived_token_that_has_died_is_not_sent() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let asked = world.controls.ledger().len();
    world.advance(Duration::from_secs(3600));
    for _ in 0..2 {
        failed(world.complete(&callback_url, "user-1").await, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
    }
    assert_eq!(world.controls.ledger().len(), asked);
    assert_eq!(
        world.counted("select count(*) from authorizations where short_lived_token is not null").await,
        0
    );
}

#[tokio::test]
async fn a_short_lived_token_is_good_to_the_last_second_also_after_the_state_has_expired() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    world.advance(Duration::from_secs(3599));
    world.complete(&callback_url, "user-1").await.unwrap();
}

#[tokio::test]
async fn a_sealed_short_lived_token_that_was_tampered_with_is_said_to_be() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let change = "update authorizations set short_lived_token = set_byte(short_lived_token, 40, 1 # get_byte(short_lived_token, 40))";
    sqlx::query(change).execute(&mut world.sql().await).await.unwrap();
    for _ in 0..2 {
        let refused = world.complete(&callback_url, "user-1").await;
        let details = failed(refused, Code::DataLoss, "SEALED_DATA_INVALID");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    // And no token stands there in the clear.
    let dump = world.dump().await;
    assert!(world.controls.issued_tokens("full").iter().all(|token| !dump.contains(token.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_stops_nothing() {
    for endpoint in [Endpoint::CodeExchange, Endpoint::LongLivedExchange, Endpoint::Me] {
        let world = World::start().await;
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, "full");
        world.controls.fault_next(endpoint, Fault::Delay(Duration::from_millis(300)));
        complete_until(&world, &callback_url, world.controls.received(endpoint, 1)).await;
        world.until("select exists (select from authorizations where state = 'SUCCEEDED')").await;
        let asked = world.controls.ledger().len();
        let completed = world.complete(&callback_url, "user-1").await.unwrap();
        assert_eq!(completed.outcome(), AuthorizationOutcome::Linked);
        assert_eq!(world.controls.ledger().len(), asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_a_hurry_is_told_in_time_to_come_again() {
    let config = "[provider]\ncall_timeout = \"5s\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let replica = world.replica().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::CodeExchange, Fault::HangBeforeAnswer);
    // The one that does the work, one that joins it, one in another process.
    let time = Duration::from_secs(2);
    let all = async {
        world.controls.received(Endpoint::CodeExchange, 1).await;
        tokio::join!(within(&world, &callback_url, time), within(&replica, &callback_url, time))
    };
    let (first, (second, third)) = tokio::join!(within(&world, &callback_url, time), all);
    for answer in [first, second, third] {
        let details = failed(answer, Code::Aborted, "AUTHORIZATION_IN_PROGRESS");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
        assert!(!details.retry_info().unwrap().retry_delay.unwrap().is_zero());
    }
    // Whoever does come again, anywhere, hears how it ended.
    for service in [&replica, &world] {
        let refused = service.complete(&callback_url, "user-1").await;
        failed(refused, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test]
async fn a_database_that_fails_at_the_end_costs_no_second_consent() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let rename = async |change: &'static str| {
        sqlx::query(change).execute(&mut world.sql().await).await.unwrap();
    };
    rename("alter table events rename to events_elsewhere").await;
    for _ in 0..2 {
        let refused = world.complete(&callback_url, "user-1").await;
        failed(refused, Code::Unavailable, "STORAGE_UNAVAILABLE");
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 0, "no account without its event");
    rename("alter table events_elsewhere rename to events").await;
    world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_finishes_the_links_that_have_begun() {
    let mut world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_next(Endpoint::LongLivedExchange, Fault::Delay(Duration::from_millis(500)));
    complete_until(&world, &callback_url, world.controls.received(Endpoint::LongLivedExchange, 1)).await;
    world.stop().await.unwrap();
    let state = "select count(*) from authorizations where state = 'SUCCEEDED'";
    assert_eq!(world.counted(state).await, 1);
}
