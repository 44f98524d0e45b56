//! Dependencies that are away when the process starts.

use std::time::Duration;

use threads_identity::simulator::Decision;
use tokio::time::sleep;

use crate::world::{Ground, World, reason};

/// Generous for a machine that has much else to do; mostly it takes about one.
const SOON: Duration = Duration::from_secs(15);

/// F1.
#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_its_database_and_serves_once_that_is_there() {
    let mut ground = Ground::new().await;
    let url = ground.postgres.url();
    ground.postgres.stop().await;
    let world = World::on_url(ground, &url).await;
    world.people(1);
    world.until("it lives", async || world.probe("/livez").await.0 == 200).await;
    sleep(Duration::from_secs(2)).await;
    let (code, why) = world.probe("/readyz").await;
    assert_eq!(code, 503);
    assert!(why.contains("nothing listens where database.url points"), "{why}");
    assert!(world.create("user-0").await.is_ok(), "a URL needs no database");
    let refused = world.link("user-0", 0).await.unwrap_err();
    assert_eq!(reason(&refused), "STORAGE_UNAVAILABLE");

    world.postgres.lock().await.run().await;
    let took = world.until("it is ready", async || world.probe("/readyz").await.0 == 200).await;
    eprintln!("ready {took:?} after Postgres");
    assert!(took < SOON, "{took:?}");
    assert!(world.link("user-0", 0).await.is_ok());
    world.end().await;
}

/// Threads is away: the process is ready all the same, says in each answer what is
/// wrong, and the same completion goes through once Threads is back.
#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_threads_and_links_once_that_is_there() {
    use threads_identity::simulator::{Endpoint, Fault};
    let world = World::start().await;
    world.people(1);
    world.until_ready().await;
    // Nobody reads what is sent: a connection that is refused.
    world.controls.fault_times(Endpoint::LongLivedExchange, 1000, Fault::CutBeforeRead);
    let callback_url = world.answered("user-0", 0, Decision::Allow).await.unwrap();
    let refused = world.complete(&callback_url, "user-0").await.unwrap_err();
    assert_eq!(reason(&refused), "PROVIDER_UNAVAILABLE");
    assert_eq!(world.probe("/readyz").await.0, 200, "what is stored is handed out");
    world.controls.clear_faults();
    assert!(world.complete_firmly(&callback_url, "user-0").await.is_ok());
    world.end().await;
}

/// F2: Postgres dies under load, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_under_load_costs_no_link() {
    crash_under_load(6).await;
}

/// The same at length: `just crash-postgres`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes"]
async fn a_database_that_crashes_two_hundred_times_costs_no_link() {
    crash_under_load(200).await;
}

async fn crash_under_load(times: u64) {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let world = World::start().await;
    let people = times * 500;
    world.people(people);
    world.until_ready().await;
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let load = async || {
        let mut linked = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let person = next.fetch_add(1, Ordering::SeqCst);
            if person >= people {
                break;
            }
            let user_id = format!("user-{person}");
            let callback_url = world.answered(&user_id, person, Decision::Allow).await.unwrap();
            match world.complete_firmly(&callback_url, &user_id).await {
                Ok(account) => linked.push(account),
                // The commit of a claim was lost with its reply: the code may be spent.
                Err(status) => {
                    assert_eq!(reason(&status), "AUTHORIZATION_INTERRUPTED", "{status:?}");
                    linked.push(world.link_firmly(&user_id, person).await);
                }
            }
        }
        linked
    };
    let strikes = async {
        for _ in 0..times {
            sleep(crate::world::between(150, 600)).await;
            let mut postgres = world.postgres.lock().await;
            postgres.crash().await;
            postgres.run().await;
        }
        sleep(Duration::from_millis(500)).await;
        over.store(true, Ordering::SeqCst);
    };
    let (first, second, third, ()) = tokio::join!(load(), load(), load(), strikes);
    let linked: Vec<_> = [first, second, third].concat();
    eprintln!("{} links through {times} crashes", linked.len());
    assert!(!linked.is_empty());
    world.require_links(&linked).await;
    world.end().await;
}
