//! What comes first and what comes last: a consent and an unlinking.

use std::time::Duration;

use threads_identity::proto::v1::AuthorizationOutcome;
use threads_identity::proto::v1::account::State;
use threads_identity::simulator::{Endpoint, Fault};
use tonic::Code;

use crate::harness::{World, failed};

#[tokio::test]
async fn a_consent_from_before_an_unlinking_does_not_link_again() {
    let world = World::start().await;
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();

    world.advance(Duration::from_secs(60));
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");

    world.advance(Duration::from_secs(60));
    world.unlink(&account).await;
    world.advance(Duration::from_secs(60));
    failed(world.complete(&callback_url, "user-1").await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    failed(world.complete(&callback_url, "user-1").await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");

    // A consent given after it does.
    let again = world.link("user-1", "full").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Relinked);
    assert_eq!(again.account.unwrap().state(), State::Active);
}
