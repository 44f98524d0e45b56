//! A request to be forgotten, while everything else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use sqlx::Connection as _;
use threads_identity::clock::Clock as _;
use threads_identity::ids::ThreadsUserId;
use threads_identity::proto::v1::create_authorization_url_request::Link;
use threads_identity::proto::v1::{AuthorizationOutcome, FetchAccessTokenRequest, OnConflict};
use threads_identity::simulator::{Endpoint, Fault, Persona};
use tonic::Code;

use crate::harness::{World, failed, link};
use crate::meta::DATA_DELETION;
use crate::refreshing::HOUR;
use crate::shorthand::token;

const SECOND: Duration = Duration::from_secs(1);

/// Numbers that look random, and are the same every time.
struct Dice(AtomicU64);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        let n = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % sides
    }

    /// A start at some moment.
    async fn shake(&self) {
        tokio::time::sleep(Duration::from_micros(self.roll(12_000))).await;
    }
}

/// The rows of an account that its newest erasure should have ended.
async fn survivors(world: &World, account_id: &str) -> String {
    world
        .look_up(format!(
            "select count(*) from accounts a join erasures e using (account_id)
             where a.account_id = '{account_id}' and a.authorize_time < e.erase_time"
        ))
        .await
}

/// A person, perhaps linked.
struct Subject {
    number: u64,
    key: String,
    threads_id: String,
    user: String,
    account_id: String,
}

impl Subject {
    async fn new(world: &World, dice: &Dice, number: u64) -> Self {
        let persona = Persona::numbered(number);
        let id = ThreadsUserId::parse(&persona.id).unwrap();
        let account_id = world.service.keyring.id_key().account_id("default", &id).to_string();
        let (key, threads_id, user) = (persona.key.clone(), persona.id.clone(), format!("user-{number}"));
        world.controls.add_persona(persona);
        if dice.roll(4) > 0 {
            assert_eq!(world.linked(&user, &key).await.account_id, account_id);
        }
        Self { number, key, threads_id, user, account_id }
    }
}

/// At once: a token is fetched and must be refreshed for it, the refresher comes by,
/// an older consent is completed, a newer one is given, and the person asks to be
/// forgotten.
async fn interleave(world: &World, dice: &Dice, subject: &Subject) {
    let Subject { number, key, threads_id, user, account_id } = subject;
    let transfer = || Link { on_conflict: OnConflict::Transfer.into(), ..link(user) };
    let older = world.create_with(transfer()).await;
    let callback_url = world.consent(&older, key);
    world.make_due(account_id).await;
    world.advance(Duration::from_millis(1));

    let fetching = async {
        dice.shake().await;
        let minimum_lifetime = Some(prost_types::Duration { seconds: 24 * 3600, nanos: 0 });
        let _ = world.token(FetchAccessTokenRequest { minimum_lifetime, ..token(account_id, user) }).await;
    };
    let refreshing = async {
        dice.shake().await;
        world.round().await;
    };
    let completing = async {
        dice.shake().await;
        let _ = world.complete(&callback_url, user).await;
    };
    let consenting = async {
        if dice.roll(3) == 0 {
            dice.shake().await;
            let _ = world.link(user, key).await;
        }
    };
    let forgetting = async {
        dice.shake().await;
        world.advance(Duration::from_millis(1));
        let notice = world.notice(threads_id, Some(world.controls.now()));
        world.forgotten(&notice).await;
        assert_eq!(survivors(world, account_id).await, "0", "{number}: when it is acknowledged");
    };
    tokio::join!(fetching, refreshing, completing, consenting, forgetting);
    assert_eq!(survivors(world, account_id).await, "0", "{number}: when all has ended");
}

/// So many persons, a crowd at a time and some of them at once.
async fn interleavings(count: u64) {
    const CROWD: u64 = 50;
    let world = World::start().await;
    let dice = Dice(AtomicU64::new(1));
    let mut came_back = 0;
    for crowd in 0..count / CROWD {
        let numbers = crowd * CROWD..(crowd + 1) * CROWD;
        let coming = numbers.map(|number| Subject::new(&world, &dice, number));
        let crowd: Vec<Subject> = stream::iter(coming).buffer_unordered(8).collect().await;
        // Old enough to be refreshed.
        world.advance(26 * HOUR);
        let all = crowd.iter().map(|subject| interleave(&world, &dice, subject));
        stream::iter(all).buffer_unordered(8).collect::<Vec<()>>().await;
        // What is left consented after it was forgotten, and works.
        let rows = "select coalesce(string_agg(account_id || ' ' || user_id, ','), '') from accounts";
        let rows = world.look_up(rows).await;
        for (account_id, user) in rows.split(',').filter_map(|row| row.split_once(' ')) {
            world.token(token(account_id, user)).await.unwrap();
            came_back += 1;
        }
        world.meddle("delete from accounts").await;
        let open = "select count(*) from authorizations where state = 'IN_PROGRESS' or short_lived_token is not null";
        assert_eq!(world.look_up(open).await, "0");
    }
    assert!((1..count).contains(&came_back), "{came_back} of {count} came back");
    let recorded = world.counted("select count(*) from deletion_requests where state = 'COMPLETED'").await;
    assert_eq!(u64::try_from(recorded).unwrap(), count);
    println!("{count} were forgotten, {came_back} of them consented again meanwhile and stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_forgotten_stays_forgotten_whatever_is_under_way() {
    interleavings(250).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run it by name"]
async fn ten_thousand_who_are_forgotten_stay_forgotten() {
    interleavings(10_000).await;
}

/// Holds the lock at which a link and an erasure meet, until it is dropped.
async fn meeting_point(world: &World, account_id: &str) -> sqlx::PgConnection {
    let mut sql = sqlx::PgConnection::connect(world.database_url()).await.unwrap();
    let lock = format!("select pg_advisory_lock(uuid_hash_extended('{account_id}', 0))");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut sql).await.unwrap();
    sql
}

const WAITING: [&str; 2] = [
    "select count(*) >= 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    "select count(*) >= 2 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_link_and_a_request_that_cannot_see_each_other_meet_at_a_lock() {
    for is_link_first in [true, false] {
        let world = Arc::new(World::start().await);
        // Then nothing leads from the person to the link but the lock.
        world.controls.knobs(|knobs| knobs.user_id = threads_identity::simulator::UserId::Absent);
        let persona = Persona::numbered(1);
        let id = ThreadsUserId::parse(&persona.id).unwrap();
        let account_id = world.service.keyring.id_key().account_id("default", &id).to_string();
        let (key, threads_id) = (persona.key.clone(), persona.id.clone());
        world.controls.add_persona(persona);
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, &key);
        let held = meeting_point(&world, &account_id).await;

        let complete = {
            let (world, callback_url) = (Arc::clone(&world), callback_url.clone());
            async move { world.complete(&callback_url, "user-1").await }
        };
        let forget = {
            let world = Arc::clone(&world);
            async move {
                let notice = world.notice(&threads_id, Some(world.controls.now()));
                world.tell(DATA_DELETION, &notice).await.status
            }
        };
        let (linking, forgetting);
        if is_link_first {
            linking = tokio::spawn(complete);
            world.until(WAITING[0]).await;
            world.advance(SECOND);
            forgetting = tokio::spawn(forget);
        } else {
            let at = world.controls.count(Endpoint::LongLivedExchange) + 1;
            world.controls.fault_next(Endpoint::LongLivedExchange, Fault::Delay(Duration::from_millis(300)));
            linking = tokio::spawn(complete);
            world.controls.received(Endpoint::LongLivedExchange, at).await;
            world.advance(SECOND);
            forgetting = tokio::spawn(forget);
        }
        world.until(WAITING[1]).await;
        held.close().await.unwrap();
        let completed = linking.await.unwrap();
        assert_eq!(forgetting.await.unwrap(), reqwest::StatusCode::OK);
        if is_link_first {
            assert_eq!(completed.unwrap().outcome(), AuthorizationOutcome::Linked);
        } else {
            failed(completed, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
        }
        assert_eq!(world.look_up("select count(*) from accounts").await, "0", "link first: {is_link_first}");
        let again = world.link("user-1", &key).await.unwrap();
        assert_eq!(again.outcome(), AuthorizationOutcome::Linked);
        assert!(world.clock.now() > crate::harness::START);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_many_times_at_once_is_one() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let request = world.notice_of(&linked);
    let codes = futures_util::future::join_all((0..40).map(|_| world.forgotten(&request))).await;
    assert!(codes.iter().all(|code| *code == codes[0]));
    assert_eq!(world.look_up("select count(*) from deletion_requests").await, "1");
    assert_eq!(world.look_up("select count(*) from audit where caller = 'meta'").await, "1");
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(world.look_up(deadlocks).await, "0");
    assert_eq!(world.happened(&linked.account_id).await, "LINKED ERASED");
}
