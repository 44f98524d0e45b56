//! Threads failing at each of its three endpoints, in every way that is known.

use std::time::Duration;

use threads_identity::proto::v1::{CompleteAuthorizationResponse, ErrorReason, authorization};
use threads_identity::simulator::{Endpoint, Fault, Persona};
use tonic::{Code, Status};

use crate::harness::{Wishes, World, failed, metadata};

const JSON: &str = "application/json";

/// A person in front of the service, with a code that has not been presented.
struct Attempt<'a> {
    world: &'a World,
    user: String,
    persona: String,
    authorization_id: String,
    callback_url: String,
    exchanges: usize,
}

impl<'a> Attempt<'a> {
    async fn new(world: &'a World, number: usize) -> Self {
        let persona = Persona::numbered(number as u64);
        let (user, key) = (format!("user-{number}"), persona.key.clone());
        world.controls.add_persona(persona);
        let created = world.create(&user).await;
        let callback_url = world.consent(&created, &key);
        let exchanges = world.controls.count(Endpoint::CodeExchange);
        let authorization_id = created.authorization_id;
        Self { world, user, persona: key, authorization_id, callback_url, exchanges }
    }

    async fn complete(&self) -> Result<CompleteAuthorizationResponse, Status> {
        self.world.complete(&self.callback_url, &self.user).await
    }

    /// It has ended for this reason: the same is told again, and nothing asked.
    async fn has_ended(&self, code: Code, reason: &str, shown: &str) {
        let asked = self.world.controls.ledger().len();
        let details = failed(self.complete().await, code, reason);
        assert_eq!(metadata(&details)["authorization_id"], self.authorization_id, "{shown}");
        assert_eq!(self.world.controls.ledger().len(), asked, "{shown}: Threads was asked again");
        let found = self.world.authorization(&self.authorization_id).await.unwrap();
        assert_eq!(found.state(), authorization::State::Failed, "{shown}");
        assert_eq!(found.failure_reason().as_str_name(), reason, "{shown}");
        assert_eq!(
            self.world
                .counted("select count(*) from authorizations where short_lived_token is not null")
                .await,
            0
        );
    }

    /// It goes on from where it stopped, and the code is not sent again.
    async fn goes_on(&self, shown: &str) {
        let found = self.world.authorization(&self.authorization_id).await.unwrap();
        assert_eq!(found.state(), authorization::State::InProgress, "{shown}");
        assert_eq!(found.failure_reason(), ErrorReason::Unspecified);
        // A limit of the whole app is waited for.
        self.world.advance(Duration::from_mins(1));
        let account =
            self.complete().await.unwrap_or_else(|error| panic!("{shown}: {error:?}")).account.unwrap();
        assert_eq!(self.world.controls.count(Endpoint::CodeExchange), self.exchanges + 1, "{shown}");
        assert_eq!(
            Some(self.world.token_of(&account).await),
            self.world.controls.newest_token(&self.persona)
        );
    }
}

fn status(status: u16, content_type: &str, body: &str) -> Fault {
    Fault::Status { status, content_type: content_type.to_owned(), body: body.to_owned() }
}

fn graph(code: u32, subcode: Option<u32>) -> Fault {
    Fault::Graph { status: 400, code, subcode, kind: "THApiException".to_owned(), transient: None }
}

/// What leaves nobody knowing what Threads did.
fn unreadable() -> Vec<Fault> {
    vec![
        status(500, "text/plain", "no"),
        status(503, JSON, ""),
        status(404, "text/html", "<h1>no"),
        status(200, "text/plain", r#"{"access_token":"THx"}"#),
        status(200, JSON, "[]"),
        status(200, JSON, "null"),
        Fault::Graph { status: 500, code: 10, subcode: None, kind: "x".to_owned(), transient: None },
        Fault::Graph { status: 400, code: 10, subcode: None, kind: "x".to_owned(), transient: Some(true) },
        graph(1, None),
        graph(1, Some(99)),
        graph(2, None),
        Fault::Html200,
        Fault::Html502,
        Fault::EmptyBody,
        Fault::Truncated,
        Fault::WrongTypes,
        Fault::GarbageJson,
        Fault::Huge,
        Fault::CutBeforeRead,
        Fault::CutAfterRequest,
        Fault::Redirect("/me?fields=id".to_owned()),
    ]
}

async fn impatient() -> World {
    World::with(Wishes { config: "[provider]\ncall_timeout = \"1s\"\n", ..Wishes::default() }).await
}

async fn exchange_is_interrupted(world: &World, faults: Vec<Fault>) {
    for (i, fault) in faults.into_iter().enumerate() {
        let shown = format!("{fault:?}");
        let attempt = Attempt::new(world, i).await;
        world.controls.fault_next(Endpoint::CodeExchange, fault);
        let details = failed(attempt.complete().await, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
        assert_eq!(metadata(&details)["authorization_id"], attempt.authorization_id);
        attempt.has_ended(Code::Aborted, "AUTHORIZATION_INTERRUPTED", &shown).await;
        assert_eq!(world.controls.count(Endpoint::CodeExchange), attempt.exchanges + 1, "{shown}");
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 0);
    assert_eq!(world.controls.count(Endpoint::Me) + world.controls.count(Endpoint::LongLivedExchange), 0);
}

#[tokio::test]
async fn a_code_exchange_without_a_readable_answer_is_interrupted_and_never_repeated() {
    let world = World::start().await;
    exchange_is_interrupted(&world, unreadable()).await;
}

#[tokio::test]
async fn a_code_exchange_that_takes_too_long_is_interrupted() {
    let world = impatient().await;
    exchange_is_interrupted(&world, vec![Fault::HangBeforeAnswer, Fault::SlowDrip]).await;
}

/// Passing trouble once is not even noticed; for longer it is told, and
/// repeating the call goes on.
async fn passes(world: &World, endpoint: Endpoint, tries: usize, faults: Vec<Fault>) {
    for (i, fault) in faults.into_iter().enumerate() {
        let shown = format!("{endpoint:?} {fault:?}");
        let attempt = Attempt::new(world, 2 * i).await;
        world.controls.fault_next(endpoint, fault.clone());
        attempt.complete().await.unwrap_or_else(|error| panic!("{shown}, once: {error:?}"));

        let attempt = Attempt::new(world, 2 * i + 1).await;
        world.controls.fault_times(endpoint, tries, fault);
        let details = failed(attempt.complete().await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert!(metadata(&details).is_empty(), "{shown}: an id would say that it has ended");
        let found = world.authorization(&attempt.authorization_id).await.unwrap();
        assert!(found.end_time.is_none());
        attempt.goes_on(&shown).await;
        world.controls.clear_faults();
    }
    assert_eq!(world.controls.count(Endpoint::Other), 0, "no redirect was followed");
    let left =
        "select count(*) from authorizations where short_lived_token is not null or state <> 'SUCCEEDED'";
    assert_eq!(world.counted(left).await, 0);
}

#[tokio::test]
async fn a_long_lived_exchange_that_fails_in_passing_goes_on_from_the_short_lived_token() {
    let world = World::start().await;
    passes(&world, Endpoint::LongLivedExchange, 3, unreadable()).await;
}

#[tokio::test]
async fn a_profile_that_fails_in_passing_goes_on_from_the_short_lived_token() {
    let world = World::start().await;
    // Three times with each of the two tokens.
    passes(&world, Endpoint::Me, 6, unreadable()).await;
}

#[tokio::test]
async fn a_slow_answer_after_the_exchange_is_passing_trouble() {
    let world = impatient().await;
    passes(&world, Endpoint::LongLivedExchange, 3, vec![Fault::HangBeforeAnswer]).await;
    passes(&world, Endpoint::Me, 6, vec![Fault::SlowDrip]).await;
}

/// What an answer that is an error means: code and reason, and what Threads
/// said of the token.
fn table() -> Vec<(Fault, Code, &'static str, &'static str)> {
    let mut table = Vec::new();
    let mut add = |fault, code, reason, why| table.push((fault, code, reason, why));
    let consent = Code::FailedPrecondition;
    for (code, subcode) in [(3, None), (10, None), (200, None), (299, None), (100, Some(10))] {
        add(graph(code, subcode), consent, "PERMISSION_MISSING", "");
    }
    add(status(403, JSON, "{}"), consent, "PERMISSION_MISSING", "");
    for (subcode, why) in [
        (None, "SESSION_INVALIDATED"),
        (Some(458), "ACCESS_REVOKED"),
        (Some(459), "USER_ACTION_REQUIRED"),
        (Some(460), "SESSION_INVALIDATED"),
        (Some(463), "TOKEN_EXPIRED"),
        (Some(464), "USER_ACTION_REQUIRED"),
        (Some(467), "SESSION_INVALIDATED"),
        (Some(492), "SESSION_INVALIDATED"),
        (Some(493), "SESSION_INVALIDATED"),
    ] {
        add(graph(190, subcode), consent, "REAUTHORIZATION_REQUIRED", why);
    }
    add(graph(102, None), consent, "REAUTHORIZATION_REQUIRED", "SESSION_INVALIDATED");
    add(graph(2500, None), consent, "REAUTHORIZATION_REQUIRED", "SESSION_INVALIDATED");
    add(status(401, JSON, "{}"), consent, "REAUTHORIZATION_REQUIRED", "SESSION_INVALIDATED");
    let dead = r#"{"error":{"code":190,"error_subcode":458}}"#;
    add(status(200, JSON, dead), consent, "REAUTHORIZATION_REQUIRED", "ACCESS_REVOKED");
    add(graph(100, Some(33)), consent, "REAUTHORIZATION_REQUIRED", "ACCOUNT_GONE");
    add(graph(24, Some(4_279_009)), consent, "REAUTHORIZATION_REQUIRED", "ACCOUNT_GONE");
    for code in [101, 191, 7777] {
        add(graph(code, None), Code::Internal, "PROVIDER_CONFIGURATION", "");
    }
    add(status(400, JSON, "{}"), Code::Internal, "PROVIDER_CONFIGURATION", "");
    table
}

async fn ends(world: &World, endpoint: Endpoint, times: usize, table: Vec<(Fault, Code, &str, &str)>) {
    for (i, (fault, code, reason, why)) in table.into_iter().enumerate() {
        let shown = format!("{endpoint:?} {fault:?}");
        let attempt = Attempt::new(world, i).await;
        world.controls.fault_times(endpoint, times, fault);
        let details = failed(attempt.complete().await, code, reason);
        let metadata = metadata(&details);
        assert_eq!(metadata["authorization_id"], attempt.authorization_id, "{shown}");
        assert_eq!(metadata.get("state_reason").map_or("", String::as_str), why, "{shown}");
        assert_eq!(metadata.contains_key("request_id"), code == Code::Internal, "{shown}");
        let scopes = (reason == "PERMISSION_MISSING").then_some("threads_basic");
        assert_eq!(metadata.get("scopes").map(String::as_str), scopes, "{shown}");
        attempt.has_ended(code, reason, &shown).await;
        assert_eq!(world.controls.count(Endpoint::CodeExchange), attempt.exchanges + 1, "{shown}");
        world.controls.clear_faults();
        // Long enough for any limit.
        world.advance(Duration::from_hours(1));
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 0);
}

#[tokio::test]
async fn an_error_at_the_code_exchange_ends_the_authorization_for_its_reason() {
    let world = World::start().await;
    let flat = |message: &str| Fault::Flat { status: 400, message: message.to_owned() };
    let rejected = (Code::FailedPrecondition, "CODE_REJECTED", "");
    let configuration = (Code::Internal, "PROVIDER_CONFIGURATION", "");
    let limited = (Code::ResourceExhausted, "PROVIDER_RATE_LIMITED", "");
    let mut table = table();
    for (fault, (code, reason, why)) in [
        (graph(100, None), rejected),
        (graph(100, Some(36_007)), rejected),
        (graph(100, Some(36_009)), rejected),
        (graph(100, Some(36_008)), configuration),
        (flat("Matching code was not found or was already used"), rejected),
        (flat("This authorization code has expired"), rejected),
        (flat("Error validating client secret."), configuration),
        (flat("Invalid redirect_uri"), configuration),
        (status(400, JSON, r#"{"error":"invalid_grant","error_description":"no"}"#), rejected),
        (
            status(400, JSON, r#"{"error":"invalid_client","error_description":"Wrong client_id"}"#),
            configuration,
        ),
        (graph(4, None), limited),
        (graph(613, None), limited),
        (status(429, "text/html", "<h1>no"), limited),
        (Fault::Flat { status: 429, message: "no".to_owned() }, limited),
    ] {
        table.push((fault, code, reason, why));
    }
    ends(&world, Endpoint::CodeExchange, 1, table).await;
}

#[tokio::test]
async fn an_error_at_the_long_lived_exchange_ends_the_authorization_for_its_reason() {
    let world = World::start().await;
    let mut table = table();
    table.push((graph(100, None), Code::Internal, "PROVIDER_CONFIGURATION", ""));
    ends(&world, Endpoint::LongLivedExchange, 1, table).await;
}

#[tokio::test]
async fn an_error_at_the_profile_with_both_tokens_ends_the_authorization_for_its_reason() {
    let world = World::start().await;
    let mut table = table();
    table.push((graph(100, None), Code::Internal, "PROVIDER_CONFIGURATION", ""));
    ends(&world, Endpoint::Me, 2, table).await;
}

#[tokio::test]
async fn a_rate_limit_after_the_exchange_is_told_and_repeating_goes_on() {
    let world = World::start().await;
    let codes = [
        (4, None),
        (17, Some(2_446_079)),
        (32, None),
        (341, None),
        (368, None),
        (613, Some(1996)),
        (80_014, None),
    ];
    for (i, (code, subcode)) in codes.into_iter().enumerate() {
        for (at, (endpoint, times)) in
            [(Endpoint::LongLivedExchange, 1), (Endpoint::Me, 2)].into_iter().enumerate()
        {
            let attempt = Attempt::new(&world, 2 * i + at).await;
            world.controls.fault_times(endpoint, times, graph(code, subcode));
            let details = failed(attempt.complete().await, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED");
            assert!(metadata(&details).is_empty(), "an id would say that it has ended");
            world.controls.clear_faults();
            attempt.goes_on(&format!("{endpoint:?} {code}")).await;
        }
    }
}

#[tokio::test]
async fn threads_that_is_away_is_told_and_takes_nobody_out() {
    let world = World::start().await;
    let readyz = async || reqwest::get(format!("http://{}/readyz", world.ops)).await.unwrap();
    assert_eq!(readyz().await.text().await.unwrap(), "ready\n");
    world.controls.fault_times(Endpoint::CodeExchange, 100, Fault::Html502);
    world.link("user-1", "full").await.unwrap_err();
    let told = readyz().await;
    assert_eq!(told.status(), 200);
    assert_eq!(
        told.text().await.unwrap(),
        "ready\nbut Threads has not answered app default for two minutes\n"
    );
    world.controls.clear_faults();
    world.linked("user-1", "full").await;
    assert_eq!(readyz().await.text().await.unwrap(), "ready\n");
}
