//! What real users of Threads' API have stumbled over, and where it is tried
//! that nobody stumbles here.
//!
//! - A redirect URI that differs by a slash: `creating::every_field_that_is_absent_empty_or_wrong_is_named`;
//!   the same string in both steps: below.
//! - An exchange that succeeds and a token that is of no use:
//!   `provider_faults::an_error_at_the_profile_with_both_tokens_ends_the_authorization_for_its_reason`.
//! - Ids rounded by a float: `provider_answers::no_digit_of_an_id_is_lost_however_it_is_written`.
//! - A short-lived token stored because the long-lived exchange failed silently:
//!   `provider_faults::a_long_lived_exchange_that_fails_in_passing_goes_on_from_the_short_lived_token`.
//! - A callback that comes twice: `racing::a_hundred_completions_of_one_state_are_one`.
//! - A state that is missing or not looked at: `completing_fields`, throughout.
//! - One Threads account and two users, or another account than asked for: `conflicts`, throughout.
//! - Permission errors that come as code 100, of type `THApiException`: `provider_faults`, its table.

use std::collections::HashSet;
use std::time::Duration;

use threads_identity::proto::v1::create_authorization_url_request::{Flow, SignIn};
use threads_identity::proto::v1::{CompleteAuthorizationRequest, CreateAuthorizationUrlRequest};
use threads_identity::simulator::{Endpoint, Fault, MissingFields, Persona};
use tonic::Code;

use crate::harness::{OTHER_REDIRECT_URI, REDIRECT_URI, World, completion, failed, metadata};

#[tokio::test]
async fn the_redirect_uri_of_the_url_is_the_one_sent_with_the_code() {
    let world = World::start().await;
    for uri in [None, Some(REDIRECT_URI), Some(OTHER_REDIRECT_URI)] {
        let created = world.create("user-1").await;
        let request = CreateAuthorizationUrlRequest {
            flow: Some(Flow::Link(crate::harness::link("user-1"))),
            redirect_uri: uri.map(str::to_owned),
            ..CreateAuthorizationUrlRequest::default()
        };
        let other = world.create_as("web", request).await.unwrap();
        let callback_url = world.consent(&other, "full");
        assert!(callback_url.starts_with(uri.unwrap_or(REDIRECT_URI)));
        // Threads compares the two, and the simulator notes any difference.
        world.complete(&callback_url, "user-1").await.unwrap();
        world.complete(&world.consent(&created, "full"), "user-1").await.unwrap();
    }
}

#[tokio::test]
async fn a_tester_who_has_not_accepted_the_invitation_is_told_from_every_other_failure() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "tester");
    for _ in 0..2 {
        let refused = world.complete(&callback_url, "user-1").await;
        let details = failed(refused, Code::FailedPrecondition, "PERMISSION_MISSING");
        assert_eq!(metadata(&details)["scopes"], "threads_basic");
        assert_eq!(metadata(&details)["authorization_id"], created.authorization_id);
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1, "the exchange itself succeeds");
    assert_eq!(world.counted("select count(*) from accounts").await, 0);
    // Accepting is not enough for a token of before; a new consent is.
    world.controls.accept_invitation("tester");
    world.link("user-1", "tester").await.unwrap();
}

#[tokio::test]
async fn every_call_goes_to_the_one_graph_host_that_is_configured() {
    let world = World::start().await;
    world.link("user-1", "full").await.unwrap();
    let calls: HashSet<String> = world
        .controls
        .ledger()
        .into_iter()
        .filter(|entry| !matches!(entry.endpoint, Endpoint::Authorize | Endpoint::Consent))
        .map(|entry| format!("{} {}", entry.method, entry.path))
        .collect();
    let expected = ["POST /oauth/access_token", "GET /access_token", "GET /v1.0/me"].map(str::to_owned);
    assert_eq!(calls, HashSet::from(expected));
}

#[tokio::test]
async fn a_profile_without_picture_name_and_biography_is_a_profile() {
    let world = World::start().await;
    for (missing, expected) in
        [(MissingFields::Absent, None), (MissingFields::Null, None), (MissingFields::Empty, Some(""))]
    {
        world.controls.knobs(|knobs| knobs.missing_fields = missing);
        let answer = world.link("user-1", "emoji").await.unwrap().profile.unwrap();
        let persona = world.controls.persona("emoji").unwrap();
        assert_eq!((answer.name, answer.threads_biography), (persona.name, persona.biography));
        world.controls.edit("full", |persona| {
            (persona.name, persona.biography) = (None, None);
            persona.picture = threads_identity::simulator::Picture::None;
        });
        let profile = world.link("user-2", "full").await.unwrap().profile.unwrap();
        for field in [profile.name, profile.threads_biography, profile.threads_profile_picture_url] {
            assert_eq!(field.as_deref(), expected, "{missing:?}");
        }
    }
}

#[tokio::test]
async fn a_profile_is_read_flat_and_in_the_wrapper_that_auth_js_expects() {
    let world = World::start().await;
    let flat = world.link("user-1", "full").await.unwrap().profile.unwrap();
    world.controls.knobs(|knobs| knobs.me_data_wrapper = true);
    let wrapped = world.link("user-1", "full").await.unwrap().profile.unwrap();
    assert_eq!(flat, wrapped);
    assert!(flat.threads_profile_picture_url.is_some());
    // What the real platform does not send and Auth.js insists on.
    world.controls.knobs(|knobs| knobs.exchange_token_type = Some("bearer".to_owned()));
    world.link("user-1", "full").await.unwrap();
}

#[tokio::test]
async fn a_handle_is_never_taken_for_the_person() {
    let world = World::start().await;
    let first = world.link("user-1", "full").await.unwrap().account.unwrap();
    // The handle is given up, and somebody else takes it.
    let handle = world.controls.persona("full").unwrap().username;
    world.controls.rename("full", "maya.elsewhere");
    world.controls.rename("bare", &handle);
    let second = world.link("user-2", "bare").await.unwrap();
    assert_eq!(second.profile.unwrap().username, Some(handle.clone()));
    assert_ne!(second.account.unwrap().account_id, first.account_id);
    let renamed = world.link("user-1", "full").await.unwrap();
    assert_eq!(renamed.profile.unwrap().username.as_deref(), Some("maya.elsewhere"));
    assert_eq!(renamed.account.unwrap().account_id, first.account_id);
}

#[tokio::test]
async fn a_user_made_by_a_sign_in_is_named_after_nothing_of_the_person() {
    let world = World::start().await;
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::SignIn(SignIn { session_binding: vec![7; 32] })),
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.create_as("web", request).await.unwrap();
    let request = CompleteAuthorizationRequest {
        user_id: None,
        session_binding: Some(vec![7; 32]),
        ..completion(&world.consent(&created, "full"), "")
    };
    let account = world.complete_as("web", request).await.unwrap().account.unwrap();
    let persona = world.controls.persona("full").unwrap();
    // There is no e-mail, and the handle changes hands.
    for of_the_person in [persona.id.as_str(), &persona.username, "maya", "@"] {
        assert!(!account.user_id.contains(of_the_person), "{}", account.user_id);
    }
    assert_ne!(account.user_id, account.account_id);
}

#[tokio::test]
async fn one_wrong_word_that_a_token_is_dead_does_not_end_a_link() {
    let world = World::start().await;
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    let token = world.token_of(&account).await;
    let dead = |subcode| Fault::Graph {
        status: 400,
        code: 190,
        subcode,
        kind: "OAuthException".to_owned(),
        transient: None,
    };
    // A renewed consent meets it once: nobody notices.
    world.controls.fault_next(Endpoint::Me, dead(Some(493)));
    world.advance(Duration::from_secs(60));
    world.link("user-1", "full").await.unwrap();
    // And with every token: the attempt ends, what is stored does not.
    world.controls.fault_times(Endpoint::Me, 2, dead(None));
    let before = world.token_of(&account).await;
    assert_ne!(before, token);
    failed(world.link("user-1", "full").await, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
    assert_eq!(world.token_of(&account).await, before);
}

#[tokio::test]
async fn tokens_of_any_length_up_to_four_kibibytes_are_kept() {
    let world = World::start().await;
    for (i, length) in [64, 1024, 4096].into_iter().enumerate() {
        world.controls.knobs(|knobs| knobs.token_length = length);
        let persona = Persona::numbered(i as u64);
        world.controls.add_persona(persona.clone());
        let account = world.link("user-1", &persona.key).await.unwrap().account.unwrap();
        let token = world.token_of(&account).await;
        assert_eq!(token.len(), length);
        assert_eq!(Some(token), world.controls.newest_token(&persona.key));
    }
}
