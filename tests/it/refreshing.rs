//! Tokens that are kept alive: when they are due, what an attempt does, and what
//! is left when it is cut short.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use threads_identity::clock::{Clock, SystemClock};
use threads_identity::config::Config;
use threads_identity::proto::v1::Account;
use threads_identity::proto::v1::account::{State, StateReason};
use threads_identity::refresher::{self, Round};
use threads_identity::service::Service;
use threads_identity::simulator::{Endpoint, ExpiresIn, Fault, OldToken, Persona, RefreshAnswers};
use time::OffsetDateTime;
use tonic::Code;

use crate::harness::{Wishes, World, failed, metadata};
use crate::shorthand::{profile, token, until};

pub const HOUR: Duration = Duration::from_hours(1);
pub const DAY: Duration = Duration::from_hours(24);
pub const MINUTE: Duration = Duration::from_mins(1);

impl World {
    /// One round of the refresher.
    pub async fn round(&self) -> Round {
        refresher::round(&self.service).await.unwrap()
    }

    /// What has happened to an account, oldest first.
    pub async fn happened(&self, account_id: &str) -> String {
        let kinds = "select coalesce(string_agg(kind, ' ' order by event_id), '') from events";
        self.look_up(format!("{kinds} where account_id = '{account_id}'")).await
    }

    /// Makes an account due now.
    pub async fn make_due(&self, account_id: &str) {
        let now = self.controls.now();
        let due = format!("update accounts set next_refresh_time = to_timestamp({now})");
        self.meddle(format!("{due} where account_id = '{account_id}'")).await;
    }

    /// Links a person made up for it.
    pub async fn linked_number(&self, number: u64) -> Account {
        let persona = Persona::numbered(number);
        let key = persona.key.clone();
        self.controls.add_persona(persona);
        self.linked(&format!("user-{number}"), &key).await
    }
}

#[tokio::test]
async fn a_token_is_refreshed_once_it_is_due_and_not_before() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    let first = world.token_of(&linked).await;
    let (mut days, mut round) = (0, world.round().await);
    while round.attempts == 0 {
        world.advance(DAY);
        days += 1;
        assert!(days <= 40, "due at half of its life, ten days later at most");
        round = world.round().await;
    }
    assert!(days >= 20, "due at half of its life, ten days earlier at most");
    assert_eq!(round, Round { attempts: 1, ..Round::default() });
    assert_eq!(world.round().await, Round::default(), "once");

    let newest = world.controls.newest_token("full").unwrap();
    assert_ne!(newest, first);
    assert_eq!(world.token_of(&linked).await, newest);
    let account = world.account(id).await.unwrap();
    assert_eq!(account.state(), State::Active);
    assert_eq!(account.token_refresh_time.unwrap().seconds, world.controls.now());
    assert_eq!(account.token_expire_time.unwrap().seconds, world.controls.now() + 5_183_944);
    assert_eq!(account.create_time, linked.create_time);
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(
        world.look_up("select num_nonnulls(previous_token, refresh_lease_time) from accounts").await,
        "0"
    );
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
}

#[tokio::test]
async fn the_life_of_a_token_is_what_threads_says() {
    let world = World::start().await;
    // Six days: due after two to four.
    world.controls.knobs(|knobs| {
        (knobs.long_lifetime, knobs.expires_in) = (6 * 86_400, ExpiresIn::Real);
    });
    let linked = world.linked("user-1", "full").await;
    world.advance(2 * DAY - MINUTE);
    assert_eq!(world.round().await.attempts, 0);
    world.advance(2 * DAY + MINUTE);
    assert_eq!(world.round().await.attempts, 1);
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);

    // A day: old enough only after it has died.
    world.controls.knobs(|knobs| knobs.long_lifetime = 86_400);
    let short = world.linked("user-2", "bare").await;
    world.advance(DAY + HOUR);
    let round = world.round().await;
    assert_eq!((round.expired, round.attempts), (1, 0));
    let ended = world.account(&short.account_id).await.unwrap();
    assert_eq!(
        (ended.state(), ended.state_reason()),
        (State::ReauthorizationRequired, StateReason::TokenExpired)
    );
    assert_eq!(world.happened(&short.account_id).await, "LINKED REAUTHORIZATION_REQUIRED");
}

#[tokio::test]
async fn a_refresh_keeps_the_profile_fresh() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.controls.rename("full", "maya_new");
    world.advance(26 * HOUR);
    world.make_due(&id).await;
    world.round().await;
    let read = world.profile(profile(&id, None)).await.unwrap();
    assert_eq!(read.fetch_time.unwrap().seconds, world.controls.now());
    assert_eq!(read.profile.unwrap().username.as_deref(), Some("maya_new"));
    assert_eq!(world.happened(&id).await, "LINKED TOKEN_REFRESHED PROFILE_CHANGED");
}

#[tokio::test]
async fn a_platform_that_answers_with_the_same_token_or_ends_the_old_one_is_fine() {
    let world = World::start().await;
    for (number, (answers, old)) in [
        (RefreshAnswers::Same, OldToken::Kept),
        (RefreshAnswers::New, OldToken::Revoked),
        (RefreshAnswers::New, OldToken::Kept),
    ]
    .into_iter()
    .enumerate()
    {
        world.controls.knobs(|knobs| (knobs.refresh_answers, knobs.old_token) = (answers, old));
        let linked = world.linked_number(number as u64).await;
        for _ in 0..3 {
            world.advance(26 * HOUR);
            world.make_due(&linked.account_id).await;
            assert_eq!(world.round().await.attempts, 1);
        }
        let newest = world.controls.newest_token(&format!("n{number}"));
        assert_eq!(Some(world.token_of(&linked).await), newest);
        world.unlink(&linked).await;
    }
}

#[tokio::test]
async fn until_it_is_proven_the_token_before_is_handed_out_and_nothing_is_refreshed_twice() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let (id, first) = (linked.account_id.as_str(), world.token_of(&linked).await);
    world.advance(26 * HOUR);
    world.make_due(id).await;
    world.controls.fault_times(Endpoint::Me, 30, Fault::Html502);
    // Refreshed, but Threads does not say whose the new token is.
    for (round, later) in [0, 2, 7, 20, 90].into_iter().enumerate() {
        world.advance(MINUTE * later);
        assert_eq!(world.round().await.attempts, 1, "round {round}");
        assert_eq!(world.token_of(&linked).await, first);
        assert_eq!(world.controls.count(Endpoint::Refresh), 1, "never twice");
    }
    assert_eq!(world.happened(id).await, "LINKED");
    world.controls.clear_faults();
    world.advance(2 * HOUR);
    world.round().await;
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
    assert_ne!(world.token_of(&linked).await, first);
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED");
}

#[tokio::test]
async fn a_new_token_that_threads_refuses_twice_gives_way_to_the_one_before() {
    let mut world = World::start().await;
    world.expect_violations();
    let linked = world.linked("user-1", "full").await;
    let (id, first) = (linked.account_id.as_str(), world.token_of(&linked).await);
    world.advance(26 * HOUR);
    world.make_due(id).await;
    let refusal = Fault::Graph {
        status: 400,
        code: 190,
        subcode: None,
        kind: "OAuthException".to_owned(),
        transient: None,
    };
    world.controls.fault_next(Endpoint::Me, refusal.clone());
    world.round().await;
    assert_eq!(world.look_up("select previous_token is not null from accounts").await, "true");
    assert_eq!(world.token_of(&linked).await, first);
    world.advance(13 * MINUTE);
    world.controls.fault_next(Endpoint::Me, refusal);
    world.round().await;
    assert_eq!(
        world.look_up("select previous_token is null and strike_time is null from accounts").await,
        "true"
    );
    assert_eq!(world.token_of(&linked).await, first, "the one before works and is back");
    assert_eq!(world.account(id).await.unwrap().state(), State::Active);
    // And it is refreshed again.
    world.advance(2 * HOUR);
    world.round().await;
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED");
}

#[tokio::test]
async fn a_refreshed_token_of_somebody_else_is_destroyed_and_the_account_put_in_quarantine() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    let before = world.profile(profile(id, None)).await.unwrap();
    let sealed = world.look_up("select token from accounts").await;
    world.advance(26 * HOUR);
    world.make_due(id).await;
    world.controls.knobs(|knobs| knobs.me_id = Some("30000000000000009".to_owned()));
    world.round().await;
    let account = world.account(id).await.unwrap();
    assert_eq!(
        (account.state(), account.state_reason()),
        (State::ReauthorizationRequired, StateReason::IdentityMismatch)
    );
    let details =
        failed(world.token(token(id, "user-1")).await, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
    assert_eq!(metadata(&details)["state_reason"], "IDENTITY_MISMATCH");
    assert_eq!(
        world.look_up("select token from accounts").await,
        sealed,
        "the old one is kept, and not handed out"
    );
    assert_eq!(world.look_up("select previous_token is null from accounts").await, "true");
    assert_eq!(world.happened(id).await, "LINKED REAUTHORIZATION_REQUIRED");
    let after = world.profile(profile(id, None)).await.unwrap();
    assert_eq!(after.profile, before.profile, "and the profile is still the person's own");
    assert_eq!(world.round().await.attempts, 0);

    // The person's consent brings it back.
    world.controls.knobs(|knobs| knobs.me_id = None);
    let again = world.link("user-1", "full").await.unwrap().account.unwrap();
    assert_eq!(again.state(), State::Active);
    assert_eq!(Some(world.token_of(&again).await), world.controls.newest_token("full"));
}

#[tokio::test]
async fn a_consent_or_an_unlinking_while_it_is_refreshed_has_the_last_word() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    for endpoint in [Endpoint::Refresh, Endpoint::Me] {
        let at = world.controls.count(endpoint) + 1;
        world.advance(26 * HOUR);
        world.make_due(id).await;
        world.controls.fault_next(endpoint, Fault::Delay(Duration::from_millis(700)));
        let consent = async {
            world.controls.received(endpoint, at).await;
            world.link("user-1", "full").await.unwrap()
        };
        let (_, relinked) = tokio::join!(world.round(), consent);
        // Issued after the refreshed one, whose answer was held back.
        let newest = world.controls.newest_token("full");
        assert_eq!(Some(world.token_of(&relinked.account.unwrap()).await), newest, "{endpoint:?}");
        assert_eq!(
            world.look_up("select num_nonnulls(previous_token, refresh_lease_time) from accounts").await,
            "0",
            "{endpoint:?}"
        );
    }
    world.advance(26 * HOUR);
    world.make_due(id).await;
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_millis(500)));
    let unlinking = async {
        let seen = world.controls.count(Endpoint::Refresh);
        world.controls.received(Endpoint::Refresh, seen + 1).await;
        world.unlink(&linked).await;
    };
    tokio::join!(world.round(), unlinking);
    assert_eq!(world.account(id).await.unwrap().state(), State::Unlinked);
    assert_eq!(
        world.look_up("select num_nonnulls(token, previous_token, username) from accounts").await,
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_with_a_lease_costs_one_lease() {
    let world = World::with(Wishes { config: LEASE, ..Wishes::default() }).await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    for (round, endpoint) in [Endpoint::Refresh, Endpoint::Me].into_iter().enumerate() {
        world.advance(26 * HOUR);
        world.make_due(id).await;
        let seen = world.controls.count(endpoint);
        world.controls.fault_next(endpoint, Fault::HangBeforeAnswer);
        let other = world.mortal(Wishes { config: LEASE, refresher: true, ..Wishes::default() }).await;
        world.controls.received(endpoint, seen + 1).await;
        drop(other);
        world.controls.clear_faults();
        assert_eq!(world.round().await.attempts, 0, "the lease of the dead one still holds");
        until("the lease has run out and the token is refreshed", async || {
            world.round().await;
            world.happened(id).await == format!("LINKED{}", " TOKEN_REFRESHED".repeat(round + 1))
        })
        .await;
        assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
    }
}

const LEASE: &str = "[refresh]\nlease = \"7s\"\nattempt_timeout = \"6s\"\npoll_interval = \"50ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_refreshed_and_not_proven_when_its_replica_died_is_proven_by_another() {
    let world = World::with(Wishes { config: LEASE, ..Wishes::default() }).await;
    let linked = world.linked("user-1", "full").await;
    world.advance(26 * HOUR);
    world.make_due(&linked.account_id).await;
    world.controls.fault_next(Endpoint::Me, Fault::HangBeforeAnswer);
    let other = world.mortal(Wishes { config: LEASE, refresher: true, ..Wishes::default() }).await;
    world.until("select exists (select from accounts where previous_token is not null)").await;
    drop(other);
    until("another replica proves it", async || {
        // On a busy machine it may have given up by itself before it died: then the next
        // try is a minute away.
        world.advance(Duration::from_secs(5));
        world.round().await;
        world.happened(&linked.account_id).await == "LINKED TOKEN_REFRESHED"
    })
    .await;
    assert_eq!(world.controls.count(Endpoint::Refresh), 1, "refreshed once in all");
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_calls_hang_keeps_no_other_app_waiting() {
    let world = World::with(Wishes { config: LEASE, refresher: true, ..Wishes::default() }).await;
    let linked = world.linked("user-1", "full").await;
    let (other, _) = crate::apps::link_as(&world, "second", "user-1", "home").await;
    world.advance(26 * HOUR);
    world.controls.fault_next(Endpoint::Refresh, Fault::HangBeforeAnswer);
    world.make_due(&linked.account_id).await;
    world.controls.received(Endpoint::Refresh, 1).await;
    world.make_due(&other.account_id).await;
    until("the other app's token is refreshed", async || {
        world.happened(&other.account_id).await == "LINKED TOKEN_REFRESHED"
    })
    .await;
    let hangs = "refresh_lease_time is not null and previous_token is null";
    let query = format!("select {hangs} from accounts where account_id = '{}'", linked.account_id);
    assert_eq!(world.look_up(query).await, "true", "the first one hangs meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_beside_each_other_refresh_each_token_once() {
    let world = World::start().await;
    let mut accounts = Vec::new();
    for number in 0..60 {
        accounts.push(world.linked_number(number).await);
    }
    let (second, third) = (world.replica().await, world.replica().await);
    world.advance(26 * HOUR);
    world
        .meddle(format!("update accounts set next_refresh_time = to_timestamp({})", world.controls.now()))
        .await;
    let (one, two, three) = tokio::join!(world.round(), second.round(), third.round());
    assert_eq!(one.attempts + two.attempts + three.attempts, 60);
    assert_eq!(world.controls.count(Endpoint::Refresh), 60);
    for (number, account) in accounts.iter().enumerate() {
        let newest = world.controls.newest_token(&format!("n{number}"));
        assert_eq!(Some(second.token_of(account).await), newest);
    }
    // What travels together: far fewer statements than attempts.
    let statements = world.metric("threads_identity_batches_total{batch=\"refresh_claims\"}").await;
    let claims = world.metric("threads_identity_batch_rows_total{batch=\"refresh_claims\"}").await;
    assert!(statements < claims / 2.0, "{statements} statements for {claims} claims");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_a_moment_does_not_lose_the_new_token() {
    let database = crate::harness::database().await;
    let proxy = crate::proxy::Proxy::start(database.url()).await;
    let url = proxy.url();
    let wishes = Wishes { database: Some(database), database_url: Some(url), ..Wishes::default() };
    let world = World::with(wishes).await;
    let linked = world.linked("user-1", "full").await;
    world.advance(26 * HOUR);
    world.make_due(&linked.account_id).await;
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_millis(500)));
    let away = async {
        world.controls.received(Endpoint::Refresh, 1).await;
        proxy.cut();
        // Until well after the new token has come.
        world.controls.received(Endpoint::Refresh, 1).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.heal();
    };
    // What else a round looks for may meet the cut and fail; the refresh is what counts.
    let (_, ()) = tokio::join!(refresher::round(&world.service), away);
    assert_eq!(world.controls.count(Endpoint::Refresh), 1);
    assert_eq!(world.happened(&linked.account_id).await, "LINKED TOKEN_REFRESHED");
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_lease_leaves_the_token_and_has_it_refreshed_early() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = &linked.account_id;
    world.advance(26 * HOUR);
    world.make_due(id).await;
    // One replica hangs in its call for as long as its lease, as a frozen one would.
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_secs(2)));
    let taken_over = async {
        world.controls.received(Endpoint::Refresh, 1).await;
        world.meddle("update accounts set refresh_lease_time = now() - interval '1 second'").await;
        let other = world.replica().await;
        assert_eq!(other.round().await.attempts, 1);
        world.token_of(&linked).await
    };
    let (late, stored) = tokio::join!(world.round(), taken_over);
    assert_eq!((late.attempts, world.controls.count(Endpoint::Refresh)), (1, 2));
    assert_eq!(world.token_of(&linked).await, stored, "the late one writes no token");
    // Which of the two Threads gave last cannot be told, so the next comes as soon as it may.
    world.advance(24 * HOUR);
    assert_eq!(world.round().await.attempts, 0, "Threads refuses a younger token");
    world.advance(2 * HOUR);
    assert_eq!(world.round().await.attempts, 1);
    assert_eq!(Some(world.token_of(&linked).await), world.controls.newest_token("full"));
    assert_eq!(world.happened(id).await, "LINKED TOKEN_REFRESHED TOKEN_REFRESHED");
}

/// A real clock that has jumped sixty-one days ahead.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + 61 * DAY
    }
}

#[tokio::test]
async fn a_clock_that_has_jumped_ahead_takes_no_token_for_dead() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let toml = format!(
        "[[apps]]\nid = \"default\"\nclient_id = \"1\"\nclient_secret = \"s\"\nredirect_uris = [\"https://a.example/\"]\n\
         graph_url = \"{}\"\n",
        world.simulator_url()
    );
    let environment = [
        ("THREADS_IDENTITY__DATABASE__URL", world.database_url()),
        ("THREADS_IDENTITY__KEYS__VALUE", &world.keyring),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&toml, Path::new(""), environment).unwrap();
    let service = Arc::new(Service::new(&config, Arc::new(Ahead)).unwrap());
    assert_eq!(refresher::round(&service).await.unwrap(), Round::default());
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);
}
