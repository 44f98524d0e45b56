//! Tokens that are refreshed because a caller asks for a longer life, and tokens
//! that are said to be refused.

use std::time::Duration;

use threads_identity::proto::v1::account::{State, StateReason};
use threads_identity::proto::v1::{
    Account, FetchAccessTokenRequest, FetchAccessTokenResponse, ReportInvalidTokenRequest,
};
use threads_identity::simulator::{Endpoint, Fault};
use tonic::{Code, Request, Status};

use crate::harness::{Wishes, World, bad_fields, failed, metadata};
use crate::refreshing::{DAY, HOUR, MINUTE};
use crate::shorthand::{NOBODY, token};

/// How long the simulator's long-lived tokens live.
const LIFETIME: Duration = Duration::from_secs(5_183_944);

fn lasting(account: &Account, seconds: i64) -> FetchAccessTokenRequest {
    let minimum_lifetime = Some(prost_types::Duration { seconds, nanos: 0 });
    FetchAccessTokenRequest { minimum_lifetime, ..token(&account.account_id, &account.user_id) }
}

fn sha256(text: &str) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

fn graph(code: u32, subcode: Option<u32>) -> Fault {
    Fault::Graph { status: 400, code, subcode, kind: "OAuthException".to_owned(), transient: None }
}

impl World {
    async fn report(&self, account: &Account, token: &str) -> Result<Account, Status> {
        let request = ReportInvalidTokenRequest {
            account_id: account.account_id.clone(),
            user_id: account.user_id.clone(),
            token_sha256: sha256(token),
        };
        let reported = self.tokens("web").report_invalid_token(request).await;
        reported.map(|reported| reported.into_inner().account.unwrap())
    }

    /// A world with one account whose token has half an hour to live.
    async fn with_a_dying_token(&self) -> Account {
        let linked = self.linked("user-1", "full").await;
        self.advance(LIFETIME - Duration::from_mins(30));
        linked
    }
}

#[tokio::test]
async fn a_token_that_would_not_live_long_enough_is_refreshed_first() {
    let world = World::start().await;
    let linked = world.with_a_dying_token().await;
    let first = world.token(lasting(&linked, 1800)).await.unwrap().access_token;
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);

    let fetched = world.token(token(&linked.account_id, "user-1")).await.unwrap();
    assert_ne!(fetched.access_token, first);
    assert_eq!(Some(&fetched.access_token), world.controls.newest_token("full").as_ref());
    assert_eq!(fetched.expire_time.unwrap().seconds, world.controls.now() + 5_183_944);
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
    assert_eq!(world.happened(&linked.account_id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(world.counted("select count(*) from audit").await, 2, "only what left is on record");
    world.token(lasting(&linked, 86_400)).await.unwrap();
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_once_share_one_refresh_on_every_replica() {
    let world = World::start().await;
    let linked = world.with_a_dying_token().await;
    let other = world.replica().await;
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_millis(300)));
    let fetches = (0..60).map(|n| {
        let mut client = if n % 2 == 0 { world.tokens("web") } else { other.tokens("web") };
        let request = lasting(&linked, 86_400);
        async move { client.fetch_access_token(request).await.unwrap().into_inner() }
    });
    let fetched: Vec<FetchAccessTokenResponse> = futures_util::future::join_all(fetches).await;
    let newest = world.controls.newest_token("full").unwrap();
    assert!(fetched.iter().all(|fetched| fetched.access_token == newest));
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
    assert_eq!(world.counted("select count(*) from audit").await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_stops_no_refresh_and_one_in_a_hurry_is_told_to_come_again() {
    let world = World::start().await;
    let linked = world.with_a_dying_token().await;
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_secs(2)));
    let mut request = Request::new(lasting(&linked, 86_400));
    request.set_timeout(Duration::from_secs(1));
    let hurried = world.tokens("web").fetch_access_token(request).await;
    let details = failed(hurried, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(metadata(&details)["account_id"], linked.account_id);
    world.until("select exists (select from events where kind = 'TOKEN_REFRESHED')").await;
    world.token(lasting(&linked, 86_400)).await.unwrap();
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
}

#[tokio::test]
async fn while_threads_is_down_every_token_that_lives_long_enough_is_handed_out() {
    let world = World::start().await;
    let linked = world.with_a_dying_token().await;
    world.controls.fault_times(Endpoint::Refresh, 1000, Fault::Html502);
    for seconds in [3600, 86_400] {
        let details =
            failed(world.token(lasting(&linked, seconds)).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert_eq!(metadata(&details)["account_id"], linked.account_id);
    }
    let asked = world.controls.count(Endpoint::Refresh);
    // Whoever asks in vain does not make Threads be asked each time.
    for _ in 0..5 {
        let details =
            failed(world.token(lasting(&linked, 3600)).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        let wait = details.retry_info().unwrap().retry_delay.unwrap();
        assert!((MINUTE..=MINUTE * 2).contains(&wait), "{wait:?}");
    }
    assert_eq!(world.controls.count(Endpoint::Refresh), asked);
    for seconds in [0, 60, 1800] {
        world.token(lasting(&linked, seconds)).await.unwrap();
    }
    world.controls.clear_faults();
    world.advance(2 * MINUTE);
    world.token(lasting(&linked, 86_400)).await.unwrap();
}

#[tokio::test]
async fn a_young_token_is_not_refreshed_whatever_is_asked_for() {
    let world = World::start().await;
    world.controls.knobs(|knobs| knobs.long_lifetime = 12 * 3600);
    let linked = world.linked("user-1", "full").await;
    failed(world.token(lasting(&linked, 86_400)).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    world.token(lasting(&linked, 11 * 3600)).await.unwrap();
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);
}

#[tokio::test]
async fn what_threads_says_to_the_refresh_is_told() {
    let config = "[provider]\ncall_timeout = \"300ms\"\n";
    let mut world = World::with(Wishes { config, ..Wishes::default() }).await;
    world.expect_violations();
    for (number, (fault, code, reason)) in [
        (graph(190, Some(458)), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (graph(100, Some(10)), Code::FailedPrecondition, "PERMISSION_MISSING"),
        (graph(17, None), Code::ResourceExhausted, "PROVIDER_RATE_LIMITED"),
        (graph(101, None), Code::Internal, "PROVIDER_CONFIGURATION"),
        (Fault::SlowDrip, Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        (graph(4, None), Code::ResourceExhausted, "PROVIDER_RATE_LIMITED"),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = format!("{fault:?}");
        let linked = world.linked_number(number as u64).await;
        world.advance(LIFETIME - Duration::from_mins(30));
        world.controls.fault_times(Endpoint::Refresh, 3, fault);
        let details = failed(world.token(lasting(&linked, 3600)).await, code, reason);
        assert_eq!(metadata(&details)["account_id"], linked.account_id, "{shown}");
        world.controls.clear_faults();
        let account = world.account(&linked.account_id).await.unwrap();
        assert_eq!(account.state(), State::Active, "{shown}: not yet");
        world.token(lasting(&linked, 60)).await.unwrap();
        world.unlink(&linked).await;
        world.advance(HOUR);
    }
}

#[tokio::test]
async fn a_report_is_checked_once_and_what_threads_says_counts() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.advance(2 * MINUTE);
    let handed_out = world.token_of(&linked).await;
    let asked = world.controls.count(Endpoint::Me);

    // Threads accepts it: nothing changes, and it is not asked again at once.
    let account = world.report(&linked, &handed_out).await.unwrap();
    assert_eq!(account.state(), State::Active);
    assert_eq!(world.controls.count(Endpoint::Me), asked + 1);
    for _ in 0..5 {
        world.report(&linked, &handed_out).await.unwrap();
    }
    assert_eq!(world.controls.count(Endpoint::Me), asked + 1);

    // Another token than the stored one: nothing at all.
    world.controls.revoke_app("full");
    world.advance(2 * MINUTE);
    for other in ["", "THAAother", &handed_out[1..]] {
        assert_eq!(world.report(&linked, other).await.unwrap().state(), State::Active);
    }
    assert_eq!(world.controls.count(Endpoint::Me), asked + 1);

    // Threads refuses it: one strike, however often it is reported.
    for _ in 0..5 {
        assert_eq!(world.report(&linked, &handed_out).await.unwrap().state(), State::Active);
    }
    assert_eq!(world.controls.count(Endpoint::Me), asked + 2);
    assert_eq!(world.token_of(&linked).await, handed_out);
    world.advance(9 * MINUTE);
    assert_eq!(world.report(&linked, &handed_out).await.unwrap().state(), State::Active);
    world.advance(2 * MINUTE);
    let ended = world.report(&linked, &handed_out).await.unwrap();
    assert_eq!(
        (ended.state(), ended.state_reason()),
        (State::ReauthorizationRequired, StateReason::AccessRevoked)
    );
    assert_eq!(world.controls.count(Endpoint::Me), asked + 3);
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);
    let again = world.report(&linked, &handed_out).await.unwrap();
    assert_eq!(again, ended);
    assert_eq!(world.happened(&linked.account_id).await, "LINKED REAUTHORIZATION_REQUIRED");
}

#[tokio::test]
async fn a_report_of_a_token_that_has_been_replaced_changes_nothing() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let first = world.token_of(&linked).await;
    world.advance(26 * HOUR);
    world.make_due(&linked.account_id).await;
    world.round().await;
    world.advance(HOUR);
    let asked = world.controls.count(Endpoint::Me);
    assert_eq!(world.report(&linked, &first).await.unwrap().state(), State::Active);
    assert_eq!(world.controls.count(Endpoint::Me), asked);
    // A single strike is refuted by a check that goes well.
    let newest = world.token_of(&linked).await;
    world.controls.fault_next(Endpoint::Me, graph(102, None));
    world.report(&linked, &newest).await.unwrap();
    assert_eq!(world.look_up("select strike_time is not null from accounts").await, "true");
    world.advance(13 * MINUTE);
    world.report(&linked, &newest).await.unwrap();
    assert_eq!(
        world.look_up("select num_nonnulls(strike_time, refresh_failing_time) from accounts").await,
        "0"
    );
}

#[tokio::test]
async fn a_report_that_cannot_be_checked_says_so() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let handed_out = world.token_of(&linked).await;
    world.advance(HOUR);
    world.controls.fault_times(Endpoint::Me, 3, Fault::Html502);
    let details = failed(world.report(&linked, &handed_out).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert_eq!(metadata(&details)["account_id"], linked.account_id);
    // Nobody's reports make Threads be asked while it cannot answer.
    let asked = world.controls.count(Endpoint::Me);
    let details = failed(world.report(&linked, &handed_out).await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() >= MINUTE);
    assert_eq!(world.controls.count(Endpoint::Me), asked);
    world.advance(2 * MINUTE);
    assert_eq!(world.report(&linked, &handed_out).await.unwrap().state(), State::Active);
    assert_eq!(world.look_up("select strike_time is null from accounts").await, "true");
}

#[tokio::test]
async fn a_report_must_be_made_rightly_and_by_the_right_caller() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let good = ReportInvalidTokenRequest {
        account_id: linked.account_id.clone(),
        user_id: "user-1".to_owned(),
        token_sha256: sha256("THAA"),
    };
    let report =
        async |request: ReportInvalidTokenRequest| world.tokens("web").report_invalid_token(request).await;
    assert_eq!(
        bad_fields(report(ReportInvalidTokenRequest::default()).await),
        ["account_id", "user_id", "token_sha256"]
    );
    for hash in [vec![], vec![0; 31], vec![0; 33], b"a".repeat(64)] {
        let request = ReportInvalidTokenRequest { token_sha256: hash, ..good.clone() };
        assert_eq!(bad_fields(report(request).await), ["token_sha256"]);
    }
    for request in [
        ReportInvalidTokenRequest { user_id: "user-2".to_owned(), ..good.clone() },
        ReportInvalidTokenRequest { account_id: NOBODY.to_owned(), ..good.clone() },
    ] {
        failed(report(request).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
    let other = world.tokens("second").report_invalid_token(good.clone()).await;
    failed(other, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let refused = world.tokens("only-read").report_invalid_token(good.clone()).await;
    failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    world.unlink(&linked).await;
    let account = report(good).await.unwrap().into_inner().account.unwrap();
    assert_eq!(account.state(), State::Unlinked);
    assert_eq!(world.controls.count(Endpoint::Me), 1);
}

#[tokio::test]
async fn sixty_days_without_anybody_asking_and_the_token_still_works() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    for days in [60, 30] {
        for _ in 0..days {
            world.advance(DAY);
            world.round().await;
        }
        let fetched = world.token(lasting(&linked, 86_400)).await.unwrap();
        assert_eq!(Some(fetched.access_token), world.controls.newest_token("full"));
        assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    }
}
