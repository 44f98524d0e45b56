//! `CompleteAuthorization`: every field absent, empty, repeated and wrong.

use threads_identity::proto::v1::CompleteAuthorizationRequest;
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use threads_identity::proto::v1::{CreateAuthorizationUrlRequest, ListAccountsRequest};
use threads_identity::simulator::Endpoint;
use tonic::Code;

use crate::harness::{World, bad_fields, completion, failed, link, metadata, parameter};

fn taken_apart(state: &str, result: Option<parameters::Result>) -> CompleteAuthorizationRequest {
    CompleteAuthorizationRequest {
        answer: Some(Answer::Parameters(Parameters { state: state.to_owned(), result })),
        ..completion("", "user-1")
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table of what is refused")]
async fn what_is_wrong_with_a_request_is_told_and_the_link_can_still_be_completed() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let (state, code) = (created.state.as_str(), parameter(&callback_url, "code"));
    let with_code = |code: &str| taken_apart(state, Some(parameters::Result::Code(code.to_owned())));
    let with_error = |error: &str| taken_apart(state, Some(parameters::Result::Error(error.to_owned())));
    let with_url = |url: &str| completion(url, "user-1");
    let with_user = |user_id: Option<&str>| CompleteAuthorizationRequest {
        user_id: user_id.map(str::to_owned),
        ..with_code(&code)
    };
    let bound = |length: usize| CompleteAuthorizationRequest {
        session_binding: Some(vec![7; length]),
        ..with_code(&code)
    };
    let long = |length: usize| "c".repeat(length);
    for (request, fields) in [
        (CompleteAuthorizationRequest { answer: None, ..completion("", "user-1") }, &["answer"][..]),
        (with_url(""), &["callback_url"]),
        (with_url("https://id.example.com/"), &["callback_url"]),
        (with_url(&format!("?state={state}")), &["callback_url"]),
        (with_url(&format!("?state={state}&code=")), &["callback_url"]),
        (with_url(&format!("?state={state}&code=%23_")), &["callback_url"]),
        (with_url(&format!("?state={state}&code[]={code}")), &["callback_url"]),
        (with_url(&format!("?state={state}&CODE={code}")), &["callback_url"]),
        (with_url(&format!("?state={state}&code={code}&code={code}")), &["callback_url"]),
        (with_url(&format!("?state={state}&code={code}&error=access_denied")), &["callback_url"]),
        (with_url(&format!("?state={state}&error=a&error=a")), &["callback_url"]),
        (with_url(&format!("?state={state}&error=")), &["callback_url"]),
        (with_url(&format!("?state={state}&error=a%00b")), &["callback_url"]),
        (with_url(&format!("?state={state}&error={}", long(257))), &["callback_url"]),
        (with_url(&format!("?state={state}&code={}", long(2049))), &["callback_url"]),
        (with_url(&format!("?state={state}&code=a%00b")), &["callback_url"]),
        (with_url(&format!("?state={state}&code=a%20b")), &["callback_url"]),
        (with_url(&format!("?state={state}&code=%C3%A9")), &["callback_url"]),
        (with_url(&format!("?state={state}&code={code}&x={}", long(8192))), &["callback_url"]),
        (taken_apart(state, None), &["parameters.code"]),
        (taken_apart("", None), &["parameters.state", "parameters.code"]),
        (taken_apart("", Some(parameters::Result::Code(code.clone()))), &["parameters.state"]),
        (with_code(""), &["parameters.code"]),
        (with_code("#_"), &["parameters.code"]),
        (with_code("a b"), &["parameters.code"]),
        (with_code("a\0b"), &["parameters.code"]),
        (with_code(&long(2049)), &["parameters.code"]),
        (with_error(""), &["parameters.error"]),
        (with_error("a\nb"), &["parameters.error"]),
        (with_error(&long(257)), &["parameters.error"]),
        (with_user(None), &["user_id"]),
        (with_user(Some("")), &["user_id"]),
        (with_user(Some(&"u".repeat(129))), &["user_id"]),
        (with_user(Some("user-1\0")), &["user_id"]),
        (bound(0), &["session_binding"]),
        (bound(15), &["session_binding"]),
        (bound(257), &["session_binding"]),
        // Given although the authorization was created without one.
        (bound(16), &["session_binding"]),
        (CompleteAuthorizationRequest { user_id: None, ..bound(16) }, &["user_id", "session_binding"]),
        (
            CompleteAuthorizationRequest { user_id: Some(String::new()), ..taken_apart("", None) },
            &["user_id", "parameters.state", "parameters.code"],
        ),
    ] {
        let shown = format!("{:?} {:?} {fields:?}", request.user_id, request.session_binding);
        assert_eq!(bad_fields(world.complete_as("web", request).await), fields, "{shown}");
    }
    for url in [
        format!("?code={code}"),
        format!("?code={code}&state="),
        format!("?code={code}&state={state}&state={state}"),
        format!("?code={code}&state={state}&state="),
        format!("?code={code}&state[]={state}"),
        format!("?code={code}&State={state}"),
        format!("?code={code}&state={state}%00"),
        format!("?code={code}&state={state}+"),
        format!("?code={code}&state={state}="),
        format!("?code={code}&state={}", long(1025)),
        "?error=access_denied".to_owned(),
    ] {
        failed(world.complete(&url, "user-1").await, Code::InvalidArgument, "STATE_INVALID");
    }
    let refused = taken_apart(&long(1025), Some(parameters::Result::Code(code.clone())));
    failed(world.complete_as("web", refused).await, Code::InvalidArgument, "STATE_INVALID");

    assert_eq!(world.counted("select count(*) from authorizations").await, 0);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    world.complete(&callback_url, "user-1").await.unwrap();
}

#[tokio::test]
async fn a_state_opens_only_untouched_and_only_as_a_state() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let state = created.state.as_str();
    let refused = async |forged: String| {
        let answer = world.complete(&callback_url.replace(state, &forged), "user-1").await;
        failed(answer, Code::InvalidArgument, "STATE_INVALID");
    };
    for at in 0..state.len() {
        let other = if state.as_bytes()[at] == b'A' { "B" } else { "A" };
        refused(format!("{}{other}{}", &state[..at], &state[at + 1..])).await;
    }
    refused(state[..state.len() - 1].to_owned()).await;
    refused(format!("{state}A")).await;
    refused("A".repeat(state.len())).await;
    refused("x".to_owned()).await;
    refused(world.controls.issued_codes().remove(0)).await;
    refused(created.authorization_id.clone()).await;
    // A page token: sealed by the same keyring, for the same app, for something else.
    world.link("user-2", "bare").await.unwrap();
    world.link("user-2", "emoji").await.unwrap();
    let request =
        ListAccountsRequest { user_id: Some("user-2".to_owned()), page_size: 1, ..Default::default() };
    let page = world.accounts("web").list_accounts(request).await.unwrap().into_inner().next_page_token;
    assert!(!page.is_empty());
    refused(page).await;

    let spent = world.controls.count(Endpoint::CodeExchange);
    world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(world.controls.count(Endpoint::CodeExchange), spent + 1);
}

#[tokio::test]
async fn a_sign_in_names_no_user_and_always_proves_its_session() {
    let world = World::start().await;
    let flow = Flow::SignIn(SignIn { session_binding: b"0123456789abcdef".to_vec() });
    let request =
        CreateAuthorizationUrlRequest { flow: Some(flow), ..CreateAuthorizationUrlRequest::default() };
    let created = world.create_as("web", request).await.unwrap();
    let callback_url = world.consent(&created, "full");
    let named = CompleteAuthorizationRequest {
        session_binding: Some(b"0123456789abcdef".to_vec()),
        ..completion(&callback_url, "user-1")
    };
    assert_eq!(bad_fields(world.complete_as("web", named.clone()).await), ["user_id"]);
    let unproven = CompleteAuthorizationRequest { user_id: None, session_binding: None, ..named.clone() };
    let details =
        failed(world.complete_as("web", unproven).await, Code::PermissionDenied, "SESSION_MISMATCH");
    assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    let right = CompleteAuthorizationRequest { user_id: None, ..named };
    failed(world.complete_as("web", right).await, Code::FailedPrecondition, "AUTHORIZATION_CLOSED");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
}

#[tokio::test]
async fn only_the_role_link_completes_and_reads_authorizations() {
    let world = World::start().await;
    let created = world.create_with(Link { ..link("user-1") }).await;
    let callback_url = world.consent(&created, "full");
    for caller in ["only-transfer", "only-read", "only-sync", "only-token", "only-erase"] {
        let refused = world.complete_as(caller, completion(&callback_url, "user-1")).await;
        assert_eq!(metadata(&failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED"))["role"], "link");
    }
    world.complete_as("only-link", completion(&callback_url, "user-1")).await.unwrap();
}
