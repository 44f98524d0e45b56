//! The process is killed at random moments of linking, and begins anew.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use threads_identity::proto::v1::Account;
use threads_identity::simulator::{Decision, Endpoint, Fault, Persona};
use tokio::time::sleep;

use crate::world::{PATIENCE, World, asked_for, between, is_passing, reason};

/// How many services are killed side by side, at length.
const SERVICES: u64 = 4;
/// How many link at once.
const AT_ONCE: u64 = 8;
/// What Threads takes for an answer, so that a kill finds something under way.
const ANSWER: Duration = Duration::from_millis(15);
/// Of so many people one says no, and one is brought back by another user.
const DENIES: u64 = 7;
const STOLEN: u64 = 11;

/// F28 and F29, in short.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_whole_however_often_the_process_is_killed() {
    kill(50).await;
}

/// The same at length: `just kill-links 10000`, an hour or so. Several services, each with a
/// Postgres of its own, are killed side by side: most of a kill is waiting.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is asked to"]
async fn links_are_whole_however_often_the_process_is_killed_at_length() {
    let times = asked_for("THREADS_IDENTITY_TIMES", 1000);
    join_all((0..SERVICES).map(|number| kill(times / SERVICES + u64::from(number < times % SERVICES)))).await;
}

/// What came of the people who took part.
#[derive(Default)]
struct Told {
    linked: Vec<Account>,
    /// Those who said no, or whose flow somebody else tried to end.
    refused: u64,
    /// Flows that had to be begun anew.
    anew: u64,
    /// Calls that were repeated.
    repeated: u64,
}

async fn kill(times: u64) {
    let world = World::start().await;
    world.people(1);
    world.until_ready().await;
    let delays = [Endpoint::CodeExchange, Endpoint::LongLivedExchange, Endpoint::Me];
    for endpoint in delays {
        let often = usize::try_from(times).unwrap() * 1000;
        world.controls.fault_times(endpoint, often, Fault::Delay(ANSWER));
    }
    let start = Instant::now();
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let strikes = async {
        for number in 0..times {
            // Anywhere between its start and some links later; every other time not before it
            // serves, however long that takes on a machine that has much else to do.
            if number % 2 == 0 {
                world.until_ready().await;
            }
            sleep(between(20, 700)).await;
            let mut replica = world.replica.lock().await;
            replica.kill();
            replica.run();
        }
        over.store(true, Ordering::SeqCst);
    };
    let clients = join_all((0..AT_ONCE).map(|_| press_on(&world, &next, &over)));
    let (told, ()) = tokio::join!(clients, strikes);
    let struck = start.elapsed();
    let mut all = Told::default();
    for one in told {
        all.linked.extend(one.linked);
        all.refused += one.refused;
        all.anew += one.anew;
        all.repeated += one.repeated;
    }
    // What was interrupted is finished by itself; nothing stays in progress.
    let in_progress = "select count(*) from authorizations where state = 'IN_PROGRESS'";
    let deadline = Instant::now() + 3 * PATIENCE;
    while world.counted(in_progress).await > 0 {
        assert!(Instant::now() < deadline, "an authorization stays in progress\n{}", world.log());
        sleep(Duration::from_millis(250)).await;
    }
    eprintln!(
        "{times} kills in {struck:.0?}: {} linked, {} refused, {} flows begun anew, {} calls repeated; all done \
         after {:.0?}",
        all.linked.len(),
        all.refused,
        all.anew,
        all.repeated,
        start.elapsed()
    );
    judge(&world, &all).await;
    world.end().await;
}

/// One client: links one person after the other, whatever happens.
async fn press_on(world: &World, next: &AtomicU64, over: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !over.load(Ordering::SeqCst) {
        let person = next.fetch_add(1, Ordering::SeqCst);
        world.controls.add_persona(Persona::numbered(person));
        let user_id = format!("user-{person}");
        if person % DENIES == 1 {
            let callback_url = answered(world, &mut told, &user_id, person, Decision::Deny).await;
            let refused = completed(world, &mut told, &callback_url, &user_id).await.unwrap_err();
            assert!(matches!(refused.as_str(), "AUTHORIZATION_DENIED"), "{refused}");
            told.refused += 1;
        } else if person % STOLEN == 2 {
            let callback_url = answered(world, &mut told, &user_id, person, Decision::Allow).await;
            let refused = completed(world, &mut told, &callback_url, "thief").await.unwrap_err();
            assert_eq!(refused, "SESSION_MISMATCH");
            let refused = completed(world, &mut told, &callback_url, &user_id).await.unwrap_err();
            assert_eq!(refused, "AUTHORIZATION_CLOSED", "the code is never spent");
            told.refused += 1;
        } else {
            loop {
                let callback_url = answered(world, &mut told, &user_id, person, Decision::Allow).await;
                match completed(world, &mut told, &callback_url, &user_id).await {
                    Ok(account) => {
                        told.linked.push(account);
                        break;
                    }
                    Err(reason) => {
                        assert_eq!(reason, "AUTHORIZATION_INTERRUPTED");
                        told.anew += 1;
                    }
                }
            }
        }
    }
    told
}

async fn answered(world: &World, told: &mut Told, user_id: &str, person: u64, decision: Decision) -> String {
    loop {
        match world.answered(user_id, person, decision).await {
            Ok(callback_url) => return callback_url,
            Err(status) => assert!(is_passing(&status), "{status:?}"),
        }
        told.repeated += 1;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Repeats a completion for as long as the API says so; the account, or the reason
/// of the last word.
async fn completed(
    world: &World,
    told: &mut Told,
    callback_url: &str,
    user_id: &str,
) -> Result<Account, String> {
    let start = Instant::now();
    loop {
        match world.complete(callback_url, user_id).await {
            Ok(account) => return Ok(account),
            Err(status) if !is_passing(&status) => return Err(reason(&status)),
            Err(status) => assert!(start.elapsed() < 3 * PATIENCE, "{status:?}\n{}", world.log()),
        }
        told.repeated += 1;
        sleep(Duration::from_millis(50)).await;
    }
}

/// The invariants, as far as they concern linking.
async fn judge(world: &World, told: &Told) {
    // Every acknowledged link is there with the newest token and with one event, and
    // nobody else's: not who denied, not whose flow another user brought back.
    world.require_links(&told.linked).await;
    let ids: HashSet<&String> = told.linked.iter().map(|account| &account.account_id).collect();
    assert_eq!(ids.len(), told.linked.len(), "each person is one account");
    assert_eq!(world.counted("select count(*) from events where kind <> 'LINKED'").await, 0);
    let succeeded = "select count(*) from authorizations where state = 'SUCCEEDED'";
    assert_eq!(world.counted(succeeded).await, i64::try_from(told.linked.len()).unwrap());
    let orphans = "select count(*) from events e left join accounts a using (account_id)
                   where a.account_id is null or a.user_id <> e.user_id";
    assert_eq!(world.counted(orphans).await, 0);
    let left = "select count(*) from authorizations where short_lived_token is not null";
    assert_eq!(world.counted(left).await, 0, "no short-lived token outlives its authorization");
    // Each code was presented at most once.
    let mut presented: HashMap<String, u32> = HashMap::new();
    for entry in world.controls.ledger() {
        if let (Endpoint::CodeExchange, Some(code)) = (entry.endpoint, &entry.code) {
            *presented.entry(code.to_string()).or_default() += 1;
        }
    }
    assert!(presented.values().all(|times| *times == 1));
    assert_eq!(world.controls.violations(), Vec::<String>::new());
    // No secret is in the log.
    let log = fs::read_to_string(world.home.path.join("replica.log")).unwrap();
    for code in world.controls.issued_codes() {
        assert!(!log.contains(&code), "a code is in the log");
    }
    for account in &told.linked {
        let person: u64 = account.user_id.trim_start_matches("user-").parse().unwrap();
        for token in world.controls.issued_tokens(&Persona::numbered(person).key) {
            assert!(!log.contains(&token), "a token is in the log");
        }
        assert!(!log.contains(&account.threads_user_id), "a Threads id is in the log");
    }
}
