//! Callers that give up at random, over a network with a delay.

use std::time::Duration;

use futures_util::future::join_all;
use threads_identity::simulator::Decision;

use crate::proxy::Proxy;
use crate::world::{Ground, World, asked_for, between};

/// F13 and F41, in short.
#[tokio::test(flavor = "multi_thread")]
async fn calls_cut_at_random_poison_no_connection_and_leave_no_half_link() {
    cut(1000).await;
}

/// The same at length: `just cut-calls 10000`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn ten_thousand_calls_cut_at_random_poison_no_connection_and_leave_no_half_link() {
    cut(asked_for("THREADS_IDENTITY_TIMES", 10_000)).await;
}

async fn cut(calls: u64) {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "[database]\npool_size = 4\n").await;
    let links = calls / 10;
    world.people(links + 1);
    world.until_ready().await;
    let account = world.link("owner", links).await.unwrap();
    proxy.delay(Duration::from_millis(2));
    let mut begun = Vec::new();
    for round in 0..links {
        let user_id = format!("user-{round}");
        let callback_url = world.answered(&user_id, round, Decision::Allow).await.unwrap();
        let patience = || between(0, 40);
        let one = async |number: u32| {
            let call = async {
                match number % 4 {
                    0 => drop(world.list("owner").await),
                    1 => drop(world.token(&account).await),
                    2 => drop(world.account(&account.account_id).await),
                    _ => drop(
                        world
                            .unlink(&threads_identity::proto::v1::Account {
                                user_id: "nobody".to_owned(),
                                ..account.clone()
                            })
                            .await,
                    ),
                }
            };
            let _ = tokio::time::timeout(patience(), call).await;
        };
        let link = tokio::time::timeout(patience(), world.complete(&callback_url, &user_id));
        let (_, others) = tokio::join!(link, join_all((0..9).map(one)));
        assert_eq!(others.len(), 9);
        begun.push((user_id, callback_url));
    }
    proxy.delay(Duration::ZERO);
    // Whoever asks again is told how it ended, and everybody has consented.
    let mut linked = vec![account.clone()];
    for (user_id, callback_url) in &begun {
        linked.push(world.complete_firmly(callback_url, user_id).await.unwrap());
    }
    world.require_links(&linked).await;
    let poisoned = "select count(*) from pg_stat_activity
                    where application_name = 'threads-identity' and state like 'idle in transaction%'";
    assert_eq!(world.counted(poisoned).await, 0);
    // Each of the pool's connections in turn.
    for _ in 0..20 {
        assert!(join_all((0..4).map(|_| world.list("owner"))).await.iter().all(Result::is_ok));
    }
    eprintln!("{calls} calls cut at random, {} links, none by halves", linked.len());
    world.end().await;
}
