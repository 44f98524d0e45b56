//! `CompleteAuthorization`: what the browser may bring, whose flow it is, and
//! what is said when it is over.

use std::time::Duration;

use sqlx::Row as _;
use threads_identity::proto::v1::authorization::State;
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use threads_identity::proto::v1::{
    AuthorizationOutcome, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, ErrorReason,
};
use threads_identity::simulator::{Decision, Endpoint};
use tonic::Code;

use crate::harness::{START, World, completion, failed, link, metadata, parameter};

const BINDING: &[u8] = b"0123456789abcdef";

fn taken_apart(state: &str, result: parameters::Result) -> CompleteAuthorizationRequest {
    let parameters = Parameters { state: state.to_owned(), result: Some(result) };
    CompleteAuthorizationRequest { answer: Some(Answer::Parameters(parameters)), ..completion("", "user-1") }
}

#[tokio::test]
async fn every_form_of_the_answer_completes() {
    let world = World::start().await;
    for (i, form) in [
        "https://id.example.com/api/auth/callback/threads?code={c}&state={s}#_",
        "http://elsewhere.example:81/other/path?state={s}&code={c}",
        "/api/auth/callback/threads?code={c}&state={s}&scope=a&scope=b",
        "callback?code={c}&state={s}&iss=x",
        "?code={c}&state={s}&error_description=ignored",
        "code={c}&state={s}",
        "code={c}%23_&state={s}",
        "?code={c}&state={s}#?code=other&state=other",
    ]
    .into_iter()
    .enumerate()
    {
        let created = world.create("user-1").await;
        let code = parameter(&world.consent(&created, "full"), "code");
        let url = form.replace("{c}", &code).replace("{s}", &created.state);
        world.complete(&url, "user-1").await.unwrap_or_else(|status| panic!("{form}: {status:?}"));
        assert_eq!(world.controls.count(Endpoint::CodeExchange), i + 1);
    }
    for suffix in ["", "#_"] {
        let created = world.create("user-1").await;
        let code = parameter(&world.consent(&created, "full"), "code") + suffix;
        let request = taken_apart(&created.state, parameters::Result::Code(code.clone()));
        let first = world.complete_as("web", request).await.unwrap();
        // The other form of the same answer is the same answer.
        let again = world.complete(&format!("?state={}&code={code}", created.state), "user-1").await.unwrap();
        assert_eq!(first, again);
    }
}

#[tokio::test]
async fn an_outcome_is_told_again_even_after_the_state_has_expired_and_threads_is_not_asked() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.advance(Duration::from_secs(15 * 60 - 1));
    let first = world.complete(&callback_url, "user-1").await.unwrap();
    let asked = world.controls.ledger().len();
    for _ in 0..3 {
        assert_eq!(world.complete(&callback_url, "user-1").await.unwrap(), first);
        world.advance(Duration::from_secs(86_400));
    }
    assert_eq!(world.controls.ledger().len(), asked);
    assert_eq!(world.counted("select count(*) from events").await, 1);
}

#[tokio::test]
async fn a_state_that_is_too_old_by_a_moment_is_expired_and_its_code_is_not_spent() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.advance(Duration::from_secs(15 * 60));
    for _ in 0..2 {
        let details = failed(
            world.complete(&callback_url, "user-1").await,
            Code::FailedPrecondition,
            "AUTHORIZATION_EXPIRED",
        );
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    failed(world.authorization(&created.authorization_id).await, Code::NotFound, "AUTHORIZATION_NOT_FOUND");
}

#[tokio::test]
async fn somebody_elses_flow_ends_and_its_code_is_never_spent_anywhere() {
    let world = World::start().await;
    let created = world.create("attacker").await;
    let callback_url = world.consent(&created, "full");
    for _ in 0..2 {
        let refused = world.complete(&callback_url, "victim").await;
        let details = failed(refused, Code::PermissionDenied, "SESSION_MISMATCH");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    }
    let right = world.complete(&callback_url, "attacker").await;
    failed(right, Code::FailedPrecondition, "AUTHORIZATION_CLOSED");
    // The code in a flow of its own.
    let other = world.create("attacker").await;
    let injected = format!("?state={}&code={}", other.state, parameter(&callback_url, "code"));
    for _ in 0..2 {
        let refused = world.complete(&injected, "attacker").await;
        let details = failed(refused, Code::FailedPrecondition, "CODE_REJECTED");
        assert_eq!(metadata(&details)["authorization_id"], other.authorization_id);
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    assert_eq!(world.counted("select count(*) from accounts").await, 0);

    let trail = "select user_id, action, authorization_id::text, caller, account_id is null from audit
                 order by audit_id";
    let trail = sqlx::query(trail).fetch_all(&mut world.sql().await).await.unwrap();
    let told: Vec<[&str; 3]> = trail.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect();
    let mismatch = ["victim", "SESSION_MISMATCH", &created.authorization_id];
    assert_eq!(told, [mismatch, mismatch, ["attacker", "CODE_REUSE", &other.authorization_id]]);
    assert!(trail.iter().all(|row| row.get::<&str, _>(3) == "web" && row.get::<bool, _>(4)));
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!((found.state(), found.failure_reason()), (State::Failed, ErrorReason::SessionMismatch));
    assert_eq!(found.user_id, "attacker");
}

#[tokio::test]
async fn a_session_binding_that_is_missing_or_another_ends_the_flow() {
    let world = World::start().await;
    for wrong in [None, Some(&b"0123456789abcdeX"[..]), Some(b"0123456789abcdef0"), Some(&[0; 16])] {
        let bound = Link { session_binding: Some(BINDING.to_vec()), ..link("user-1") };
        let callback_url = world.consent(&world.create_with(bound).await, "full");
        let with = |binding: Option<&[u8]>| CompleteAuthorizationRequest {
            session_binding: binding.map(<[u8]>::to_vec),
            ..completion(&callback_url, "user-1")
        };
        let refused = world.complete_as("web", with(wrong)).await;
        failed(refused, Code::PermissionDenied, "SESSION_MISMATCH");
        let right = world.complete_as("web", with(Some(BINDING))).await;
        failed(right, Code::FailedPrecondition, "AUTHORIZATION_CLOSED");
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    let bound = Link { session_binding: Some(BINDING.to_vec()), ..link("user-1") };
    let callback_url = world.consent(&world.create_with(bound).await, "full");
    let right = CompleteAuthorizationRequest {
        session_binding: Some(BINDING.to_vec()),
        ..completion(&callback_url, "user-1")
    };
    world.complete_as("web", right).await.unwrap();
    // The binding itself is nowhere, and neither are the codes.
    let dump = world.dump().await;
    assert!(!dump.contains("0123456789abcdef") && !dump.contains("30313233343536373839616263646566"));
    assert!(world.controls.issued_codes().iter().all(|code| !dump.contains(code.as_str())));
}

#[tokio::test]
async fn a_mismatch_after_the_outcome_changes_nothing() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let first = world.complete(&callback_url, "user-1").await.unwrap();
    failed(world.complete(&callback_url, "user-2").await, Code::PermissionDenied, "SESSION_MISMATCH");
    assert_eq!(world.complete(&callback_url, "user-1").await.unwrap(), first);
    assert_eq!(world.counted("select count(*) from audit where action = 'SESSION_MISMATCH'").await, 1);
}

#[tokio::test]
async fn a_denial_ends_the_authorization_and_is_told_again() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let url = &created.authorization_url;
    let denied = world.controls.consent(url, "full", Decision::Deny).unwrap();
    for denied in [denied.as_str(), &format!("?state={}&error=something_new", created.state)] {
        let refused = world.complete(denied, "user-1").await;
        let details = failed(refused, Code::FailedPrecondition, "AUTHORIZATION_DENIED");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    }
    let error = parameters::Result::Error("access_denied".to_owned());
    let again = world.complete_as("web", taken_apart(&created.state, error)).await;
    failed(again, Code::FailedPrecondition, "AUTHORIZATION_DENIED");
    let code = world.consent(&created, "full");
    failed(world.complete(&code, "user-1").await, Code::FailedPrecondition, "AUTHORIZATION_CLOSED");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!((found.state(), found.failure_reason()), (State::Denied, ErrorReason::AuthorizationDenied));
    // Even a denial is believed only from the right session.
    let other = world.create("user-1").await;
    let denied = format!("?state={}&error=access_denied", other.state);
    failed(world.complete(&denied, "user-2").await, Code::PermissionDenied, "SESSION_MISMATCH");
}

#[tokio::test]
async fn another_code_for_the_same_state_is_refused_and_not_spent() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let first = world.consent(&created, "full");
    let second = world.consent(&created, "bare");
    world.complete(&first, "user-1").await.unwrap();
    for answer in [second.clone(), format!("?state={}&error=access_denied", created.state)] {
        let details =
            failed(world.complete(&answer, "user-1").await, Code::FailedPrecondition, "AUTHORIZATION_CLOSED");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    }
    // Having been presented, it is of no use in another flow either.
    let other = world.create("user-1").await;
    let moved = format!("?state={}&code={}", other.state, parameter(&second, "code"));
    failed(world.complete(&moved, "user-1").await, Code::FailedPrecondition, "CODE_REJECTED");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test]
async fn an_authorization_can_be_read_in_each_state() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    failed(world.authorization(&created.authorization_id).await, Code::NotFound, "AUTHORIZATION_NOT_FOUND");
    let callback_url = world.consent(&created, "full");
    world.advance(Duration::from_secs(60));
    let completed = world.complete(&callback_url, "user-1").await.unwrap();
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!(found.authorization_id, created.authorization_id);
    assert_eq!(found.state(), State::Succeeded);
    assert_eq!(found.user_id, "user-1");
    assert_eq!(found.account_id, completed.account.unwrap().account_id);
    assert_eq!(found.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(found.failure_reason(), ErrorReason::Unspecified);
    let at = |time: Option<prost_types::Timestamp>| time.unwrap().seconds - START.unix_timestamp();
    assert_eq!((at(found.create_time), at(found.attempt_time), at(found.end_time)), (0, 60, 60));

    let flow = Flow::SignIn(SignIn { session_binding: BINDING.to_vec() });
    let request =
        CreateAuthorizationUrlRequest { flow: Some(flow), ..CreateAuthorizationUrlRequest::default() };
    let created = world.create_as("web", request).await.unwrap();
    let refused = CompleteAuthorizationRequest {
        user_id: None,
        session_binding: Some(vec![0; 16]),
        ..completion(&world.consent(&created, "bare"), "")
    };
    failed(world.complete_as("web", refused).await, Code::PermissionDenied, "SESSION_MISMATCH");
    let found = world.authorization(&created.authorization_id).await.unwrap();
    assert_eq!((found.user_id.as_str(), found.account_id.as_str()), ("", ""));
    assert_eq!(found.outcome(), AuthorizationOutcome::Unspecified);

    for bad in ["", "1", &created.authorization_id.to_uppercase(), &format!("{} ", created.authorization_id)]
    {
        assert_eq!(crate::harness::bad_fields(world.authorization(bad).await), ["authorization_id"], "{bad}");
    }
    let unknown = "0197f0a2-7c3e-7d1a-b0c4-5e6f708192a3";
    let details = failed(world.authorization(unknown).await, Code::NotFound, "AUTHORIZATION_NOT_FOUND");
    assert_eq!(metadata(&details)["authorization_id"], unknown);
    let request =
        threads_identity::proto::v1::GetAuthorizationRequest { authorization_id: found.authorization_id };
    let foreign = world.authorizations("second").get_authorization(request.clone()).await;
    failed(foreign, Code::NotFound, "AUTHORIZATION_NOT_FOUND");
    let refused = world.authorizations("only-read").get_authorization(request).await;
    failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
}
