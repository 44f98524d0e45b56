//! Profiles with `max_age`: Threads is read again first, or the call fails.

use std::time::Duration;

use threads_identity::proto::v1::AccountProfile;
use threads_identity::proto::v1::account::State;
use threads_identity::simulator::{Endpoint, Fault};
use tonic::Code;

use crate::harness::{World, failed, metadata};
use crate::shorthand::{fresh_profile, profile, unlink};

const MINUTE: Duration = Duration::from_secs(60);
const CHANGES: &str = "select count(*) from events where kind = 'PROFILE_CHANGED'";

fn username(read: AccountProfile) -> String {
    read.profile.unwrap().username.unwrap()
}

#[tokio::test]
async fn what_is_fresh_enough_comes_from_storage() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.advance(MINUTE);
    world.controls.rename("full", "maya_new");
    for request in [profile(&id, None), fresh_profile(&id, 60), fresh_profile(&id, 315_576_000_000)] {
        assert_eq!(username(world.profile(request).await.unwrap()), "maya.sim");
    }
    assert_eq!(world.controls.count(Endpoint::Me), 1, "only the link itself has read it");
}

#[tokio::test]
async fn what_is_stale_is_read_again_and_stored() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.advance(MINUTE);
    world.controls.rename("full", "maya_new");
    let read = world.profile(fresh_profile(&id, 59)).await.unwrap();
    assert_eq!(read.fetch_time.unwrap().seconds, world.controls.now());
    assert_eq!(username(read.clone()), "maya_new");
    assert_eq!(world.profile(profile(&id, None)).await.unwrap(), read);
    assert_eq!(world.controls.count(Endpoint::Me), 2);
    assert_eq!(world.look_up(CHANGES).await, "1");

    // Nothing that is shown changes but the address of the picture: no event.
    world.advance(MINUTE * 60 * 24);
    let again = world.profile(fresh_profile(&id, 60)).await.unwrap();
    let picture = |read: &AccountProfile| read.profile.clone().unwrap().threads_profile_picture_url;
    assert_ne!(picture(&again), picture(&read));
    assert!(again.picture_expire_time.unwrap().seconds > read.picture_expire_time.unwrap().seconds);
    assert!(again.fetch_time.unwrap().seconds > read.fetch_time.unwrap().seconds);
    assert_eq!(world.look_up(CHANGES).await, "1");

    // What goes away changes too.
    world.controls.edit("full", |persona| persona.biography = None);
    world.profile(fresh_profile(&id, 0)).await.unwrap();
    assert_eq!(world.look_up(CHANGES).await, "2");
    let account = world.account(&id).await.unwrap();
    assert_eq!(account.create_time, account.update_time, "the account itself has not changed");
}

#[tokio::test]
async fn an_age_of_zero_always_reads_again() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    for reads in 2..5 {
        world.profile(fresh_profile(&id, 0)).await.unwrap();
        assert_eq!(world.controls.count(Endpoint::Me), reads);
    }
}

#[tokio::test]
async fn those_who_ask_at_once_share_one_reading() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.rename("full", "maya_new");
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(700)));
    let first = world.profile(fresh_profile(&id, 0));
    let others = async {
        world.controls.received(Endpoint::Me, 2).await;
        let asks = (0..40).map(|_| world.profile(fresh_profile(&id, 0)));
        futures_util::future::join_all(asks).await
    };
    let (first, others) = tokio::join!(first, others);
    assert_eq!(username(first.unwrap()), "maya_new");
    assert!(others.into_iter().all(|read| username(read.unwrap()) == "maya_new"));
    assert_eq!(world.controls.count(Endpoint::Me), 2);
}

#[tokio::test]
async fn a_reading_whose_caller_leaves_goes_on() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.rename("full", "maya_new");
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(300)));
    tokio::select! {
        _ = world.profile(fresh_profile(&id, 0)) => panic!("answered before Threads did"),
        () = world.controls.received(Endpoint::Me, 2) => {}
    }
    crate::shorthand::until("the new handle is stored", async || {
        username(world.profile(profile(&id, None)).await.unwrap()) == "maya_new"
    })
    .await;
    assert_eq!(world.controls.count(Endpoint::Me), 2);
}

#[tokio::test]
async fn an_account_unlinked_while_its_profile_is_read_stays_without_one() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(500)));
    let unlinking = async {
        world.controls.received(Endpoint::Me, 2).await;
        world.accounts("web").unlink_account(unlink(&id, "user-1")).await.unwrap();
    };
    let (read, ()) = tokio::join!(world.profile(fresh_profile(&id, 0)), unlinking);
    failed(read, Code::NotFound, "PROFILE_NOT_FOUND");
    assert_eq!(
        world.look_up("select num_nonnulls(token, username, profile_fetch_time) from accounts").await,
        "0"
    );
}

/// What is done to Threads, and what the call then says.
type Failing = (&'static str, fn(&World), Code, &'static str, &'static [(&'static str, &'static str)]);

fn failings() -> Vec<Failing> {
    const OFTEN: usize = 9;
    vec![
        (
            "app removed",
            |w| w.controls.revoke_app("full"),
            Code::FailedPrecondition,
            "REAUTHORIZATION_REQUIRED",
            &[("state_reason", "ACCESS_REVOKED")],
        ),
        (
            "password changed",
            |w| w.controls.change_password("full"),
            Code::FailedPrecondition,
            "REAUTHORIZATION_REQUIRED",
            &[("state_reason", "SESSION_INVALIDATED")],
        ),
        (
            "checkpoint",
            |w| w.controls.checkpoint("full"),
            Code::FailedPrecondition,
            "REAUTHORIZATION_REQUIRED",
            &[("state_reason", "USER_ACTION_REQUIRED")],
        ),
        (
            "grant gone",
            |w| w.controls.lapse_grant("full"),
            Code::FailedPrecondition,
            "PERMISSION_MISSING",
            &[("scopes", "threads_basic")],
        ),
        ("code 10", |w| graph(w, 10, None), Code::FailedPrecondition, "PERMISSION_MISSING", &[]),
        (
            "code 100/33",
            |w| graph(w, 100, Some(33)),
            Code::FailedPrecondition,
            "REAUTHORIZATION_REQUIRED",
            &[("state_reason", "ACCOUNT_GONE")],
        ),
        ("code 101", |w| graph(w, 101, None), Code::Internal, "PROVIDER_CONFIGURATION", &[]),
        (
            "502",
            |w| w.controls.fault_times(Endpoint::Me, OFTEN, Fault::Html502),
            Code::Unavailable,
            "PROVIDER_UNAVAILABLE",
            &[],
        ),
        (
            "a page",
            |w| w.controls.fault_times(Endpoint::Me, OFTEN, Fault::Html200),
            Code::Unavailable,
            "PROVIDER_UNAVAILABLE",
            &[],
        ),
        (
            "garbage",
            |w| w.controls.fault_times(Endpoint::Me, OFTEN, Fault::GarbageJson),
            Code::Unavailable,
            "PROVIDER_UNAVAILABLE",
            &[],
        ),
        (
            "cut",
            |w| w.controls.fault_times(Endpoint::Me, OFTEN, Fault::CutAfterRequest),
            Code::Unavailable,
            "PROVIDER_UNAVAILABLE",
            &[],
        ),
        (
            "slow down",
            |w| w.controls.throttle("full", 600),
            Code::ResourceExhausted,
            "PROVIDER_RATE_LIMITED",
            &[],
        ),
        (
            "somebody else",
            |w| w.controls.knobs(|knobs| knobs.me_id = Some("30000000000000009".to_owned())),
            Code::Internal,
            "PROVIDER_IDENTITY_CONFLICT",
            &[],
        ),
    ]
}

fn graph(world: &World, code: u32, subcode: Option<u32>) {
    let kind = "OAuthException".to_owned();
    let fault = Fault::Graph { status: 400, code, subcode, kind, transient: None };
    world.controls.fault_times(Endpoint::Me, 9, fault);
}

#[tokio::test]
async fn what_is_stale_is_never_the_answer_to_a_failed_reading() {
    for (what, spoil, code, reason, expected) in failings() {
        let mut world = World::start().await;
        world.expect_violations();
        let id = world.linked("user-1", "full").await.account_id;
        let stored = world.profile(profile(&id, None)).await.unwrap();
        spoil(&world);
        let details = failed(world.profile(fresh_profile(&id, 0)).await, code, reason);
        assert_eq!(metadata(&details)["account_id"], id, "{what}");
        assert_eq!(metadata(&details).contains_key("request_id"), code == Code::Internal, "{what}");
        for (key, value) in expected {
            assert_eq!(metadata(&details)[*key], *value, "{what}");
        }
        assert!(
            world.controls.count(Endpoint::Me) <= 4,
            "{what}: {} calls",
            world.controls.count(Endpoint::Me)
        );
        assert_eq!(world.profile(profile(&id, None)).await.unwrap(), stored, "{what}: what is stored stays");
        assert_eq!(world.account(&id).await.unwrap().state(), State::Active, "{what}");
        assert_eq!(world.look_up(CHANGES).await, "0", "{what}");
    }
}

#[tokio::test]
async fn how_long_to_wait_is_what_threads_asks_for() {
    let mut world = World::start().await;
    world.expect_violations();
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.throttle("full", 600);
    let wait = async || {
        let refused = world.profile(fresh_profile(&id, 0)).await;
        let details = failed(refused, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED");
        details.retry_info().unwrap().retry_delay.unwrap()
    };
    assert_eq!(wait().await, Duration::from_secs(60), "when Threads says nothing");
    for (header, value, seconds) in [
        ("retry-after", "37", 37),
        ("retry-after", "999999999", 24 * 3600),
        ("retry-after", "tomorrow", 60),
        ("retry-after", "-1", 60),
        ("x-business-use-case-usage", r#"{"1":[{"estimated_time_to_regain_access":3}]}"#, 180),
        ("x-business-use-case-usage", "[[[", 60),
    ] {
        world.controls.knobs(|knobs| knobs.headers = vec![(header.to_owned(), value.to_owned())]);
        assert_eq!(wait().await, Duration::from_secs(seconds), "{header}: {value}");
    }
}
