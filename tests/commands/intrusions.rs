//! Whoever comes to the gRPC port of the real process and is not who may, or asks for
//! what is not theirs. In every detail this is tried in `tests/it`, against the same
//! service in the test's own process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use prost::Message;
use reqwest::StatusCode;
use serde_json::json;
use sqlx::Connection as _;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::get_account_request::Account as Named;
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    BatchGetProfilesRequest, EraseUserRequest, FetchAccessTokenRequest, GetAccountRequest,
    GetAuthorizationRequest, ListAccountChangesRequest, ListAccountsRequest, ListProfilesRequest,
    UnlinkAccountRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::issuer::{Issuer, Key};
use crate::raw::{call, framed, methods};
use crate::siege::{Siege, by_url, refused, user};

const GET_ACCOUNT: &str = "/threads.identity.v1.AccountService/GetAccount";
/// Of an app that no caller belongs to but `other`.
const OTHER: &str = "Bearer tidkey_second";

impl Siege {
    fn grpc(&self) -> SocketAddr {
        self.service.grpc
    }

    /// The same of the second app's caller.
    async fn other(&self, method: &str, message: impl Message) -> Result<(), Status> {
        let path = format!("/threads.identity.v1.{method}");
        self.called(&path, &[("authorization", OTHER)], framed(&message.encode_to_vec())).await
    }
}

fn account(id: &str, user_id: Option<&str>) -> GetAccountRequest {
    let account = Some(Named::AccountId(id.to_owned()));
    GetAccountRequest { account, user_id: user_id.map(str::to_owned) }
}

/// T38: every method, and every wrong way of saying who one is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_open_to_nobody() {
    let siege = Siege::new("intrusions-nobody").await;
    let key = siege.key();
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer nonsense".to_owned(),
        key.replace("Bearer", "Basic"),
        key["Bearer ".len()..].to_owned(),
        format!("{key}x"),
        key[..key.len() - 1].to_owned(),
        format!("{key}, {key}"),
    ];
    let mut paths = methods();
    paths.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    for path in paths {
        let nothing = siege.called(&path, &[], framed(b"")).await;
        refused(nothing, Code::Unauthenticated, "CALLER_UNKNOWN");
        for wrong in &wrong {
            let said = [("authorization", wrong.as_str())];
            refused(siege.called(&path, &said, framed(b"")).await, Code::Unauthenticated, "CALLER_UNKNOWN");
        }
        let twice = [("authorization", key.as_str()), ("authorization", OTHER)];
        refused(siege.called(&path, &twice, framed(b"")).await, Code::Unauthenticated, "CALLER_UNKNOWN");
    }
    siege.called("/grpc.health.v1.Health/Check", &[], framed(b"")).await.unwrap();
}

/// T39 and F54, in short.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_open_only_what_they_say() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let (ours, other) = (Key::ec("ours"), Key::ec("ours"));
    let issuer = Issuer::start(now, &[&ours]).await;
    let siege = Siege::with("intrusions-tokens", &(issuer.lines("") + &issuer.caller("by-token"))).await;
    let bear = async |token: &str| {
        let said = format!("Bearer {token}");
        siege.called(GET_ACCOUNT, &[("authorization", &said)], framed(b"")).await
    };
    let good = ours.token(&issuer.claims());
    // Its keys are read beside.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while bear(&good).await.unwrap_err().code() == Code::Unauthenticated {
        assert!(std::time::Instant::now() < deadline, "the token never opens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused(bear(&good).await, Code::InvalidArgument, "FIELD_INVALID");
    let header = |name: &str, value: serde_json::Value| {
        let mut header = ours.header();
        header[name] = value;
        ours.sign(&header, &issuer.claims())
    };
    let but = |claims: serde_json::Value| ours.token(&issuer.claims_but(&claims));
    let (start, end) = good.rsplit_once('.').unwrap();
    for (what, token) in [
        ("nothing is signed", format!("{start}.")),
        ("another signature", format!("{start}.{}{end}", if end.starts_with('A') { 'B' } else { 'A' })),
        ("alg none", header("alg", json!("none"))),
        ("alg HS256", header("alg", json!("HS256"))),
        ("another's key of the same name", other.token(&issuer.claims())),
        ("a key that nobody knows", header("kid", json!("nobody"))),
        ("a key that it brings along", header("jwk", other.jwk())),
        ("keys from elsewhere", header("jku", json!("https://evil.example/keys"))),
        ("expired", but(json!({ "exp": now - 120 }))),
        ("not yet", but(json!({ "nbf": now + 3600 }))),
        ("for others", but(json!({ "aud": "https://elsewhere.example" }))),
        ("of others", but(json!({ "iss": "https://elsewhere.example" }))),
        ("of somebody else", but(json!({ "sub": "admin" }))),
        ("without an end", but(json!({ "exp": null }))),
    ] {
        let Err(status) = bear(&token).await else { panic!("{what}") };
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!((status.code(), reason.as_str()), (Code::Unauthenticated, "CALLER_UNKNOWN"), "{what}");
    }
    // The issuer is gone: whoever is known goes on, and nobody else comes in.
    issuer.break_down();
    refused(bear(&good).await, Code::InvalidArgument, "FIELD_INVALID");
    refused(bear(&header("kid", json!("newer"))).await, Code::Unauthenticated, "CALLER_UNKNOWN");
    assert!(issuer.reads() < 5, "the issuer was asked {} times", issuer.reads());
}

/// T40, T41 and T42.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_another_app_is_not_there() {
    let siege = Siege::new("intrusions-apps").await;
    let linked = siege.link("user-1", "full").await.unwrap();
    siege.link("user-1", "bare").await.unwrap();
    let (created, query) = siege.consent("user-1", "home").await;
    let completed = siege.complete(by_url(&query), "user-1").await.unwrap();
    assert_eq!(completed.authorization_id, created.authorization_id);
    let nowhere = "00000000-0000-8000-8000-000000000000";
    let mut answers = BTreeSet::new();
    for id in [linked.account_id.as_str(), nowhere] {
        for user_id in [None, Some("user-1")] {
            let told = siege.other("AccountService/GetAccount", account(id, user_id)).await;
            let status = refused(told, Code::NotFound, "ACCOUNT_NOT_FOUND");
            answers
                .insert(format!("{status:?}").replace(id, "ID").split("metadata").next().unwrap().to_owned());
        }
    }
    assert_eq!(answers.len(), 1, "what is another's and what is nowhere look the same: {answers:?}");
    let by_number = GetAccountRequest {
        account: Some(Named::ThreadsUserId(linked.threads_user_id.clone())),
        user_id: None,
    };
    refused(siege.other("AccountService/GetAccount", by_number).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let unlink =
        UnlinkAccountRequest { account_id: linked.account_id.clone(), user_id: linked.user_id.clone() };
    refused(siege.other("AccountService/UnlinkAccount", unlink).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let token = FetchAccessTokenRequest {
        account_id: linked.account_id.clone(),
        user_id: linked.user_id.clone(),
        ..Default::default()
    };
    refused(
        siege.other("AccessTokenService/FetchAccessToken", token).await,
        Code::PermissionDenied,
        "CALLER_NOT_ALLOWED",
    );
    let authorization = GetAuthorizationRequest { authorization_id: completed.authorization_id.clone() };
    refused(
        siege.other("AuthorizationService/GetAuthorization", authorization).await,
        Code::NotFound,
        "AUTHORIZATION_NOT_FOUND",
    );
    // Lists and batches of it are empty, and its pages and cursors are no pages there.
    let mut other = tonic::Request::new(ListAccountsRequest::default());
    other.metadata_mut().insert("authorization", OTHER.parse().unwrap());
    let mut accounts = AccountServiceClient::new(siege.service.channel.clone());
    assert!(accounts.list_accounts(other).await.unwrap().into_inner().accounts.is_empty());
    let mut other = tonic::Request::new(BatchGetProfilesRequest {
        account_ids: vec![linked.account_id.clone()],
        user_id: None,
    });
    other.metadata_mut().insert("authorization", OTHER.parse().unwrap());
    let mut profiles = ProfileServiceClient::new(siege.service.channel.clone());
    let batch = profiles.batch_get_profiles(other).await.unwrap().into_inner();
    assert_eq!(
        (batch.profiles.len(), batch.missing_account_ids.as_slice()),
        (0, &[linked.account_id.clone()][..])
    );
    let first = ListAccountsRequest { page_size: 1, ..Default::default() };
    let page = accounts.list_accounts(siege.service.request(first)).await.unwrap().into_inner();
    assert!(!page.next_page_token.is_empty());
    let changes = accounts.list_account_changes(siege.service.request(ListAccountChangesRequest::default()));
    let cursor = changes.await.unwrap().into_inner().cursor;
    for token in [page.next_page_token.as_str(), cursor.as_str(), "x", "AAAA", &created.state] {
        let list = ListAccountsRequest { page_token: token.to_owned(), ..Default::default() };
        refused(
            siege.other("AccountService/ListAccounts", list).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        let changes = ListAccountChangesRequest { cursor: Some(token.to_owned()), ..Default::default() };
        let told = siege.other("AccountService/ListAccountChanges", changes).await;
        refused(told, Code::InvalidArgument, "FIELD_INVALID");
    }
    // Of its own caller it opens, but not for another list, nor with a byte changed.
    let next = |page_token: String, user_id: Option<&str>| ListAccountsRequest {
        page_token,
        user_id: user_id.map(str::to_owned),
        page_size: 1,
        ..Default::default()
    };
    let good = page.next_page_token;
    accounts.list_accounts(siege.service.request(next(good.clone(), None))).await.unwrap();
    let mut damaged = good.clone().into_bytes();
    damaged[20] = if damaged[20] == b'A' { b'B' } else { b'A' };
    for wrong in [next(good.clone(), Some("user-1")), next(String::from_utf8(damaged).unwrap(), None)] {
        let told = accounts.list_accounts(siege.service.request(wrong)).await;
        refused(told, Code::InvalidArgument, "FIELD_INVALID");
    }
    // Erasing a user of the same name there touches nobody here.
    siege.other("AccountService/EraseUser", EraseUserRequest { user_id: "user-1".to_owned() }).await.unwrap();
    assert_eq!(siege.account(&linked.account_id).await.unwrap().state, linked.state);
}

/// T23: whoever can write to the database puts one account's token into another's row.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_token_opens_in_its_own_row_alone() {
    let siege = Siege::new("intrusions-rows").await;
    let [one, other] =
        [siege.link("user-1", "full").await.unwrap(), siege.link("user-2", "bare").await.unwrap()];
    let mut sql = sqlx::PgConnection::connect(&siege.database_url).await.unwrap();
    let swap = "update accounts a set token = b.token from accounts b
                where a.user_id = 'user-1' and b.user_id = 'user-2'";
    assert_eq!(sqlx::query(swap).execute(&mut sql).await.unwrap().rows_affected(), 1);
    let fetch = async |account: &threads_identity::proto::v1::Account| {
        let message = FetchAccessTokenRequest {
            account_id: account.account_id.clone(),
            user_id: account.user_id.clone(),
            ..Default::default()
        };
        let path = "/threads.identity.v1.AccessTokenService/FetchAccessToken";
        siege.called(path, &[("authorization", &siege.key())], framed(&message.encode_to_vec())).await
    };
    refused(fetch(&one).await, Code::DataLoss, "SEALED_DATA_INVALID");
    fetch(&other).await.unwrap();
}

/// T43, T44 and F42.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_would_ask_for_is_refused_before_any_work() {
    let siege = Siege::new("intrusions-forms").await;
    let linked = siege.link("user-1", "full").await.unwrap();
    let rows = "select (select count(*) from accounts) + (select count(*) from audit)";
    let before = siege.counted(rows).await;
    let key = siege.key();
    let said = [("authorization", key.as_str())];
    let mut lists = AccountServiceClient::new(siege.service.channel.clone());
    for user_id in [
        "' or '1'='1",
        "'; drop table accounts; --",
        "user-1' --",
        "$1",
        "\\",
        "%",
        "_",
        "user-1\u{202e}",
        "../user-1",
        "USER-1",
        " user-1",
    ] {
        let list = ListAccountsRequest { user_id: Some(user_id.to_owned()), ..Default::default() };
        let listed = lists.list_accounts(siege.service.request(list)).await.unwrap().into_inner();
        assert!(listed.accounts.is_empty(), "{user_id} is nobody");
    }
    for user_id in ["", "a\0b", "a\nb", &"x".repeat(129)] {
        let list = ListProfilesRequest { user_id: user_id.to_owned(), ..Default::default() };
        let told = siege
            .called("/threads.identity.v1.ProfileService/ListProfiles", &said, framed(&list.encode_to_vec()))
            .await;
        refused(told, Code::InvalidArgument, "FIELD_INVALID");
    }
    // Bytes that are no message, a message within a message without end, and too much.
    let deep = b"\x0b".repeat(200);
    for (body, code, reason) in [
        (framed(b"\xff\xff\xff"), Code::InvalidArgument, "REQUEST_MALFORMED"),
        (framed(b"\x0a\x7f"), Code::InvalidArgument, "REQUEST_MALFORMED"),
        (framed(b"\x0a\x01\xff"), Code::InvalidArgument, "REQUEST_MALFORMED"),
        (framed(&deep), Code::InvalidArgument, "REQUEST_MALFORMED"),
        (framed(&vec![0; 65 * 1024]), Code::ResourceExhausted, "REQUEST_TOO_LARGE"),
    ] {
        refused(siege.called(GET_ACCOUNT, &said, body).await, code, reason);
    }
    // A field that nobody knows is nothing to fear.
    let mut unknown = account(&linked.account_id, None).encode_to_vec();
    unknown.extend_from_slice(b"\xfa\x3f\x03abc");
    siege.called(GET_ACCOUNT, &said, framed(&unknown)).await.unwrap();
    let long = "x".repeat(20_000);
    let answer = call(siege.grpc(), GET_ACCOUNT, &[said[0], ("x-long", &long)], framed(b"")).await;
    assert!(answer.headers.get("grpc-status").is_none(), "headers of 20 KB come to no method");
    // A deadline that has passed, or is no deadline.
    let body = framed(&account(&linked.account_id, None).encode_to_vec());
    let told = siege.called(GET_ACCOUNT, &[said[0], ("grpc-timeout", "1n")], body.clone()).await;
    refused(told, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    siege.called(GET_ACCOUNT, &[said[0], ("grpc-timeout", "99999999H")], body).await.unwrap();
    assert_eq!(siege.counted(rows).await, before);
    assert_eq!(siege.exchanges(), 1);
}

/// T48 and T49.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_of_oneself_decides_nothing() {
    let siege = Siege::with("intrusions-said", "[server]\ntrusted_proxies = [\"127.0.0.9/32\"]\n").await;
    let key = siege.key();
    let body = || framed(&account("00000000-0000-8000-8000-000000000000", None).encode_to_vec());
    for header in [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-user",
        "forwarded",
        "x-real-ip",
        "x-original-uri",
        "x-envoy-internal",
        "x-client-cert",
        "x-forwarded-client-cert",
        "x-caller",
    ] {
        for value in ["127.0.0.1", "admin", "https"] {
            let anonymous = siege.called(GET_ACCOUNT, &[(header, value)], body()).await;
            refused(anonymous, Code::Unauthenticated, "CALLER_UNKNOWN");
            let known = siege.called(GET_ACCOUNT, &[("authorization", &key), (header, value)], body()).await;
            refused(known, Code::NotFound, "ACCOUNT_NOT_FOUND");
        }
    }
    // A proxy that is trusted speaks for addresses of one network: they are one peer.
    let proxy = reqwest::Client::builder().no_proxy().local_address("127.0.0.9".parse().ok());
    let proxy = proxy.build().unwrap();
    let ask = async |for_whom: String| {
        let url = format!("http://{}/threads/data-deletion/{}", siege.service.http, "A".repeat(32));
        proxy.get(url).header("x-forwarded-for", for_whom).send().await.unwrap().status()
    };
    let mut limited = 0;
    for host in 0..200 {
        limited += usize::from(ask(format!("2001:db8::{host:x}")).await == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(limited > 100, "only {limited} of 200 were one too many");
    assert_eq!(
        ask("2001:db8:0:1::1".to_owned()).await,
        StatusCode::NOT_FOUND,
        "another network is another peer"
    );
    siege.create(user("user-1")).await.unwrap();
}

/// F53. Only a build for tests can be made to panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_fails_its_own_call() {
    if !cfg!(debug_assertions) {
        return;
    }
    let siege = Siege::new("intrusions-panic").await;
    let linked = siege.link("user-1", "full").await.unwrap();
    // On one connection, beside others that are answered.
    let calls = (0..20).map(async |number| {
        let mut request = siege.service.request(account(&linked.account_id, None));
        if number % 2 == 1 {
            request.metadata_mut().insert("x-threads-identity-panic", "canary".parse().unwrap());
        }
        AccountServiceClient::new(siege.service.channel.clone()).get_account(request).await
    });
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        if number % 2 == 1 {
            let status = refused(answer, Code::Internal, "INTERNAL");
            assert!(!format!("{status:?}").contains("canary"), "{status:?}");
        } else {
            assert_eq!(answer.unwrap().into_inner().account.unwrap().account_id, linked.account_id);
        }
    }
    let metrics = reqwest::get(format!("http://{}/metrics", siege.service.ops)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = metrics.lines().find(|line| line.contains("reason=\"INTERNAL\""));
    assert!(counted.is_some_and(|line| line.ends_with(" 10")), "{counted:?}");
    let log = siege.service.running.errors().join("\n");
    assert!(log.matches("a thread panicked").count() == 10 && !log.contains("canary"), "{log}");
}
