//! The database goes away, is swallowed by a black hole, and comes back.

use std::time::{Duration, Instant};

use threads_identity::proto::v1::ListAccountsRequest;
use tonic::{Code, Request, Status};

use crate::harness::{Wishes, World, completion, database, failed};
use crate::proxy::Proxy;
use crate::shorthand::{account, profile, token, unlink, until};

/// Far longer than any answer may take, far shorter than a hang.
const SOON: Duration = Duration::from_secs(10);

pub async fn behind_proxy(config: &'static str) -> (World, Proxy) {
    let database = database().await;
    let proxy = Proxy::start(database.url()).await;
    let database_url = Some(proxy.url());
    let world =
        World::with(Wishes { config, database: Some(database), database_url, ..Wishes::default() }).await;
    (world, proxy)
}

impl World {
    async fn probe(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.ops)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn list_all(&self) -> Result<(), Status> {
        self.accounts("web").list_accounts(ListAccountsRequest::default()).await.map(drop)
    }
}

#[tokio::test]
async fn without_a_database_calls_fail_soon_and_work_again_by_themselves() {
    let (world, proxy) = behind_proxy("").await;
    let id = world.linked("user-1", "full").await.account_id;
    let other = world.linked("user-1", "home").await.account_id;
    world.list_all().await.unwrap();
    let created = world.create("user-2").await;
    let callback_url = world.consent(&created, "work");
    proxy.cut();
    for _ in 0..2 {
        let start = Instant::now();
        failed(world.account(&id).await, Code::Unavailable, "STORAGE_UNAVAILABLE");
        failed(world.profile(profile(&id, None)).await, Code::Unavailable, "STORAGE_UNAVAILABLE");
        failed(world.token(token(&id, "user-1")).await, Code::Unavailable, "STORAGE_UNAVAILABLE");
        failed(world.list_all().await, Code::Unavailable, "STORAGE_UNAVAILABLE");
        let unlinked = world.accounts("web").unlink_account(unlink(&other, "user-1")).await;
        failed(unlinked, Code::Unavailable, "STORAGE_UNAVAILABLE");
        failed(world.complete(&callback_url, "user-2").await, Code::Unavailable, "STORAGE_UNAVAILABLE");
        assert!(start.elapsed() < 3 * SOON);
    }
    assert!(!world.create("user-3").await.state.is_empty(), "a URL needs no database");
    proxy.heal();
    until("it reads again", async || world.account(&id).await.is_ok()).await;
    until("it lists again", async || world.list_all().await.is_ok()).await;
    until("it fetches again", async || world.token(token(&id, "user-1")).await.is_ok()).await;
    until("it links again", async || world.complete(&callback_url, "user-2").await.is_ok()).await;
}

#[tokio::test]
async fn readiness_follows_the_database_and_liveness_does_not() {
    let (world, proxy) = behind_proxy("").await;
    until("it is ready", async || world.probe("/readyz").await.0 == 200).await;
    proxy.cut();
    until("it is not", async || world.probe("/readyz").await.0 == 503).await;
    let (_, why) = world.probe("/readyz").await;
    assert!(why.starts_with("not ready: ") && why.trim().len() > 15, "{why}");
    assert_eq!(world.probe("/livez").await.0, 200);
    proxy.heal();
    until("it is again", async || world.probe("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn readiness_notices_a_database_that_swallows_everything() {
    let (world, proxy) = behind_proxy("").await;
    until("it is ready", async || world.probe("/readyz").await.0 == 200).await;
    proxy.freeze();
    until("it is not", async || world.probe("/readyz").await.0 == 503).await;
    proxy.forget_connections();
    until("it is again", async || world.probe("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn a_black_hole_holds_no_call_beyond_its_deadline() {
    let (world, proxy) = behind_proxy("").await;
    let id = world.linked("user-1", "full").await.account_id;
    world.list_all().await.unwrap();
    proxy.freeze();
    fn within<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("grpc-timeout", "1S".parse().unwrap());
        request
    }
    let start = Instant::now();
    let (mut accounts, mut more, mut tokens, mut lists) =
        (world.accounts("web"), world.accounts("web"), world.tokens("web"), world.accounts("web"));
    let (read, unlinked, fetched, listed) = tokio::join!(
        accounts.get_account(within(account(&id, None))),
        more.unlink_account(within(unlink(&id, "user-1"))),
        tokens.fetch_access_token(within(token(&id, "user-1"))),
        lists.list_accounts(within(ListAccountsRequest::default())),
    );
    for refused in [read.map(drop), unlinked.map(drop), fetched.map(drop), listed.map(drop)] {
        // Where the client's own clock was first there is no reason.
        let code = refused.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable), "{code:?}");
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());

    // Without a deadline of the caller's own there is ours.
    let start = Instant::now();
    let refused = world.account(&id).await.unwrap_err().code();
    assert!(matches!(refused, Code::DeadlineExceeded | Code::Unavailable), "{refused:?}");
    assert!(start.elapsed() < 2 * SOON);
    proxy.heal();
    until("it reads again", async || world.account(&id).await.is_ok()).await;
    until("it lists again", async || world.list_all().await.is_ok()).await;
}

/// The connections of before the black hole never say anything again. What
/// waits on them must not keep the pool's places for ever.
#[tokio::test]
async fn a_black_hole_keeps_no_place_in_the_pool() {
    let (world, proxy) = behind_proxy("[database]\npool_size = 3\n").await;
    let id = world.linked("user-1", "full").await.account_id;
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
    let unlinks = futures_util::future::join_all((0..3).map(|_| {
        let mut client = world.accounts("web");
        let request = unlink(&id, "user-1");
        async move { client.unlink_account(request).await }
    }));
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
                   and datname = current_database()";
    let freezing = async {
        until("all three wait", async || world.look_up(waiting).await == "3").await;
        proxy.freeze();
    };
    let (unlinks, ()) = tokio::join!(unlinks, freezing);
    for unlinked in unlinks {
        let code = unlinked.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Unavailable), "{code:?}");
    }
    sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    proxy.forget_connections();
    until("it reads again", async || world.account(&id).await.is_ok()).await;
    until("it lists again", async || world.list_all().await.is_ok()).await;
    let lists = futures_util::future::join_all((0..9).map(|_| world.list_all())).await;
    assert!(lists.iter().all(Result::is_ok), "the pool has all its places");
    assert!(world.accounts("web").unlink_account(unlink(&id, "user-1")).await.is_ok());
}

/// Numbers that look random, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test]
async fn calls_given_up_at_random_leave_no_connection_inside_a_transaction() {
    let (world, proxy) = behind_proxy("[database]\npool_size = 4\n").await;
    let id = world.linked("user-1", "full").await.account_id;
    world.fill("default", "many", 10).await;
    proxy.delay(Duration::from_millis(2));
    let mut dice = Dice(1);
    for round in 0..60 {
        let mut calls = Vec::new();
        for n in 0..5 {
            let patience = Duration::from_micros(dice.below(25_000));
            let kind = dice.below(5);
            let user_id = format!("user-{round}-{n}");
            let callback_url = {
                let created = world.create(&user_id).await;
                if kind == 0 { world.consent(&created, "home") } else { String::new() }
            };
            let (world, id) = (&world, &id);
            calls.push(async move {
                let call = async {
                    match kind {
                        0 => {
                            let request = completion(&callback_url, &user_id);
                            let _ = world.authorizations("web").complete_authorization(request).await;
                        }
                        1 => drop(world.list_all().await),
                        2 => drop(world.token(token(id, "user-1")).await),
                        3 => drop(world.accounts("web").unlink_account(unlink(id, "nobody")).await),
                        _ => drop(world.account(id).await),
                    }
                };
                let _ = tokio::time::timeout(patience, call).await;
            });
        }
        futures_util::future::join_all(calls).await;
    }
    proxy.delay(Duration::ZERO);
    let idle = "select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    until("what had begun has ended", async || {
        let busy = "select count(*) from pg_stat_activity where datname = current_database()
                    and application_name = 'threads-identity' and state = 'active'";
        world.look_up(busy).await == "0"
    })
    .await;
    assert_eq!(world.look_up(idle).await, "0");
    for _ in 0..8 {
        world.list_all().await.unwrap();
        assert!(world.account(&id).await.is_ok());
        assert!(world.token(token(&id, "user-1")).await.is_ok());
    }
}
