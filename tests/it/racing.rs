//! The same thing, many times at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use threads_identity::proto::v1::{
    AuthorizationOutcome, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, OnConflict,
};
use threads_identity::simulator::{Endpoint, Fault, Persona};
use tonic::Code;

use crate::harness::{World, completion, failed, link, parameter};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_completions_of_one_state_are_one() {
    let world = World::start().await;
    let replica = world.replica().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let all = (0..100).map(|i| {
        let service = if i % 2 == 0 { &world } else { &replica };
        service.complete(&callback_url, "user-1")
    });
    let answers = join_all(all).await;
    let first = answers[0].as_ref().unwrap();
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap(), first);
    }
    assert_eq!(first.outcome(), AuthorizationOutcome::Linked);
    for endpoint in [Endpoint::CodeExchange, Endpoint::LongLivedExchange, Endpoint::Me] {
        assert_eq!(world.controls.count(endpoint), 1, "{endpoint:?}");
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 1);
    assert_eq!(world.counted("select count(*) from events").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_wait_for_an_attempt_share_its_failure_and_do_not_each_try_again() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.controls.throttle("full", 600);
    // Until all are there.
    world.controls.fault_next(Endpoint::CodeExchange, Fault::Delay(Duration::from_millis(500)));
    for answer in join_all((0..50).map(|_| world.complete(&callback_url, "user-1"))).await {
        failed(answer, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED");
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    let calls = world.controls.count(Endpoint::LongLivedExchange) + world.controls.count(Endpoint::Me);
    assert!(calls <= 4, "{calls} calls although Threads had said to slow down");
    world.advance(Duration::from_secs(601));
    world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_in_many_states_is_exchanged_once() {
    let world = World::start().await;
    let replica = world.replica().await;
    for round in 0..20 {
        let mut urls = Vec::new();
        for _ in 0..8 {
            urls.push(world.create("user-1").await);
        }
        let code = parameter(&world.consent(&urls[0], "full"), "code");
        let all = urls.iter().enumerate().map(|(i, created)| {
            let service = if i % 2 == 0 { &world } else { &replica };
            let url = format!("?state={}&code={code}", created.state);
            async move { service.complete(&url, "user-1").await }
        });
        let (won, lost): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 7), "round {round}");
        for refused in lost {
            failed(refused, Code::FailedPrecondition, "CODE_REJECTED");
        }
        assert_eq!(world.controls.count(Endpoint::CodeExchange), round + 1);
    }
    // Each time it is noted, for somebody has a code who should not.
    assert_eq!(world.counted("select count(*) from audit where action = 'CODE_REUSE'").await, 20 * 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_race_for_one_threads_account_and_exactly_one_wins_a_thousand_times() {
    let world = World::start().await;
    let replica = world.replica().await;
    for group in 0..20_u64 {
        let rounds = (group * 50..(group + 1) * 50).map(|round| {
            let (world, replica) = (&world, &replica);
            async move {
                let persona = Persona::numbered(round);
                let key = persona.key.clone();
                world.controls.add_persona(persona);
                let (left, right) = (format!("left-{round}"), format!("right-{round}"));
                let (a, b) = (world.create(&left).await, world.create(&right).await);
                let (a, b) = (world.consent(&a, &key), world.consent(&b, &key));
                // Now in one process, now in two.
                let second = if round % 2 == 0 { world } else { replica };
                match tokio::join!(world.complete(&a, &left), second.complete(&b, &right)) {
                    (Ok(won), refused) | (refused, Ok(won)) => {
                        failed(refused, Code::AlreadyExists, "ACCOUNT_LINKED_TO_ANOTHER_USER");
                        assert_eq!(won.outcome(), AuthorizationOutcome::Linked);
                    }
                    (Err(a), Err(b)) => panic!("round {round}: nobody won: {a:?} {b:?}"),
                }
            }
        });
        join_all(rounds).await;
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 1000);
    assert_eq!(world.counted("select count(*) from events").await, 1000);
    assert_eq!(world.counted("select count(*) from authorizations where state = 'SUCCEEDED'").await, 1000);
    let owned = "select count(*) from accounts a join authorizations z using (account_id)
                 where z.state = 'SUCCEEDED' and z.user_id = a.user_id";
    assert_eq!(world.counted(owned).await, 1000, "whoever was told so owns it");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_transfers_leave_one_owner_and_an_unbroken_chain() {
    let world = World::start().await;
    world.link("user-start", "full").await.unwrap();
    let replica = world.replica().await;
    let all = (0..40).map(|i| {
        let service = if i % 2 == 0 { &world } else { &replica };
        let world = &world;
        async move {
            let user = format!("user-{i}");
            let wish = Link { on_conflict: OnConflict::Transfer.into(), ..link(&user) };
            let callback_url = world.consent(&world.create_with(wish).await, "full");
            service.complete(&callback_url, &user).await.unwrap()
        }
    });
    for answer in join_all(all).await {
        assert_eq!(answer.outcome(), AuthorizationOutcome::Transferred);
    }
    // Who took it from whom; two transactions at once may be numbered either way.
    let events = "select coalesce(previous_user_id, ''), user_id from events";
    let events: Vec<(String, String)> =
        sqlx::query_as(events).fetch_all(&mut world.sql().await).await.unwrap();
    let taken: HashMap<String, String> = events.iter().cloned().collect();
    assert_eq!((events.len(), taken.len()), (41, 41), "nobody lost it twice");
    let mut owner = "";
    for _ in 0..41 {
        owner = &taken[owner];
    }
    let stored: String =
        sqlx::query_scalar("select user_id from accounts").fetch_one(&mut world.sql().await).await.unwrap();
    assert_eq!(stored, owner);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_first_sign_ins_of_one_person_make_one_user() {
    let world = Arc::new(World::start().await);
    let all = (0..20).map(|i| {
        let world = Arc::clone(&world);
        async move {
            let session_binding = format!("session-{i:012}").into_bytes();
            let flow = Flow::SignIn(SignIn { session_binding: session_binding.clone() });
            let request = CreateAuthorizationUrlRequest { flow: Some(flow), ..Default::default() };
            let created = world.create_as("web", request).await.unwrap();
            let request = CompleteAuthorizationRequest {
                user_id: None,
                session_binding: Some(session_binding),
                ..completion(&world.consent(&created, "full"), "")
            };
            world.complete_as("web", request).await.unwrap()
        }
    });
    let answers = join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.user_created).count(), 1);
    let users: HashSet<_> = answers.into_iter().map(|answer| answer.account.unwrap().user_id).collect();
    assert_eq!(users.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_user_at_the_same_moment_gets_nothing_and_never_both_win() {
    let world = World::start().await;
    let replica = world.replica().await;
    let mut completed = 0;
    for round in 0..100 {
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, "full");
        let (right, wrong) = if round % 2 == 0 {
            tokio::join!(world.complete(&callback_url, "user-1"), replica.complete(&callback_url, "user-2"))
        } else {
            let (wrong, right) = tokio::join!(
                world.complete(&callback_url, "user-2"),
                world.complete(&callback_url, "user-1")
            );
            (right, wrong)
        };
        failed(wrong, Code::PermissionDenied, "SESSION_MISMATCH");
        match right {
            Ok(_) => completed += 1,
            refused => drop(failed(refused, Code::FailedPrecondition, "AUTHORIZATION_CLOSED")),
        }
        assert_eq!(world.controls.count(Endpoint::CodeExchange), completed, "round {round}");
    }
    assert_eq!(world.counted("select count(*) from audit where action = 'SESSION_MISMATCH'").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_different_answers_for_one_state_the_first_alone_counts() {
    let world = World::start().await;
    let replica = world.replica().await;
    let mut exchanged = 0;
    for round in 0..50 {
        let created = world.create("user-1").await;
        let mut answers = vec![format!("?state={}&error=access_denied", created.state)];
        for persona in ["full", "bare", "emoji"] {
            answers.push(world.consent(&created, persona));
        }
        answers.rotate_left(round % 4);
        let all = answers.iter().enumerate().map(|(i, answer)| {
            let service = if i % 2 == 0 { &world } else { &replica };
            service.complete(answer, "user-1")
        });
        let (mut linked, mut denied) = (0, 0);
        for answer in join_all(all).await {
            match answer {
                Ok(_) => linked += 1,
                Err(status) if status.message().contains("did not consent") => denied += 1,
                refused => drop(failed(refused, Code::FailedPrecondition, "AUTHORIZATION_CLOSED")),
            }
        }
        assert_eq!(linked + denied, 1, "round {round}");
        exchanged += linked;
        assert_eq!(world.controls.count(Endpoint::CodeExchange), exchanged, "round {round}");
    }
}
