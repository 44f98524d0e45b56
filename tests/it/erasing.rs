//! Whoever says "forget me" is forgotten, whatever else is going on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use threads_identity::clock::Clock as _;
use threads_identity::housekeeping::round;
use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::account_change::Kind;
use threads_identity::proto::v1::create_authorization_url_request::Link;
use threads_identity::proto::v1::{
    AuthorizationOutcome, EraseUserRequest, FetchAccessTokenRequest, OnConflict,
};
use threads_identity::simulator::{Endpoint, Fault, Persona};
use tonic::{Code, Status};

use crate::harness::{World, bad_fields, failed, link};
use crate::leaks::forbidden_in;
use crate::refreshing::{DAY, HOUR};
use crate::shorthand::{fresh_profile, token, until};

const SECOND: Duration = Duration::from_secs(1);
const USER: &str = "user-who-says-forget-me";

impl World {
    /// Has a user erased, as a caller; how many accounts were.
    async fn erase_as(&self, caller: &str, user_id: &str) -> Result<i32, Status> {
        let request = EraseUserRequest { user_id: user_id.to_owned() };
        self.accounts(caller).erase_user(request).await.map(|answer| answer.into_inner().erased_count)
    }

    async fn erase(&self, user_id: &str) -> i32 {
        self.erase_as("web", user_id).await.unwrap()
    }

    /// Takes an account over for a user.
    async fn taken_over(&self, user_id: &str, persona: &str) -> AuthorizationOutcome {
        let created =
            self.create_with(Link { on_conflict: OnConflict::Transfer.into(), ..link(user_id) }).await;
        let callback_url = self.consent(&created, persona);
        self.complete(&callback_url, user_id).await.unwrap().outcome()
    }

    /// A person of whom everything can be looked for.
    pub fn secretive(&self, number: u64) -> Persona {
        let person = Persona {
            name: Some(format!("Name That Goes {number}")),
            biography: Some(format!("biography-that-goes-{number}")),
            ..Persona::new(
                format!("goes-{number}"),
                format!("3000000000006666{number}"),
                format!("handle.that.goes.{number}"),
            )
        };
        self.controls.add_persona(person.clone());
        person
    }
}

#[tokio::test]
async fn nothing_of_a_user_is_left_whatever_state_the_accounts_were_in() {
    let world = World::start().await;
    let people: Vec<Persona> = (0..5).map(|number| world.secretive(number)).collect();
    let mut ids = Vec::new();
    for person in &people {
        let account = world.linked(USER, &person.key).await;
        let purpose = "purpose-that-goes".to_owned();
        let request = FetchAccessTokenRequest { purpose, ..token(&account.account_id, USER) };
        world.token(request).await.unwrap();
        ids.push(account.account_id.clone());
        if person.key == "goes-1" {
            world.unlink(&account).await;
        }
    }
    // One must consent again, one has a token that is not proven, one is another's by now.
    world.revoked(&ids[2]).await;
    world
        .meddle(format!(
            "update accounts set previous_token = token, previous_token_expire_time = token_expire_time,
                previous_token_refresh_time = token_refresh_time where account_id = '{}'",
            ids[3]
        ))
        .await;
    assert_eq!(world.taken_over("user-after", &people[4].key).await, AuthorizationOutcome::Transferred);
    // One attempt was denied, and one is presented for somebody else.
    let denied = world.create(USER).await;
    let url = format!("?error=access_denied&state={}", denied.state);
    failed(world.complete(&url, USER).await, Code::FailedPrecondition, "AUTHORIZATION_DENIED");
    let mismatched = world.create(USER).await;
    let url = world.consent(&mismatched, &people[0].key);
    failed(world.complete(&url, "user-other").await, Code::PermissionDenied, "SESSION_MISMATCH");
    let other = world.linked("user-other", "full").await;

    assert_eq!(world.erase(USER).await, 4);
    for id in &ids[..4] {
        failed(world.account(id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
    assert_eq!(world.account(&ids[4]).await.unwrap().user_id, "user-after");
    assert!(!world.token_of(&other).await.is_empty());

    // The user stands where those who watch hear of it, and nowhere else.
    let dump = world.dump().await;
    let lines = || dump.lines().filter(|line| !line.contains("ERASED") && !line.starts_with("erasures: "));
    let dump: String = lines().map(|line| format!("{line}\n")).collect();
    let mut gone = vec![USER.to_owned(), "purpose-that-goes".to_owned()];
    for person in &people[..4] {
        gone.extend([person.id.clone(), person.username.clone()]);
        gone.extend([person.name.clone().unwrap(), person.biography.clone().unwrap()]);
        assert!(forbidden_in(&dump, world.controls.issued_tokens(&person.key), "token"));
    }
    assert!(forbidden_in(&dump, gone, "name"));
    let sealed = "select count(*) from authorizations where short_lived_token is not null";
    assert_eq!(world.look_up(sealed).await, "0");
    let named = "select count(*) from audit where erasure_id is not null
                 and num_nonnulls(account_id, authorization_id, user_id, purpose) > 0";
    assert_eq!(world.look_up(named).await, "0");
    let told = "select string_agg(distinct app_id || ' ' || caller || ' ' || action, ', ') from audit
                where erasure_id is not null";
    assert_eq!(world.look_up(told).await, "default web ERASED_BY_CALLER");
    assert_eq!(world.look_up("select count(distinct erasure_id) from audit").await, "4");
    assert_eq!(world.look_up("select count(*) from erasures where cause = 'CALLER'").await, "4");
    // Whoever repeats a completion that had succeeded hears that the account is gone.
    let found =
        world.look_up("select count(*) from authorizations where failure_reason = 'ACCOUNT_NOT_FOUND'");
    assert_eq!(found.await, "5");
    world.advance(8 * DAY);
    round(&world.service).await.unwrap();
    assert!(!world.dump().await.contains(USER), "not even that watchers were told");
}

#[tokio::test]
async fn erasing_is_repeated_without_harm_and_reaches_no_other_user_and_no_other_app() {
    let world = World::start().await;
    let (one, other) = (world.linked(USER, "full").await, world.linked("user-other", "home").await);
    let elsewhere = world.fill("second", USER, 2).await;
    assert_eq!(world.erase("user-unknown").await, 0);
    assert_eq!(world.erase(USER).await, 1);
    let before = world.dump().await;
    assert_eq!(world.erase(USER).await, 0);
    assert_eq!(world.dump().await, before, "again changes nothing");
    failed(world.account(&one.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(world.account(&other.account_id).await.unwrap(), other);
    assert_eq!(world.look_up("select count(*) from accounts where app_id = 'second'").await, "2");
    assert_eq!(world.erase_as("second", USER).await.unwrap(), 2);
    assert_eq!(world.look_up("select count(*) from erasures").await, "3");
    assert_eq!(elsewhere.len(), 2);

    for bad in [String::new(), "x".repeat(129)] {
        assert_eq!(bad_fields(world.erase_as("web", &bad).await), ["user_id"]);
    }
    for role in ["link", "read", "sync", "token", "transfer"] {
        let refused = world.erase_as(&format!("only-{role}"), USER).await;
        failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    }
    assert_eq!(world.erase_as("only-erase", USER).await.unwrap(), 0);
}

#[tokio::test]
async fn those_who_watch_are_told_by_ids_alone() {
    let world = World::start().await;
    let account = world.linked(USER, "full").await;
    let mut of_user = world.watch_as("web", Some(USER), None).await.unwrap();
    of_user.message().await.unwrap();
    let (mut of_app, _) = world.watch().await;
    world.erase(USER).await;
    for watching in [&mut of_user, &mut of_app] {
        let (_, change) = watching.change().await;
        assert_eq!((change.kind(), &change.account_id), (Kind::Erased, &account.account_id));
        assert_eq!((change.user_id.as_str(), change.account), (USER, None));
    }
}

#[tokio::test]
async fn an_account_with_a_refresh_under_way_does_not_come_back() {
    let world = World::start().await;
    for (endpoint, comes_back) in
        [(Endpoint::Refresh, false), (Endpoint::Me, false), (Endpoint::Refresh, true), (Endpoint::Me, true)]
    {
        let linked = world.linked(USER, "full").await;
        world.advance(26 * HOUR);
        world.make_due(&linked.account_id).await;
        let at = world.controls.count(endpoint) + 1;
        world.controls.fault_next(endpoint, Fault::Delay(Duration::from_millis(700)));
        let erasing = async {
            world.controls.received(endpoint, at).await;
            assert_eq!(world.erase(USER).await, 1, "{endpoint:?}");
            world.advance(SECOND);
            if comes_back {
                // A new row under the same id, and due as well: its attempt is not the old one's.
                let again = world.linked("user-2", "full").await;
                world.meddle("update accounts set refresh_lease_time = now() + interval '1 minute'").await;
                let fetched = world.token_of(&again).await;
                assert_eq!(Some(&fetched), world.controls.newest_token("full").as_ref());
                return Some(fetched);
            }
            None
        };
        let (_, fetched) = tokio::join!(world.round(), erasing);
        if let Some(fetched) = fetched {
            assert_eq!(
                world.look_up("select count(*) from accounts where previous_token is not null").await,
                "0"
            );
            let again = world.account(&linked.account_id).await.unwrap();
            assert_eq!((again.user_id.as_str(), world.token_of(&again).await), ("user-2", fetched));
            assert_eq!(world.erase("user-2").await, 1);
        }
        assert_eq!(world.look_up("select count(*) from accounts").await, "0", "{endpoint:?}");
        world.advance(SECOND);
    }
}

#[tokio::test]
async fn a_profile_that_is_being_read_does_not_come_back() {
    let world = World::start().await;
    let linked = world.linked(USER, "full").await;
    let at = world.controls.count(Endpoint::Me) + 1;
    world.controls.fault_next(Endpoint::Me, Fault::Delay(Duration::from_millis(300)));
    let erasing = async {
        world.controls.received(Endpoint::Me, at).await;
        world.erase(USER).await
    };
    let (read, erased) = tokio::join!(world.profile(fresh_profile(&linked.account_id, 0)), erasing);
    assert_eq!(erased, 1);
    failed(read, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
}

#[tokio::test]
async fn a_completion_under_way_ends_and_a_newer_consent_links_afresh() {
    let world = World::start().await;
    for is_linked in [false, true] {
        if is_linked {
            world.linked(USER, "full").await;
            world.advance(SECOND);
        }
        let created = world.create(USER).await;
        let callback_url = world.consent(&created, "full");
        let at = world.controls.count(Endpoint::LongLivedExchange) + 1;
        world.controls.fault_next(Endpoint::LongLivedExchange, Fault::Delay(Duration::from_millis(500)));
        let erasing = async {
            world.controls.received(Endpoint::LongLivedExchange, at).await;
            world.until("select exists (select from authorizations where step = 'EXCHANGED')").await;
            world.advance(SECOND);
            world.erase(USER).await
        };
        let (completed, erased) = tokio::join!(world.complete(&callback_url, USER), erasing);
        assert_eq!(erased, i32::from(is_linked));
        failed(completed, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
        assert_eq!(world.look_up("select count(*) from accounts").await, "0");
        let left =
            "select count(*) from authorizations where user_id is not null or short_lived_token is not null";
        assert_eq!(world.look_up(left).await, "0");
        // The answer stays what it was.
        failed(world.complete(&callback_url, USER).await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
        let again = world.link(USER, "full").await.unwrap();
        assert_eq!(again.outcome(), AuthorizationOutcome::Linked);
        assert_eq!(world.erase(USER).await, 1);
        world.advance(SECOND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_fetch_under_way_leaves_no_name_behind() {
    let world = Arc::new(World::start().await);
    let linked = world.linked(USER, "full").await;
    let mut sql = world.sql().await;
    let lock = format!("begin; select from accounts where account_id = '{}' for update", linked.account_id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut sql).await.unwrap();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    // The erasure waits for the row, and the fetch behind it.
    let erasing = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.erase(USER).await }
    });
    until("the erasure waits", async || world.counted(waiting).await == 1).await;
    let fetching = tokio::spawn({
        let (world, id) = (Arc::clone(&world), linked.account_id.clone());
        async move { world.token(token(&id, USER)).await }
    });
    until("the fetch waits", async || world.counted(waiting).await == 2).await;
    sqlx::raw_sql("commit").execute(&mut sql).await.unwrap();
    assert_eq!(erasing.await.unwrap(), 1);
    failed(fetching.await.unwrap(), Code::NotFound, "ACCOUNT_NOT_FOUND");
    let named = "select count(*) from audit where user_id is not null or account_id is not null";
    assert_eq!(world.counted(named).await, 0);
}

#[tokio::test]
async fn a_consent_that_lies_before_an_end_and_is_completed_after_it_links_nobody() {
    let world = World::start().await;
    for (round, was_linked) in [false, true].into_iter().enumerate() {
        for (n, how) in ["erase", "unlink", "deauthorize", "delete"].into_iter().enumerate() {
            let (persona, user) = (format!("n{}", 10 * round + n), format!("user-{round}-{n}"));
            let person = Persona::numbered(u64::try_from(10 * round + n).unwrap());
            let id = person.id.clone();
            world.controls.add_persona(person);
            let linked = if was_linked { Some(world.linked(&user, &persona).await) } else { None };
            world.advance(Duration::from_mins(5));
            let created = world.create(&user).await;
            let callback_url = world.consent(&created, &persona);
            world.advance(Duration::from_secs(5));
            match (how, &linked) {
                ("erase", _) => assert_eq!(world.erase(&user).await, i32::from(was_linked)),
                ("unlink", Some(account)) => world.unlink(account).await,
                ("deauthorize", Some(_)) => {
                    world.deauthorized(&world.notice(&id, Some(world.controls.now()))).await;
                }
                ("delete", _) => drop(world.forgotten(&world.notice(&id, Some(world.controls.now()))).await),
                _ => continue,
            }
            world.advance(Duration::from_secs(5));
            let late = world.complete(&callback_url, &user).await;
            if how == "erase" && !was_linked {
                // Nobody knew whose Threads account it would be, so nothing was erased.
                assert!(late.is_ok(), "a user without accounts has nothing to be forgotten");
                continue;
            }
            failed(late, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
            // Who begins again is welcome.
            let again = world.link(&user, &persona).await.unwrap();
            assert_eq!(again.account.unwrap().state(), State::Active, "{how}");
        }
    }
}

#[tokio::test]
async fn an_older_consent_for_another_user_does_not_bring_the_account_back() {
    let world = World::start().await;
    world.linked(USER, "full").await;
    let created =
        world.create_with(Link { on_conflict: OnConflict::Transfer.into(), ..link("user-2") }).await;
    let callback_url = world.consent(&created, "full");
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-2").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    world.advance(SECOND);
    assert_eq!(world.erase(USER).await, 1);
    world.advance(SECOND);
    failed(world.complete(&callback_url, "user-2").await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
    assert_eq!(world.link("user-2", "full").await.unwrap().outcome(), AuthorizationOutcome::Linked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_waits_for_the_row_that_is_being_erased_looks_into_the_ledger_once_more() {
    use sqlx::Connection as _;
    let world = Arc::new(World::start().await);
    let linked = world.linked(USER, "full").await;
    let created =
        world.create_with(Link { on_conflict: OnConflict::Transfer.into(), ..link("user-2") }).await;
    let callback_url = world.consent(&created, "full");
    let id = &linked.account_id;
    let mut sql = world.sql().await;
    let mut erasing = sql.begin().await.unwrap();
    for statement in [
        format!("delete from accounts where account_id = '{id}'"),
        format!(
            "insert into erasures values ('{id}', 'default', '{}'::timestamptz + interval '1 s', 'CALLER')",
            world.clock.now()
        ),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *erasing).await.unwrap();
    }
    let linking = {
        let (world, callback_url) = (Arc::clone(&world), callback_url.clone());
        tokio::spawn(async move { world.complete(&callback_url, "user-2").await })
    };
    world
        .until(
            "select exists (select from pg_stat_activity
                            where datname = current_database() and wait_event_type = 'Lock')",
        )
        .await;
    erasing.commit().await.unwrap();
    failed(linking.await.unwrap(), Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_erasures_of_one_user_at_once_leave_all_of_it_or_nothing() {
    let world = Arc::new(World::start().await);
    let people: Vec<String> = (0..24).map(|number| Persona::numbered(number).key).collect();
    world.controls.add_personas((0..24).map(Persona::numbered));
    let links = people.iter().map(|person| {
        let (world, person) = (Arc::clone(&world), person.clone());
        async move {
            if let Err(status) = world.link(USER, &person).await {
                failed::<()>(Err(status), Code::FailedPrecondition, "ACCOUNT_UNLINKED");
            }
        }
    });
    let erasures = (0..8).map(|_| {
        let world = Arc::clone(&world);
        async move { world.erase(USER).await }
    });
    let (_, erased) = tokio::join!(join_all(links), join_all(erasures));
    let left = world.counted("select count(*) from accounts").await as i32;
    assert_eq!(world.erase(USER).await, left);
    let audited = world.counted("select count(*) from audit where action = 'ERASED_BY_CALLER'").await as i32;
    assert_eq!(erased.iter().sum::<i32>() + left, audited);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(world.look_up(deadlocks).await, "0");
    assert!(!world.dump().await.lines().any(|line| line.contains(USER) && !line.contains("ERASED")));
}

#[tokio::test]
async fn a_user_with_many_accounts_and_a_long_trail_is_erased_in_one_call() {
    let world = World::start().await;
    for (count, sum) in [(200, 200), (600, 600)] {
        let ids = world.fill("default", USER, count).await;
        world.meddle(format!(
            "insert into audit (app_id, account_id, user_id, caller, action, audit_time)
             select 'default', '{}', '{USER}', 'web', 'FETCH_ACCESS_TOKEN', '2026-03-01' from generate_series(1, 2300)",
            ids[0]
        ))
        .await;
        assert_eq!(world.erase(USER).await, sum);
        assert_eq!(world.look_up("select count(*) from audit where user_id is not null").await, "0");
    }
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
    assert_eq!(world.look_up("select count(*) from events where kind = 'ERASED'").await, "800");
}
