//! `CreateAuthorizationUrl`: what it takes, what the URL says, what it leaves behind.

use std::collections::BTreeMap;

use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use threads_identity::proto::v1::{CreateAuthorizationUrlRequest, OnConflict};
use threads_identity::simulator::Endpoint;
use tonic::Code;
use url::Url;

use crate::harness::{
    OTHER_REDIRECT_URI, REDIRECT_URI, SECOND_CLIENT_ID, SECOND_REDIRECT_URI, START, Wishes, World,
    bad_fields, completion, failed, link, metadata,
};

const ACCOUNT_ID: &str = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90";

fn of_link(link: Link) -> CreateAuthorizationUrlRequest {
    CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..CreateAuthorizationUrlRequest::default() }
}

fn of_sign_in(session_binding: &[u8]) -> CreateAuthorizationUrlRequest {
    let flow = Flow::SignIn(SignIn { session_binding: session_binding.to_vec() });
    CreateAuthorizationUrlRequest { flow: Some(flow), ..CreateAuthorizationUrlRequest::default() }
}

fn usual() -> CreateAuthorizationUrlRequest {
    of_link(link("user-1"))
}

fn pairs(url: &str) -> Vec<(String, String)> {
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn every_field_that_is_absent_empty_or_wrong_is_named() {
    let world = World::start().await;
    let user = |user_id: &str| of_link(link(user_id));
    let bound = |length: usize| of_link(Link { session_binding: Some(vec![7; length]), ..link("u") });
    let account = |id: &str| of_link(Link { account_id: Some(id.to_owned()), ..link("u") });
    let conflict = |on_conflict: i32| of_link(Link { on_conflict, ..link("u") });
    let transfer = OnConflict::Transfer.into();
    let both = Link { account_id: Some(ACCOUNT_ID.to_owned()), on_conflict: transfer, ..link("u") };
    let redirect =
        |uri: &str| CreateAuthorizationUrlRequest { redirect_uri: Some(uri.to_owned()), ..usual() };
    let scopes = |scopes: &[&str]| CreateAuthorizationUrlRequest {
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..usual()
    };
    let many: Vec<String> = (0..33).map(|i| format!("scope_{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (request, fields) in [
        (CreateAuthorizationUrlRequest::default(), &["flow"][..]),
        (user(""), &["link.user_id"]),
        (user(&"u".repeat(129)), &["link.user_id"]),
        (user(&format!("{}é", "u".repeat(127))), &["link.user_id"]),
        (user("a\0b"), &["link.user_id"]),
        (user("a\nb"), &["link.user_id"]),
        (user("a\u{7f}b"), &["link.user_id"]),
        (user("a\u{85}b"), &["link.user_id"]),
        (bound(0), &["link.session_binding"]),
        (bound(15), &["link.session_binding"]),
        (bound(257), &["link.session_binding"]),
        (account(""), &["link.account_id"]),
        (account("1"), &["link.account_id"]),
        (account(&ACCOUNT_ID.to_uppercase()), &["link.account_id"]),
        (account(&ACCOUNT_ID.replace('-', "")), &["link.account_id"]),
        (account(&format!("{{{ACCOUNT_ID}}}")), &["link.account_id"]),
        (conflict(3), &["link.on_conflict"]),
        (conflict(-1), &["link.on_conflict"]),
        (of_link(both), &["link.on_conflict"]),
        (of_sign_in(b""), &["sign_in.session_binding"]),
        (of_sign_in(&[7; 15]), &["sign_in.session_binding"]),
        (of_sign_in(&[7; 257]), &["sign_in.session_binding"]),
        (redirect(""), &["redirect_uri"]),
        (redirect(&format!("{REDIRECT_URI}/")), &["redirect_uri"]),
        (redirect(&format!("{REDIRECT_URI}?x=1")), &["redirect_uri"]),
        (redirect(&REDIRECT_URI.to_uppercase()), &["redirect_uri"]),
        (redirect(&format!("{REDIRECT_URI} ")), &["redirect_uri"]),
        (redirect("https://evil.example/"), &["redirect_uri"]),
        (redirect(SECOND_REDIRECT_URI), &["redirect_uri"]),
        (scopes(&[""]), &["scopes[0]"]),
        (scopes(&["threads_basic", "Threads_Delete"]), &["scopes[1]"]),
        (scopes(&["a,b"]), &["scopes[0]"]),
        (scopes(&["a b"]), &["scopes[0]"]),
        (scopes(&[&"s".repeat(65)]), &["scopes[0]"]),
        (scopes(&["threads_delete", "x", "threads_delete"]), &["scopes[2]"]),
        (scopes(&many), &["scopes"]),
    ] {
        let shown = format!("{:?} {:?}", request.redirect_uri, request.scopes);
        let answer = world.create_as("web", request).await;
        assert_eq!(bad_fields(answer), fields, "{shown}");
    }
}

#[tokio::test]
async fn all_bad_fields_are_named_at_once_and_at_most_twenty() {
    let world = World::start().await;
    let link = Link {
        user_id: String::new(),
        session_binding: Some(vec![1]),
        account_id: Some("no".to_owned()),
        on_conflict: OnConflict::Transfer.into(),
    };
    let wrong = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link)),
        redirect_uri: Some("https://evil.example/".to_owned()),
        scopes: vec!["no spaces".to_owned()],
        return_to: Some("https://evil.example/".to_owned()),
    };
    assert_eq!(
        bad_fields(world.create_as("web", wrong.clone()).await),
        [
            "link.user_id",
            "link.session_binding",
            "link.account_id",
            "link.on_conflict",
            "redirect_uri",
            "scopes[0]",
            "return_to"
        ]
    );
    let many = CreateAuthorizationUrlRequest { scopes: vec!["NO".to_owned(); 40], ..wrong };
    assert_eq!(bad_fields(world.create_as("web", many).await).len(), 20);
}

#[tokio::test]
async fn the_limits_themselves_are_taken() {
    let world = World::start().await;
    let limit = Link { session_binding: Some(vec![0; 256]), ..link(&"é".repeat(64)) };
    let known = ["content_publish", "read_replies", "manage_replies", "manage_insights", "keyword_search"];
    let request = CreateAuthorizationUrlRequest {
        scopes: known.iter().map(|name| format!("threads_{name}")).collect(),
        redirect_uri: Some(OTHER_REDIRECT_URI.to_owned()),
        ..of_link(limit)
    };
    let created = world.create_as("web", request).await.unwrap();
    assert!(created.state.len() <= 1024);
    assert!(created.authorization_id.len() <= 64);
    world.create_as("web", of_sign_in(&[0; 16])).await.unwrap();
    // What cannot travel in a state of 1,024 characters is said to be too much, not cut.
    let long = (0..32).map(|i| format!("{i:02}{}", "s".repeat(62))).collect();
    let request = CreateAuthorizationUrlRequest { scopes: long, ..usual() };
    assert_eq!(bad_fields(world.create_as("web", request).await), ["scopes"]);
}

#[tokio::test]
async fn the_role_link_is_needed_and_for_transfer_the_role_transfer_too() {
    let world = World::start().await;
    for caller in ["only-transfer", "only-read", "only-sync", "only-token", "only-erase"] {
        let details =
            failed(world.create_as(caller, usual()).await, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
        assert_eq!(metadata(&details)["role"], "link", "{caller}");
    }
    world.create_as("only-link", usual()).await.unwrap();
    let transfer = of_link(Link { on_conflict: OnConflict::Transfer.into(), ..link("u") });
    let refused = world.create_as("only-link", transfer.clone()).await;
    assert_eq!(metadata(&failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED"))["role"], "transfer");
    world.create_as("web", transfer).await.unwrap();
}

#[tokio::test]
async fn the_url_holds_exactly_what_threads_asks_for() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let (address, _) = created.authorization_url.split_once('?').unwrap();
    assert_eq!(address, format!("{}/oauth/authorize", world.simulator_url()));
    let expected = [
        ("client_id", "990602627938098"),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "threads_basic"),
        ("state", &created.state),
    ];
    assert_eq!(pairs(&created.authorization_url), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(!created.authorization_url.contains("sim-threads-app-secret"));
    assert!(!created.authorization_url.contains("user-1"));
    let expire_time = created.expire_time.unwrap();
    assert_eq!(expire_time.seconds, START.unix_timestamp() + 15 * 60);

    let request = CreateAuthorizationUrlRequest {
        redirect_uri: Some(OTHER_REDIRECT_URI.to_owned()),
        scopes: vec!["threads_delete".to_owned(), "threads_basic".to_owned(), "x:y.z-1".to_owned()],
        ..of_sign_in(&[7; 16])
    };
    let url = world.create_as("web", request).await.unwrap().authorization_url;
    let pairs: BTreeMap<String, String> = pairs(&url).into_iter().collect();
    assert_eq!(pairs["scope"], "threads_basic,threads_delete,x:y.z-1");
    assert_eq!(pairs["redirect_uri"], OTHER_REDIRECT_URI);
}

#[tokio::test]
async fn no_two_urls_share_a_state_or_an_id() {
    let world = World::start().await;
    let (mut states, mut ids) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for _ in 0..200 {
        let created = world.create("user-1").await;
        assert!(states.insert(created.state));
        assert!(ids.insert(created.authorization_id));
    }
}

#[tokio::test]
async fn an_app_may_override_whatever_auth_js_lets_one_override() {
    let world = World::with(Wishes {
        app: "scopes = [\"threads_keyword_search\"]\napi_version = \"\"\n\
              profile_fields = [\"id\", \"username\"]\nauthorize_parameters = { theme = \"dark & more\" }\n",
        ..Wishes::default()
    })
    .await;
    let created = world.create("user-1").await;
    let url: BTreeMap<String, String> = pairs(&created.authorization_url).into_iter().collect();
    assert_eq!(url["scope"], "threads_basic,threads_keyword_search");
    assert_eq!(url["theme"], "dark & more");
    let callback_url = world.consent(&created, "full");
    let completed = world.complete(&callback_url, "user-1").await.unwrap();
    assert_eq!(completed.account.unwrap().scopes, ["threads_basic", "threads_keyword_search"]);
    let profile = completed.profile.unwrap();
    assert!(profile.username.is_some());
    assert_eq!((profile.name, profile.threads_biography, profile.is_verified), (None, None, None));
    let me = world.controls.ledger().into_iter().find(|entry| entry.endpoint == Endpoint::Me).unwrap();
    assert_eq!(me.path, "/me");
    assert_eq!(me.parameters, ["fields"]);
}

#[tokio::test]
async fn creating_writes_nothing_and_asks_threads_nothing() {
    let world = World::start().await;
    world.link("user-1", "full").await.unwrap();
    let before = world.dump().await;
    let ledger = world.controls.ledger().len();
    for request in [usual(), of_sign_in(&[7; 32])] {
        world.create_as("web", request).await.unwrap();
    }
    assert_eq!(world.dump().await, before);
    assert_eq!(world.controls.ledger().len(), ledger);
}

#[tokio::test]
async fn creating_needs_no_database() {
    let database_url = Some("postgres://nobody@127.0.0.1:1/nothing".to_owned());
    let world = World::with(Wishes { database_url, ..Wishes::default() }).await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let refused = world.complete(&callback_url, "user-1").await;
    failed(refused, Code::Unavailable, "STORAGE_UNAVAILABLE");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0, "no code is spent that cannot be claimed");
}

#[tokio::test]
async fn two_apps_are_two_worlds() {
    let world = World::start().await;
    let created = world.create_as("second", usual()).await.unwrap();
    let url: BTreeMap<String, String> = pairs(&created.authorization_url).into_iter().collect();
    assert_eq!(
        (url["client_id"].as_str(), url["redirect_uri"].as_str()),
        (SECOND_CLIENT_ID, SECOND_REDIRECT_URI)
    );
    let callback_url = world.consent(&created, "full");
    let foreign = world.complete(&callback_url, "user-1").await;
    failed(foreign, Code::InvalidArgument, "STATE_INVALID");
    let completed = world.complete_as("second", completion(&callback_url, "user-1")).await.unwrap();
    // The same person and the same user id: another account all the same.
    let first = world.link("user-1", "full").await.unwrap();
    let (second, first) = (completed.account.unwrap(), first.account.unwrap());
    assert_ne!(second.account_id, first.account_id);
    failed(world.authorization(&created.authorization_id).await, Code::NotFound, "AUTHORIZATION_NOT_FOUND");
}
