//! What Threads' refusals make of an account: every row of the table of failures,
//! and everything that is no answer at all.

use std::time::Duration;

use threads_identity::proto::v1::account::{State, StateReason};
use threads_identity::simulator::{Endpoint, Fault};
use tonic::Code;

use crate::harness::{Wishes, World, failed, metadata};
use crate::refreshing::{DAY, HOUR, MINUTE};
use crate::shorthand::{fresh_profile, token};

/// What becomes of an account by a failure that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is tried again, and nothing else.
    Waits,
    /// The second time the person must consent again.
    Ends(StateReason),
}

use Effect::{Ends, Waits};

fn graph(code: u32, subcode: Option<u32>) -> Fault {
    Fault::Graph { status: 400, code, subcode, kind: "OAuthException".to_owned(), transient: None }
}

fn status(status: u16, content_type: &str, body: &str) -> Fault {
    Fault::Status { status, content_type: content_type.to_owned(), body: body.to_owned() }
}

/// The table of the platform's contract, and what is no answer.
fn table() -> Vec<(Fault, Effect)> {
    const JSON: &str = "application/json";
    let transient = |code| Fault::Graph {
        status: 400,
        code,
        subcode: None,
        kind: "OAuthException".to_owned(),
        transient: Some(true),
    };
    let waits = [
        graph(1, None),
        graph(1, Some(99)),
        graph(2, None),
        transient(190),
        graph(4, None),
        graph(17, Some(2_446_079)),
        graph(32, None),
        graph(341, None),
        graph(368, None),
        graph(613, Some(1996)),
        graph(80_000, None),
        graph(80_014, None),
        status(429, "text/html", ""),
        graph(100, None),
        graph(101, None),
        graph(191, None),
        graph(7777, None),
        status(404, JSON, "{}"),
        status(500, "text/html", "<h1>no</h1>"),
        // Something in between, and not Threads, speaks of what is forbidden.
        status(403, "text/html", "<h1>blocked</h1>"),
        status(401, "text/html", ""),
        Fault::Html502,
        Fault::Html200,
        Fault::EmptyBody,
        Fault::Truncated,
        Fault::Huge,
        Fault::SlowDrip,
        Fault::WrongTypes,
        Fault::GarbageJson,
        Fault::HangBeforeAnswer,
        Fault::CutBeforeRead,
        Fault::CutAfterRequest,
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
    ];
    let ends = [
        (graph(3, None), StateReason::PermissionLost),
        (graph(10, None), StateReason::PermissionLost),
        (graph(200, None), StateReason::PermissionLost),
        (graph(299, None), StateReason::PermissionLost),
        (graph(100, Some(10)), StateReason::PermissionLost),
        (status(403, JSON, "{}"), StateReason::PermissionLost),
        (graph(100, Some(33)), StateReason::AccountGone),
        (graph(24, Some(4_279_009)), StateReason::AccountGone),
        (graph(102, None), StateReason::SessionInvalidated),
        (graph(190, None), StateReason::SessionInvalidated),
        (graph(190, Some(458)), StateReason::AccessRevoked),
        (graph(190, Some(459)), StateReason::UserActionRequired),
        (graph(190, Some(460)), StateReason::SessionInvalidated),
        (graph(190, Some(463)), StateReason::TokenExpired),
        (graph(190, Some(464)), StateReason::UserActionRequired),
        (graph(190, Some(467)), StateReason::SessionInvalidated),
        (graph(190, Some(492)), StateReason::SessionInvalidated),
        (graph(190, Some(493)), StateReason::SessionInvalidated),
        (graph(2500, None), StateReason::SessionInvalidated),
        (status(401, JSON, "{}"), StateReason::SessionInvalidated),
    ];
    let waits = waits.into_iter().map(|fault| (fault, Waits));
    waits.chain(ends.into_iter().map(|(fault, reason)| (fault, Ends(reason)))).collect()
}

#[tokio::test]
async fn every_failure_of_a_refresh_has_its_effect_and_no_other() {
    let config = "[provider]\ncall_timeout = \"300ms\"\n";
    let mut world = World::with(Wishes { config, ..Wishes::default() }).await;
    // Scripted refusals make the simulator believe that the token is dead.
    world.expect_violations();
    for (number, (fault, effect)) in table().into_iter().enumerate() {
        let shown = format!("{fault:?}");
        let linked = world.linked_number(number as u64).await;
        let id = linked.account_id.as_str();
        let user = linked.user_id.as_str();
        let first = world.token_of(&linked).await;
        world.advance(26 * HOUR);
        world.make_due(id).await;

        // The first time nothing is lost, whatever it is.
        world.controls.fault_times(Endpoint::Refresh, 3, fault.clone());
        assert_eq!(world.round().await.attempts, 1, "{shown}");
        world.controls.clear_faults();
        assert_eq!(world.account(id).await.unwrap().state(), State::Active, "{shown}");
        assert_eq!(world.token_of(&linked).await, first, "{shown}: still handed out");
        assert_eq!(world.round().await.attempts, 0, "{shown}: not at once again");

        if let Ends(reason) = effect {
            // Too early to count, and not asked.
            world.advance(9 * MINUTE);
            assert_eq!(world.round().await.attempts, 0, "{shown}");
            world.advance(4 * MINUTE);
            world.controls.fault_times(Endpoint::Refresh, 3, fault.clone());
            world.controls.fault_times(Endpoint::Me, 3, fault);
            assert_eq!(world.round().await.attempts, 1, "{shown}");
            world.controls.clear_faults();
            let ended = world.account(id).await.unwrap();
            assert_eq!(
                (ended.state(), ended.state_reason()),
                (State::ReauthorizationRequired, reason),
                "{shown}"
            );
            let refused = world.token(token(id, user)).await;
            let details = failed(refused, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
            let why = reason.as_str_name().strip_prefix("STATE_REASON_").unwrap();
            assert_eq!(metadata(&details)["state_reason"], why, "{shown}");
            assert_eq!(world.happened(id).await, "LINKED REAUTHORIZATION_REQUIRED", "{shown}");
            assert_eq!(
                world
                    .look_up(format!("select token is not null from accounts where account_id = '{id}'"))
                    .await,
                "true"
            );
            assert_eq!(world.round().await.attempts, 0, "{shown}");
        } else {
            // As often as it likes: the account stays as it is.
            for _ in 0..2 {
                world.advance(8 * HOUR);
                world.controls.fault_times(Endpoint::Refresh, 3, fault.clone());
                assert_eq!(world.round().await.attempts, 1, "{shown}");
                world.controls.clear_faults();
                assert_eq!(world.account(id).await.unwrap().state(), State::Active, "{shown}");
            }
            world.advance(8 * HOUR);
            assert_eq!(world.round().await.attempts, 1, "{shown}");
            let newest = world.controls.newest_token(&format!("n{number}"));
            assert_eq!(Some(world.token_of(&linked).await), newest, "{shown}");
        }
        world.unlink(&linked).await;
    }
}

#[tokio::test]
async fn a_refusal_that_is_taken_back_was_none() {
    let mut world = World::start().await;
    world.expect_violations();
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    for _ in 0..3 {
        world.advance(26 * HOUR);
        world.make_due(id).await;
        world.controls.fault_next(Endpoint::Refresh, graph(190, Some(493)));
        world.round().await;
        world.advance(13 * MINUTE);
        world.round().await;
        let account = world.account(id).await.unwrap();
        assert_eq!(account.state(), State::Active);
        assert_eq!(
            world.look_up("select num_nonnulls(strike_time, refresh_failing_time) from accounts").await,
            "0"
        );
    }
    assert_eq!(world.controls.count(Endpoint::Refresh), 6);
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED TOKEN_REFRESHED TOKEN_REFRESHED");
}

#[tokio::test]
async fn a_person_who_removes_the_app_is_asked_again_and_comes_back() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.advance(26 * HOUR);
    world.controls.revoke_app("full");
    world.make_due(id).await;
    world.round().await;
    world.advance(13 * MINUTE);
    world.round().await;
    let account = world.account(id).await.unwrap();
    assert_eq!(account.state_reason(), StateReason::AccessRevoked);
    let again = world.link("user-1", "full").await.unwrap().account.unwrap();
    assert_eq!(again.state(), State::Active);
    assert_eq!(world.happened(id).await, "LINKED REAUTHORIZATION_REQUIRED REAUTHORIZED");
}

#[tokio::test]
async fn a_permission_that_lapsed_is_not_a_dead_token() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.advance(26 * HOUR);
    world.controls.lapse_grant("full");
    world.make_due(id).await;
    world.round().await;
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
    world.advance(13 * MINUTE);
    world.round().await;
    assert_eq!(world.account(id).await.unwrap().state_reason(), StateReason::PermissionLost);
}

#[tokio::test]
async fn a_refusal_met_while_a_profile_is_read_is_the_first_strike() {
    let mut world = World::start().await;
    world.expect_violations();
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.controls.revoke_app("full");
    let refused = world.profile(fresh_profile(id, 0)).await;
    failed(refused, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
    world.advance(9 * MINUTE);
    assert_eq!(world.round().await.attempts, 0);
    // Far too young to be refreshed: it is asked for its profile.
    world.advance(4 * MINUTE);
    assert_eq!(world.round().await.attempts, 1);
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);
    assert_eq!(world.account(id).await.unwrap().state_reason(), StateReason::AccessRevoked);
}

#[tokio::test]
async fn those_who_watch_are_told_of_failures_after_a_day_and_once() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.advance(26 * HOUR);
    world.make_due(id).await;
    world.controls.fault_times(Endpoint::Refresh, 10_000, Fault::Html502);
    world.round().await;
    for _ in 0..11 {
        world.advance(2 * HOUR);
        world.round().await;
    }
    assert_eq!(world.happened(id).await, "LINKED");
    for _ in 0..24 {
        world.advance(2 * HOUR);
        world.round().await;
    }
    assert_eq!(world.happened(id).await, "LINKED REFRESH_FAILING");
    world.controls.clear_faults();
    world.advance(2 * HOUR);
    world.round().await;
    assert_eq!(world.happened(id).await, "LINKED REFRESH_FAILING TOKEN_REFRESHED RECOVERED");
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
}

#[tokio::test]
async fn an_outage_of_weeks_costs_nobody_a_link() {
    let world = World::start().await;
    let mut accounts = Vec::new();
    for number in 0..12 {
        accounts.push(world.linked_number(number).await);
    }
    // All due, and Threads away for eighteen days.
    world.advance(41 * DAY);
    world.controls.fault_times(Endpoint::Refresh, 1_000_000, Fault::Html502);
    for _ in 0..18 {
        world.round().await;
        world.advance(DAY);
    }
    world.controls.clear_faults();
    for _ in 0..6 {
        world.advance(HOUR);
        world.round().await;
    }
    for (number, account) in accounts.iter().enumerate() {
        let now = world.account(&account.account_id).await.unwrap();
        assert_eq!(now.state(), State::Active);
        assert_eq!(Some(world.token_of(account).await), world.controls.newest_token(&format!("n{number}")));
    }
}

#[tokio::test]
async fn the_longer_threads_is_away_the_fewer_calls_it_gets() {
    let world = World::start().await;
    for number in 0..100 {
        world.linked_number(number).await;
    }
    world.advance(41 * DAY);
    world.controls.fault_times(Endpoint::Refresh, 1_000_000, Fault::Html502);
    let mut calls = Vec::new();
    for _ in 0..4 {
        let before = world.controls.count(Endpoint::Refresh);
        // Ten minutes, in the steps of a replica that looks for what is due.
        for _ in 0..60 {
            world.round().await;
            world.advance(Duration::from_secs(10));
        }
        calls.push(world.controls.count(Endpoint::Refresh) - before);
    }
    // A hundred accounts that are tried after 1, 5 and 15 minutes, three times each:
    // some 600 calls in the first ten minutes without restraint.
    assert!(calls.iter().sum::<usize>() < 200, "{calls:?}");
    world.controls.clear_faults();
    for _ in 0..400 {
        world.advance(MINUTE);
        world.round().await;
        if world.counted("select count(*) from events where kind = 'TOKEN_REFRESHED'").await == 100 {
            return;
        }
    }
    panic!("not all of them came back within hours");
}

#[tokio::test]
async fn a_limit_of_the_whole_app_stops_all_its_refreshes_and_no_other_apps() {
    let world = World::start().await;
    for number in 0..30 {
        world.linked_number(number).await;
    }
    world.advance(26 * HOUR);
    world
        .meddle(format!("update accounts set next_refresh_time = to_timestamp({})", world.controls.now()))
        .await;
    world.controls.knobs(|knobs| knobs.headers = vec![("Retry-After".to_owned(), "1200".to_owned())]);
    world.controls.throttle_app("990602627938098", 1200);
    world.round().await;
    let asked = world.controls.count(Endpoint::Refresh);
    assert!(asked <= 16, "only what was under way at once: {asked}");
    world.advance(19 * MINUTE);
    assert_eq!(world.round().await.attempts, 0);
    assert_eq!(world.controls.count(Endpoint::Refresh), asked, "nothing is asked while Threads wants quiet");
    world.controls.knobs(|knobs| knobs.headers.clear());
    world.advance(MINUTE * 6);
    world.round().await;
    assert_eq!(world.counted("select count(*) from events where kind = 'TOKEN_REFRESHED'").await, 30);
}

#[tokio::test]
async fn a_limit_of_one_person_stops_nobody_else() {
    let world = World::start().await;
    for number in 0..5 {
        world.linked_number(number).await;
    }
    world.advance(26 * HOUR);
    world
        .meddle(format!("update accounts set next_refresh_time = to_timestamp({})", world.controls.now()))
        .await;
    world.controls.throttle("n3", 300);
    assert_eq!(world.round().await.attempts, 5);
    assert_eq!(world.counted("select count(*) from events where kind = 'TOKEN_REFRESHED'").await, 4);
    world.advance(HOUR);
    world.round().await;
    assert_eq!(world.counted("select count(*) from events where kind = 'TOKEN_REFRESHED'").await, 5);
}

#[tokio::test]
async fn while_a_limit_is_close_only_what_is_urgent_is_refreshed() {
    let world = World::start().await;
    let soon = world.linked_number(0).await;
    world.advance(57 * DAY + HOUR);
    let later = world.linked_number(1).await;
    world.advance(26 * HOUR);
    world.controls.knobs(|knobs| {
        knobs.headers = vec![("X-App-Usage".to_owned(), r#"{"call_count":95}"#.to_owned())];
    });
    // An answer that says so.
    world.profile(fresh_profile(&later.account_id, 0)).await.unwrap();
    world.make_due(&later.account_id).await;
    assert_eq!(world.round().await.attempts, 1);
    assert_eq!(world.happened(&soon.account_id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(world.happened(&later.account_id).await, "LINKED");
    world.controls.knobs(|knobs| knobs.headers.clear());
    world.advance(MINUTE * 6);
    assert_eq!(world.round().await.attempts, 1);
    assert_eq!(world.happened(&later.account_id).await, "LINKED TOKEN_REFRESHED");
}

#[tokio::test]
async fn a_row_that_does_not_open_is_left_alone_and_stops_nobody() {
    let world = World::start().await;
    let (broken, good) = (world.linked_number(0).await, world.linked_number(1).await);
    world.advance(26 * HOUR);
    world
        .meddle(format!("update accounts set next_refresh_time = to_timestamp({})", world.controls.now()))
        .await;
    world
        .meddle(format!(
            "update accounts set token = set_byte(token, 40, get_byte(token, 40) # 1) where account_id = '{}'",
            broken.account_id
        ))
        .await;
    assert_eq!(world.round().await.attempts, 2);
    assert_eq!(world.happened(&good.account_id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(world.account(&broken.account_id).await.unwrap().state(), State::Active);
    assert_eq!(world.round().await.attempts, 0);
    world.advance(Duration::from_mins(10));
    assert_eq!(world.round().await.attempts, 1, "the key may have come");
}

#[tokio::test]
async fn a_success_between_two_refusals_takes_the_first_one_back() {
    let mut world = World::start().await;
    world.expect_violations();
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    let strikes = "select num_nonnulls(strike_time, strike_reason) from accounts";
    world.advance(26 * HOUR);
    world.make_due(id).await;

    // The refresh is refused; then it is not, and the proof is: that is the first again.
    world.controls.fault_next(Endpoint::Refresh, graph(190, None));
    world.round().await;
    world.advance(13 * MINUTE);
    // Looked at again, it works, and is refreshed; the proof of the new one is refused.
    world.controls.fault_next(Endpoint::Me, Fault::Headers(Vec::new()));
    world.controls.fault_next(Endpoint::Me, graph(190, None));
    world.round().await;
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
    assert_eq!(world.look_up("select previous_token is not null from accounts").await, "true");
    world.advance(13 * MINUTE);
    world.round().await;
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));

    // A profile that is read well refutes a refusal, too.
    world.controls.fault_next(Endpoint::Me, graph(190, None));
    world.profile(fresh_profile(id, 0)).await.unwrap_err();
    assert_eq!(world.look_up(strikes).await, "2");
    world.advance(MINUTE);
    world.profile(fresh_profile(id, 0)).await.unwrap();
    assert_eq!(world.look_up(strikes).await, "0");
    world.advance(12 * MINUTE);
    world.controls.fault_next(Endpoint::Me, graph(190, None));
    world.round().await;
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
}

#[tokio::test]
async fn a_refused_token_that_is_being_replaced_is_no_strike_against_the_new_one() {
    let mut world = World::start().await;
    world.expect_violations();
    let linked = world.linked("user-1", "full").await;
    world.advance(26 * HOUR);
    world.make_due(&linked.account_id).await;
    world.controls.fault_times(Endpoint::Me, 3, Fault::Html502);
    world.round().await;
    assert_eq!(world.look_up("select previous_token is not null from accounts").await, "true");
    world.controls.fault_next(Endpoint::Me, graph(190, Some(467)));
    world.profile(fresh_profile(&linked.account_id, 0)).await.unwrap_err();
    assert_eq!(world.look_up("select strike_time is null from accounts").await, "true");
    world.advance(2 * MINUTE);
    world.round().await;
    assert_eq!(world.happened(&linked.account_id).await, "LINKED TOKEN_REFRESHED");
}

#[tokio::test]
async fn a_token_whose_refresh_is_under_way_is_not_ended_and_a_previous_one_that_lives_keeps_the_account() {
    let world = World::start().await;
    let (held, unproven) = (world.linked_number(0).await, world.linked_number(1).await);
    let now = world.controls.now();
    for (id, change) in [
        (&held.account_id, "refresh_lease_time = now() + interval '60 s'".to_owned()),
        (
            &unproven.account_id,
            format!(
                "previous_token = token, previous_token_refresh_time = token_refresh_time,
                 previous_token_expire_time = to_timestamp({now}) + interval '1 day'"
            ),
        ),
    ] {
        let dead = format!("token_expire_time = to_timestamp({now}) - interval '1 s'");
        world.meddle(format!("update accounts set {dead}, {change} where account_id = '{id}'")).await;
    }
    assert_eq!(world.round().await.expired, 0);
    world.meddle("update accounts set refresh_lease_time = null").await;
    assert_eq!(world.round().await.expired, 1);
    world.advance(DAY);
    assert_eq!(world.round().await.expired, 1);
}

#[tokio::test]
async fn a_token_that_works_is_not_ended_because_it_cannot_be_refreshed() {
    let world = World::start().await;
    world.controls.knobs(|knobs| knobs.private_refresh = false);
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.controls.make_private("full");
    world.advance(26 * HOUR);
    world.make_due(id).await;
    for _ in 0..6 {
        world.round().await;
        let account = world.account(id).await.unwrap();
        assert_eq!((account.state(), account.token_expire_time), (State::Active, linked.token_expire_time));
        world.token_of(&linked).await;
        world.advance(8 * HOUR);
    }
    assert_eq!(world.happened(id).await, "LINKED REFRESH_FAILING", "those who watch are told");
    // When it has died at last, that is why.
    world.advance(60 * DAY);
    world.round().await;
    assert_eq!(world.account(id).await.unwrap().state(), State::ReauthorizationRequired);
}
