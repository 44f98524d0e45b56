//! Nobody knows whether it happened: the reply to a statement is lost with its
//! connection, or a thousand ask the same at once.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use threads_identity::simulator::{Decision, Endpoint};

use crate::proxy::Proxy;
use crate::world::{Ground, World, asked_for, between, is_passing, reason};

/// Looks at the end of the events seldom, so that statements are a link's.
const SETTINGS: &str = "[watch]\npoll_interval = \"5s\"\n";

/// F5.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_lost_with_its_commit_changes_no_answer() {
    lose_replies(100).await;
}

/// The same at length: `just lose-replies 1000`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_thousand_replies_lost_with_their_commits_change_no_answer() {
    lose_replies(asked_for("THREADS_IDENTITY_TIMES", 1000)).await;
}

async fn lose_replies(times: u64) {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), SETTINGS).await;
    world.people(times);
    world.until_ready().await;
    let until_lost = std::sync::Arc::clone(&proxy.way.borrow().until_lost);
    let (mut linked, mut repeated, mut lost, mut anew) = (Vec::new(), 0, 0, 0);
    for person in 0..times {
        let user_id = format!("user-{person}");
        let callback_url = world.answered(&user_id, person, Decision::Allow).await.unwrap();
        // Of a link's statements: the claim, the short-lived token, the link, and what
        // else is done beside them.
        let which = 1 + i64::try_from(between(0, 4).as_millis()).unwrap().min(3);
        until_lost.store(which, Ordering::SeqCst);
        let first = world.complete(&callback_url, &user_id).await;
        lost += u64::from(until_lost.swap(0, Ordering::SeqCst) <= 0);
        if let Err(status) = &first {
            assert!(is_passing(status), "{status:?}");
            repeated += 1;
        }
        let account = match world.complete_firmly(&callback_url, &user_id).await {
            Ok(account) => account,
            // Nobody could say in time that the code had not been sent: no connection was to be had.
            Err(status) => {
                assert!(first.is_err() && reason(&status) == "AUTHORIZATION_INTERRUPTED", "{status:?}");
                anew += 1;
                world.link_firmly(&user_id, person).await
            }
        };
        if let Ok(first) = first {
            assert_eq!(first.account_id, account.account_id);
        }
        linked.push(account);
    }
    eprintln!("{lost} replies lost in {times} links; {repeated} had to be repeated, {anew} begun anew");
    assert!(anew * 50 <= times, "{anew} flows had to be begun anew");
    assert!(lost * 2 > times, "replies were lost: {lost}");
    let exchanged = u64::try_from(world.controls.count(Endpoint::CodeExchange)).unwrap();
    assert!((times..=times + anew).contains(&exchanged), "{exchanged} codes were exchanged");
    world.require_links(&linked).await;
    world.end().await;
}

/// F43.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_completions_spend_one_code_and_get_one_answer() {
    let world = World::start().await;
    world.people(1);
    world.until_ready().await;
    let callback_url = world.answered("user-0", 0, Decision::Allow).await.unwrap();
    let calls = (0..1000).map(|_| world.complete_firmly(&callback_url, "user-0"));
    let answers = join_all(calls).await;
    let ids: std::collections::HashSet<String> =
        answers.into_iter().map(|answer| answer.unwrap().account_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    assert_eq!(world.counted("select count(*) from events").await, 1);
    world.end().await;
}
