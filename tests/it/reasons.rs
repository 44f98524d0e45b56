//! Every reason of the API, provoked: what comes is what `error_reason.proto` says
//! of it, by code, metadata, details and example.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use threads_identity::proto::v1::create_authorization_url_request::Link;
use threads_identity::proto::v1::{EraseUserRequest, ErrorReason};
use threads_identity::simulator::{Decision, Endpoint, Fault};
use tonic::{Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::documented::{Documented, code_name};
use crate::harness::{Wishes, World, completion, documented, link, metadata};
use crate::raw::{self, framed};
use crate::sealing::rekeyed;
use crate::shorthand::{NOBODY, account, fresh_profile, profile, token};

/// How many worlds there are at once.
const AT_ONCE: usize = 4;
const GET_ACCOUNT: &str = "/threads.identity.v1.AccountService/GetAccount";
const AFTER_ALL_TOKENS: Duration = Duration::from_secs(61 * 86_400);

async fn world_with(config: &'static str) -> World {
    World::with(Wishes { config, ..Wishes::default() }).await
}

fn graph(code: u32) -> Fault {
    Fault::Graph { status: 400, code, subcode: None, kind: "THApiException".to_owned(), transient: None }
}

/// How a completion ends when Threads does this at an endpoint, every time.
async fn completed_with(endpoint: Endpoint, fault: Fault) -> Status {
    let world = World::start().await;
    world.controls.fault_times(endpoint, 9, fault);
    world.link("user-1", "full").await.unwrap_err()
}

/// Provokes a reason. There is an arm for each: one that is new does not compile
/// without.
async fn provoke(reason: ErrorReason) -> Status {
    match reason {
        ErrorReason::Unspecified => unreachable!("never sent"),
        ErrorReason::FieldInvalid => {
            let world = World::start().await;
            world.accounts("web").erase_user(EraseUserRequest::default()).await.unwrap_err()
        }
        ErrorReason::RequestMalformed => raw_call(GET_ACCOUNT, &[], framed(&[0xff; 3])).await,
        ErrorReason::RequestTooLarge => raw_call(GET_ACCOUNT, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await,
        ErrorReason::MethodUnknown => raw_call("/nobody.Knows/This", &[], framed(b"")).await,
        ErrorReason::DeadlineExceeded => raw_call(GET_ACCOUNT, &[("grpc-timeout", "1n")], framed(b"")).await,
        ErrorReason::CallerUnknown => {
            let world = World::start().await;
            raw::call(world.grpc, GET_ACCOUNT, &[], framed(b"")).await.result().unwrap_err()
        }
        ErrorReason::CallerNotAllowed => {
            let world = World::start().await;
            let request = token(NOBODY, "user-1");
            world.tokens("only-read").fetch_access_token(request).await.unwrap_err()
        }
        ErrorReason::CallerRateLimited => called_too_often().await,
        ErrorReason::Internal => {
            let (world, id) = linked().await;
            let nonsense = "state = 'REAUTHORIZATION_REQUIRED', state_reason = 'nonsense'";
            world.meddle(format!("update accounts set {nonsense}")).await;
            world.account(&id).await.unwrap_err()
        }
        ErrorReason::AccountNotFound => {
            let world = World::start().await;
            world.accounts("web").get_account(account(NOBODY, None)).await.unwrap_err()
        }
        ErrorReason::ProfileNotFound | ErrorReason::AccountUnlinked => unlinked(reason).await,
        ErrorReason::AuthorizationNotFound => {
            let world = World::start().await;
            let created = world.create("user-1").await;
            world.authorization(&created.authorization_id).await.unwrap_err()
        }
        ErrorReason::ReauthorizationRequired => {
            let (world, id) = linked().await;
            world.advance(AFTER_ALL_TOKENS);
            world.token(token(&id, "user-1")).await.unwrap_err()
        }
        ErrorReason::PermissionMissing => completed_with(Endpoint::CodeExchange, graph(10)).await,
        ErrorReason::CodeRejected => completed_with(Endpoint::CodeExchange, graph(100)).await,
        ErrorReason::AuthorizationInterrupted => completed_with(Endpoint::CodeExchange, Fault::Html502).await,
        ErrorReason::ProviderRateLimited => completed_with(Endpoint::LongLivedExchange, graph(4)).await,
        ErrorReason::ProviderUnavailable => completed_with(Endpoint::LongLivedExchange, Fault::Html502).await,
        ErrorReason::StateInvalid => {
            let world = World::start().await;
            world.complete("?state=nonsense&code=AQ", "user-1").await.unwrap_err()
        }
        ErrorReason::SessionMismatch
        | ErrorReason::AuthorizationExpired
        | ErrorReason::AuthorizationInProgress
        | ErrorReason::AuthorizationClosed
        | ErrorReason::AuthorizationDenied => completed_wrongly(reason).await,
        ErrorReason::AccountLinkedToAnotherUser => {
            let (world, _) = linked().await;
            world.link("user-2", "full").await.unwrap_err()
        }
        ErrorReason::AccountMismatch => {
            let (world, id) = linked().await;
            let again = Link { account_id: Some(id), ..link("user-1") };
            let created = world.create_with(again).await;
            world.complete(&world.consent(&created, "bare"), "user-1").await.unwrap_err()
        }
        ErrorReason::ProviderConfiguration => {
            let (world, id) = linked().await;
            world.controls.fault_times(Endpoint::Me, 9, graph(101));
            world.profile(fresh_profile(&id, 0)).await.unwrap_err()
        }
        ErrorReason::ProviderIdentityConflict => {
            let world = World::start().await;
            let other = Some("17841405793187220".to_owned());
            world.controls.knobs(|knobs| knobs.exchange_user_id = other);
            world.link("user-1", "full").await.unwrap_err()
        }
        ErrorReason::StorageUnavailable => {
            let (world, id) = linked().await;
            let mut sql = world.sql().await;
            let lock = "begin; lock table accounts in access exclusive mode";
            sqlx::raw_sql(lock).execute(&mut sql).await.unwrap();
            world.account(&id).await.unwrap_err()
        }
        ErrorReason::KeyUnavailable => {
            let (world, id) = linked().await;
            let keyring = Some(rekeyed(&world.keyring));
            let replica = world.replica_with(Wishes { keyring, ..Wishes::default() }).await;
            replica.token(token(&id, "user-1")).await.unwrap_err()
        }
        ErrorReason::SealedDataInvalid => {
            let (world, id) = linked().await;
            world.meddle("update accounts set token = set_byte(token, 30, get_byte(token, 30) # 1)").await;
            world.token(token(&id, "user-1")).await.unwrap_err()
        }
        ErrorReason::ShuttingDown
        | ErrorReason::Overloaded
        | ErrorReason::CursorExpired
        | ErrorReason::WatchLagged => watched(reason).await,
    }
}

/// A world with one account, and its id.
async fn linked() -> (World, String) {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    (world, id)
}

async fn raw_call(path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
    let world = World::start().await;
    world.raw("web", path, headers, body).await.result().unwrap_err()
}

async fn called_too_often() -> Status {
    let world = world_with("[limits]\ncaller_rate = 1\ncaller_burst = 1\n").await;
    loop {
        let status = world.accounts("web").get_account(account(NOBODY, None)).await.unwrap_err();
        if status.get_details_error_info().unwrap().reason != "ACCOUNT_NOT_FOUND" {
            return status;
        }
    }
}

async fn unlinked(reason: ErrorReason) -> Status {
    let world = World::start().await;
    let account = world.linked("user-1", "full").await;
    world.unlink(&account).await;
    match reason {
        ErrorReason::ProfileNotFound => world.profile(profile(&account.account_id, None)).await.unwrap_err(),
        _ => world.token(token(&account.account_id, "user-1")).await.unwrap_err(),
    }
}

async fn completed_wrongly(reason: ErrorReason) -> Status {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let (mut answer, mut user_id) = (callback_url.clone(), "user-1");
    match reason {
        ErrorReason::SessionMismatch => user_id = "user-2",
        ErrorReason::AuthorizationExpired => world.advance(Duration::from_secs(15 * 60)),
        ErrorReason::AuthorizationClosed => {
            answer = world.consent(&created, "bare");
            world.complete(&callback_url, user_id).await.unwrap();
        }
        ErrorReason::AuthorizationDenied => {
            let url = &created.authorization_url;
            answer = world.controls.consent(url, "full", Decision::Deny).unwrap();
        }
        _ => {
            world.controls.fault_next(Endpoint::LongLivedExchange, Fault::HangBeforeAnswer);
            let second = async {
                world.controls.received(Endpoint::LongLivedExchange, 1).await;
                let mut request = Request::new(completion(&callback_url, user_id));
                request.set_timeout(Duration::from_secs(2));
                world.authorizations("web").complete_authorization(request).await.unwrap_err()
            };
            return tokio::select! {
                first = world.complete(&callback_url, user_id) => panic!("answered without Threads: {first:?}"),
                status = second => status,
            };
        }
    }
    world.complete(&answer, user_id).await.unwrap_err()
}

async fn watched(reason: ErrorReason) -> Status {
    let mut world = world_with("[watch]\nsend_timeout = \"300ms\"\nstreams_max = 1\n").await;
    let ids = world.fill("default", "many", 50).await;
    if reason == ErrorReason::WatchLagged {
        let mut silent = world.watch_apart().await;
        let lagged = "threads_identity_watches_ended_total{reason=\"WATCH_LAGGED\"}";
        while world.metric(lagged).await < 0.5 {
            world.emit(&ids, "TOKEN_REFRESHED").await;
        }
        return silent.end().await.0;
    }
    let (mut watching, _) = world.watch().await;
    match reason {
        ErrorReason::Overloaded => {
            return world.watch_as("web", None, None).await.map(drop).unwrap_err();
        }
        ErrorReason::CursorExpired => {
            world.meddle("update deployment set event_epoch = event_epoch + 1").await;
        }
        _ => world.stop().await.unwrap(),
    }
    watching.end().await.0
}

/// The details beside the `ErrorInfo`, in JSON as protobuf has it.
fn beside(details: &ErrorDetails) -> Option<Value> {
    let retry = details.retry_info().map(|retry| {
        let delay = retry.retry_delay.expect("RetryInfo says how long");
        let text = match (delay.as_secs(), delay.subsec_millis()) {
            (seconds, 0) => format!("{seconds}s"),
            (seconds, millis) => format!("{seconds}.{millis:03}s"),
        };
        json!({ "retryDelay": text })
    });
    let fields = details.bad_request().map(|request| {
        let violations = request.field_violations.iter();
        let violations: Vec<Value> =
            violations.map(|v| json!({ "field": v.field, "description": v.description })).collect();
        json!({ "fieldViolations": violations })
    });
    assert!(retry.is_none() || fields.is_none(), "one of the two");
    retry.or(fields)
}

/// Whether a value is of the form of the example's: an id of ours, say.
fn alike(key: &str, value: &str, example: &str) -> bool {
    let form = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { 'x' } else { c }).collect()
    };
    match key {
        // What may be anything.
        "cursor" => !value.is_empty() && value.len() <= 512,
        "account_id" | "authorization_id" | "request_id" => form(value) == form(example),
        _ => value == example,
    }
}

/// What is not as the documentation has it.
fn compare(documented: &Documented, status: &Status) -> Vec<String> {
    let name = documented.name();
    let mut wrong = Vec::new();
    let mut expect = |fits: bool, what: String| {
        if !fits {
            wrong.push(format!("{name}: {what}; what came is {status:?}"));
        }
    };
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return vec![format!("{name}: no ErrorInfo: {status:?}")];
    };
    let code = code_name(status.code());
    expect(code == documented.code, format!("documented as {}", documented.code));
    expect(info.reason == documented.example["reason"], "another reason".to_owned());
    expect(info.domain == "threads.identity.v1", format!("the domain is {}", info.domain));
    expect(status.message().ends_with('.'), "the message is no sentence".to_owned());
    expect(status.details().len() < 4096, "the details are too long".to_owned());
    let (sent, shown) = (metadata(&details), documented.example["metadata"].as_object().unwrap());
    let keys: BTreeSet<String> = sent.keys().cloned().chain(documented.example_keys()).collect();
    for key in keys {
        let fits = match (sent.get(&key), shown.get(&key)) {
            (Some(sent), Some(shown)) => alike(&key, sent, shown.as_str().unwrap()),
            _ => false,
        };
        expect(fits, format!("`{key}` is not as in {}", documented.text));
    }
    // How long until the next call of a caller depends on when the last one came.
    let (came, shown) = (beside(&details), documented.beside.clone());
    let kept_short = |detail: &Option<Value>| {
        detail.as_ref().and_then(|detail| detail.as_object()?.keys().next().cloned())
    };
    if documented.reason == ErrorReason::CallerRateLimited {
        expect(kept_short(&came) == kept_short(&shown), format!("beside it is {came:?}"));
    } else {
        expect(came == shown, format!("beside it is {came:?}"));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_comes_as_it_is_documented() {
    let documented: Vec<Documented> = Documented::all().into_iter().map(Result::unwrap).collect();
    assert!(documented.len() > 30);
    let tried = documented.iter().map(async |documented| {
        let patience = tokio::time::timeout(Duration::from_mins(2), provoke(documented.reason));
        match patience.await {
            Ok(status) => compare(documented, &status),
            Err(_) => vec![format!("{} did not come", documented.name())],
        }
    });
    let wrong: Vec<Vec<String>> =
        futures_util::stream::iter(tried.map(Box::pin)).buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_differs_from_the_documentation_is_noticed() {
    let documented = documented("CALLER_NOT_ALLOWED");
    let status = |code, reason: &str, role: &str| {
        let metadata = std::collections::HashMap::from([("role".to_owned(), role.to_owned())]);
        let details = ErrorDetails::with_error_info(reason, "threads.identity.v1", metadata);
        Status::with_error_details(code, "No.", details)
    };
    use tonic::Code::{NotFound, PermissionDenied};
    let good = status(PermissionDenied, "CALLER_NOT_ALLOWED", "token");
    assert_eq!(compare(documented, &good), Vec::<String>::new());
    for bad in [
        status(NotFound, "CALLER_NOT_ALLOWED", "token"),
        status(PermissionDenied, "CALLER_UNKNOWN", "token"),
        status(PermissionDenied, "CALLER_NOT_ALLOWED", "read"),
        Status::permission_denied("No."),
    ] {
        assert_eq!(compare(documented, &bad).len(), 1, "{bad:?}");
    }
}
