//! Tokens leave only to whom they may, and never without a trace.

use std::time::Duration;

use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::create_authorization_url_request::Flow;
use threads_identity::proto::v1::{CreateAuthorizationUrlRequest, FetchAccessTokenRequest};
use threads_identity::simulator::Endpoint;
use tonic::Code;

use crate::harness::{START, World, bad_fields, failed, link, metadata};
use crate::shorthand::{NOBODY, token};

/// How long the simulator's long-lived tokens live, in seconds.
const LIFETIME: u64 = 5_183_944;

fn lasting(id: &str, seconds: i64, nanos: i32) -> FetchAccessTokenRequest {
    let minimum_lifetime = Some(prost_types::Duration { seconds, nanos });
    FetchAccessTokenRequest { minimum_lifetime, ..token(id, "user-1") }
}

fn needing(id: &str, scopes: &[&str]) -> FetchAccessTokenRequest {
    let required_scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    FetchAccessTokenRequest { required_scopes, ..token(id, "user-1") }
}

#[tokio::test]
async fn a_token_must_be_asked_for_rightly() {
    let world = World::start().await;
    let bad = async |request: FetchAccessTokenRequest| bad_fields(world.token(request).await);
    assert_eq!(bad(FetchAccessTokenRequest::default()).await, ["account_id", "user_id"]);
    assert_eq!(bad(token("x", "user-1")).await, ["account_id"]);
    for user_id in ["", &"u".repeat(129), "a\0"] {
        assert_eq!(bad(token(NOBODY, user_id)).await, ["user_id"], "{user_id:?}");
    }
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (86_400, 1),
        (86_401, 0),
        (i64::MAX, i32::MAX),
        (i64::MIN, i32::MIN),
        (1, 1_000_000_000),
    ] {
        assert_eq!(
            bad(lasting(NOBODY, seconds, nanos)).await,
            ["minimum_lifetime"],
            "{seconds} s {nanos} ns"
        );
    }
    for scope in ["", "a b", "a,b", "Threads_Basic", "ü", "a\0", &"x".repeat(65)] {
        assert_eq!(bad(needing(NOBODY, &["ok", scope])).await, ["required_scopes[1]"], "{scope:?}");
    }
    assert_eq!(bad(needing(NOBODY, &["a", "b", "a"])).await, ["required_scopes[2]"]);
    let many: Vec<String> = (0..33).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(bad(needing(NOBODY, &many)).await, ["required_scopes"]);
    for purpose in ["p".repeat(65), "ü".repeat(33), "a\nb".to_owned(), "a\0b".to_owned()] {
        assert_eq!(bad(FetchAccessTokenRequest { purpose, ..token(NOBODY, "u") }).await, ["purpose"]);
    }
    let all = FetchAccessTokenRequest {
        purpose: "p".repeat(65),
        minimum_lifetime: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..needing("", &["!"])
    };
    assert_eq!(bad(all).await, ["account_id", "minimum_lifetime", "required_scopes[0]", "purpose"]);
    let fits = FetchAccessTokenRequest { purpose: "p".repeat(64), ..needing(NOBODY, &many[..32]) };
    failed(world.token(fits).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn every_fetch_is_on_record_before_the_token_leaves() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    let trail = "select string_agg(concat_ws('|', app_id, account_id, user_id, caller, action,
                     coalesce(purpose, '-'), extract(epoch from audit_time)::bigint), ' ' order by audit_id)
                 from audit";
    let mut only_token = world.tokens("only-token");
    let request = FetchAccessTokenRequest { purpose: "nightly post".to_owned(), ..token(id, "user-1") };
    let fetched = only_token.fetch_access_token(request).await.unwrap().into_inner();
    assert_eq!(Some(&fetched.access_token), world.controls.newest_token("full").as_ref());
    assert_eq!(fetched.threads_user_id, linked.threads_user_id);
    assert_eq!(fetched.scopes, ["threads_basic"]);
    assert_eq!(fetched.expire_time, linked.token_expire_time);
    let start = START.unix_timestamp();
    let first = format!("default|{id}|user-1|only-token|FETCH_ACCESS_TOKEN|nightly post|{start}");
    assert_eq!(world.look_up(trail).await, first);

    // Refused ones hand nothing out and leave no row that says they did.
    failed(world.token(token(id, "user-2")).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    failed(
        world.token(needing(id, &["threads_delete"])).await,
        Code::FailedPrecondition,
        "PERMISSION_MISSING",
    );
    assert_eq!(world.look_up(trail).await, first);

    world.token(token(id, "user-1")).await.unwrap();
    let second = format!("default|{id}|user-1|web|FETCH_ACCESS_TOKEN|-|{start}");
    assert_eq!(world.look_up(trail).await, format!("{first} {second}"));
}

#[tokio::test]
async fn when_a_token_was_last_fetched_is_known_to_the_minute() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let last = async || world.account(&id).await.unwrap().last_token_fetch_time.map(|time| time.seconds);
    assert_eq!(last().await, None);
    let start = START.unix_timestamp();
    for (later, expected) in [(0, 0), (59, 0), (1, 60), (30, 60), (300, 360)] {
        world.advance(Duration::from_secs(later));
        world.token(token(&id, "user-1")).await.unwrap();
        assert_eq!(last().await, Some(start + expected));
    }
    world.advance(Duration::from_secs(600));
    failed(world.token(token(&id, "user-2")).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(last().await, Some(start + 360), "a refused fetch is none");
    assert_eq!(world.look_up("select count(*) from audit").await, "5");
}

#[tokio::test]
async fn a_token_that_lives_as_long_as_asked_for_is_handed_out_as_it_is() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.token(lasting(id, 86_400, 0)).await.unwrap();

    world.advance(Duration::from_secs(LIFETIME - 1800));
    for request in [lasting(id, 0, 0), lasting(id, 1799, 999_999_999), lasting(id, 1800, 0)] {
        let fetched = world.token(request).await.unwrap();
        assert_eq!(fetched.expire_time, linked.token_expire_time);
    }
    world.advance(Duration::from_secs(1799));
    world.token(lasting(id, 0, 0)).await.unwrap();
    assert_eq!(world.controls.count(Endpoint::Refresh), 0);
    world.advance(Duration::from_secs(1));
    for request in [lasting(id, 0, 0), token(id, "user-1")] {
        let details =
            failed(world.token(request).await, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
        assert_eq!(metadata(&details)["state_reason"], "TOKEN_EXPIRED");
        assert_eq!(metadata(&details)["account_id"], id);
    }
    assert_eq!(world.controls.count(Endpoint::Refresh), 0, "nothing refreshes a dead token");
}

#[tokio::test]
async fn a_token_covers_the_scopes_that_are_required() {
    let world = World::start().await;
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link("user-1"))),
        scopes: vec!["threads_content_publish".to_owned(), "threads_keyword_search".to_owned()],
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.authorizations("web").create_authorization_url(request).await.unwrap().into_inner();
    let callback_url = world.consent(&created, "full");
    let id = world.complete(&callback_url, "user-1").await.unwrap().account.unwrap().account_id;
    for scopes in [&[][..], &["threads_basic"], &["threads_keyword_search", "threads_basic"]] {
        let fetched = world.token(needing(&id, scopes)).await.unwrap();
        assert_eq!(fetched.scopes, ["threads_basic", "threads_content_publish", "threads_keyword_search"]);
    }
    let needed = needing(&id, &["threads_delete", "threads_basic", "threads"]);
    let details = failed(world.token(needed).await, Code::FailedPrecondition, "PERMISSION_MISSING");
    assert_eq!(metadata(&details)["scopes"], "threads_delete threads");
    assert_eq!(metadata(&details)["account_id"], id);
}

#[tokio::test]
async fn an_account_that_needs_consent_says_why() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    for why in ["ACCESS_REVOKED", "SESSION_INVALIDATED", "PERMISSION_LOST"] {
        world
            .meddle(format!("update accounts set state = 'REAUTHORIZATION_REQUIRED', state_reason = '{why}'"))
            .await;
        let refused = world.token(needing(&id, &["threads_delete"])).await;
        let details = failed(refused, Code::FailedPrecondition, "REAUTHORIZATION_REQUIRED");
        assert_eq!(metadata(&details)["state_reason"], why);
    }
    assert_eq!(world.account(&id).await.unwrap().state(), State::ReauthorizationRequired);
    assert_eq!(world.look_up("select count(*) from audit").await, "0");
}

#[tokio::test]
async fn fetches_at_once_share_statements_and_each_is_on_record() {
    let world = World::start().await;
    let mut accounts = Vec::new();
    for n in 0..8 {
        world.controls.add_persona(threads_identity::simulator::Persona::numbered(n));
        let user_id = format!("user-{n}");
        let id = world.linked(&user_id, &format!("n{n}")).await.account_id;
        accounts.push((id, user_id, world.controls.newest_token(&format!("n{n}")).unwrap()));
    }
    let fetches = (0..64).map(|n| {
        let (id, user_id, expected) = accounts[n % 8].clone();
        let request = FetchAccessTokenRequest { purpose: format!("p{n}"), ..token(&id, &user_id) };
        let mut client = world.tokens("web");
        async move {
            let fetched = client.fetch_access_token(request).await.unwrap().into_inner();
            assert_eq!(fetched.access_token, expected);
        }
    });
    futures_util::future::join_all(fetches).await;
    let metric = async |name: &str| {
        world.metric(&format!("threads_identity_{name}_total{{batch=\"token_fetches\"}}")).await
    };
    let (batches, rows) = (metric("batches").await, metric("batch_rows").await);
    assert!((63.5..64.5).contains(&rows) && batches <= 32.0, "{batches} statements for {rows} fetches");
    assert_eq!(world.look_up("select count(distinct purpose) from audit").await, "64");
    assert_eq!(world.look_up("select count(*) from audit").await, "64");
}

/// Rows that two replicas touch in different orders would make them wait for
/// each other in a circle.
#[tokio::test]
async fn replicas_that_fetch_the_same_tokens_at_once_do_not_trip_over_each_other() {
    const ACCOUNTS: usize = 120;
    let world = World::start().await;
    let replica = world.replica().await;
    let ids = world.fill("default", "many", ACCOUNTS as i64).await;
    for round in 0..60 {
        // Once a minute each account's row is touched.
        world.advance(Duration::from_secs(60));
        let fetches = (0..ACCOUNTS).map(|n| {
            // One goes through the accounts one way, the other another.
            let step = [7, 11, 13, 17][(n + round) % 2 + round % 3];
            let id = &ids[(n / 2 * step + round) % ACCOUNTS];
            let mut client = if n % 2 == 0 { world.tokens("web") } else { replica.tokens("web") };
            let request = token(id, "many");
            async move { client.fetch_access_token(request).await }
        });
        for fetched in futures_util::future::join_all(fetches).await {
            // Nobody has sealed these tokens; to get so far is enough.
            failed(fetched, Code::DataLoss, "SEALED_DATA_INVALID");
        }
    }
    let recorded: usize = world.look_up("select count(*) from audit").await.parse().unwrap();
    assert_eq!(recorded, 60 * ACCOUNTS);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(world.look_up(deadlocks).await, "0");
}
