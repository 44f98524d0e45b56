//! `PgBouncer` in between, in transaction mode: a version that works, one that
//! hands out other statements' rows, and settings that are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    BatchGetProfilesRequest, EraseUserRequest, ListAccountChangesRequest, WatchAccountsRequest,
};
use threads_identity::secret::DatabaseUrl;
use threads_identity::simulator::Endpoint;
use threads_identity::store::{self, self_test};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::home::Home;
use crate::world::{Ground, PATIENCE, World, free_port};

const SETTINGS: &str = "[refresh]\nminimum_age = \"1s\"\npoll_interval = \"250ms\"\n";
/// The limits that an operator gives the role.
const LIMITS: &str = "alter role postgres set statement_timeout = '2s';
                      alter role postgres set lock_timeout = '1500ms';
                      alter role postgres set idle_in_transaction_session_timeout = '5s'";
/// Set where a missing `PgBouncer` is a failure.
const REQUIRED: &str = "THREADS_IDENTITY_PGBOUNCER_REQUIRED";

/// A version of it by the suite that it is of, as `tests/faults/get-pgbouncer`
/// fetches it, or as a variable names it. `None`, and said loudly, where it is
/// not there.
fn program(suite: &str) -> Option<PathBuf> {
    let variable = format!("THREADS_IDENTITY_PGBOUNCER_{}", suite.to_uppercase());
    let place = format!("target/tools/pgbouncer/{suite}/run");
    let path = std::env::var(&variable)
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join(place), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    let missing = format!("{} is not there: run tests/faults/get-pgbouncer", path.display());
    assert!(std::env::var(REQUIRED).is_err(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    None
}

/// A running one; it ends when dropped.
struct PgBouncer {
    child: Child,
    url: String,
}

impl PgBouncer {
    /// In front of a Postgres that listens on a port, with these settings.
    async fn start(program: &Path, home: &Home, database_url: &str, settings: &str) -> Self {
        let database = Url::parse(database_url).unwrap();
        let port = free_port();
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user={} password={}\n\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 6\n{settings}",
            database.port().unwrap(),
            database.username(),
            database.password().unwrap()
        );
        let config = home.path.join(format!("pgbouncer-{port}.ini"));
        fs::write(&config, text).unwrap();
        let log = fs::File::create(home.path.join(format!("pgbouncer-{port}.log"))).unwrap();
        let mut command = Command::new(program);
        // It refuses to be root, and needs to write nothing.
        command.args(["-u", "nobody"]).arg(&config);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                if let Some(how) = child.try_wait().unwrap() {
                    let log = home.path.join(format!("pgbouncer-{port}.log"));
                    panic!("PgBouncer ended ({how}):\n{}", fs::read_to_string(log).unwrap());
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, listens).await.unwrap();
        Self { child, url }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Postgres that `PgBouncer` can reach, whose role has its limits or has none.
async fn ground(limits: bool) -> (Ground, String) {
    let port = free_port();
    let ground = Ground::with(|data| ClusterOptions {
        port: Some(port),
        max_connections: 60,
        ..ClusterOptions::new(data)
    })
    .await;
    let url = ground.postgres.cluster.as_ref().unwrap().tcp_url("postgres").unwrap();
    if limits {
        use sqlx::Connection as _;
        let mut sql = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(LIMITS).execute(&mut sql).await.unwrap();
    }
    (ground, url)
}

/// A replica that must refuse to serve, and what it says.
async fn refusal(suite: &str, limits: bool, settings: &str) -> Option<String> {
    let program = program(suite)?;
    let (ground, url) = ground(limits).await;
    let bouncer = PgBouncer::start(&program, &ground.home, &url, settings).await;
    let world = World::on_url(ground, &bouncer.url).await;
    world
        .until("it has ended", async || {
            let mut replica = world.replica.lock().await;
            replica.look();
            replica.deserted.is_some()
        })
        .await;
    let how = world.replica.lock().await.deserted.take().unwrap();
    assert!(how.contains('1'), "ended with a failure: {how}");
    assert_eq!(world.counted("select count(*) from deployment").await, 0, "before anything was written");
    Some(world.log())
}

/// F14: everything that the service does, through one that works.
#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pgbouncer_that_knows_prepared_statements() {
    let Some(program) = program("trixie") else { return };
    let (ground, url) = ground(true).await;
    let settings = "max_prepared_statements = 100\nignore_startup_parameters = options\n";
    let bouncer = PgBouncer::start(&program, &ground.home, &url, settings).await;
    let world = World::on(ground, &bouncer.url, SETTINGS).await;
    world.people(60);
    world.controls.knobs(|knobs| knobs.refresh_minimum_age = 1);
    world.until_ready().await;

    let mut watch =
        world.accounts().watch_accounts(WatchAccountsRequest::default()).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    // Many at once, so that sessions of Postgres pass from one connection to another.
    let users: Vec<String> = (0..60).map(|person| format!("user-{person}")).collect();
    let links = users.iter().zip(0..).map(|(user_id, person)| world.link(user_id, person));
    let linked: Vec<_> =
        futures_util::future::join_all(links).await.into_iter().map(Result::unwrap).collect();
    world.require_links(&linked).await;
    for _ in 0..5 {
        let reads = futures_util::future::join_all(linked.iter().map(async |account| {
            let (read, listed, token) = tokio::join!(
                world.account(&account.account_id),
                world.list(&account.user_id),
                world.token(account)
            );
            assert_eq!(read.unwrap().threads_user_id, account.threads_user_id);
            assert_eq!(listed.unwrap()[0].account_id, account.account_id);
            assert!(world.controls.is_newest(&token.unwrap()));
        }));
        reads.await;
    }
    let mut profiles = ProfileServiceClient::new(world.connect());
    let account_ids: Vec<String> = linked.iter().map(|account| account.account_id.clone()).collect();
    let request = BatchGetProfilesRequest { account_ids, ..Default::default() };
    let found = profiles.batch_get_profiles(request).await.unwrap().into_inner();
    for (account, found) in linked.iter().zip(&found.profiles) {
        assert_eq!(found.profile.as_ref().unwrap().id, account.threads_user_id);
    }

    // Refreshes, in the background.
    sleep(Duration::from_millis(1200)).await;
    sqlx::raw_sql("update accounts set next_refresh_time = now()")
        .execute(&mut world.sql().await)
        .await
        .unwrap();
    world.until("all are refreshed", async || world.controls.count(Endpoint::Refresh) >= 60).await;
    let unproven = "select count(*) from accounts where previous_token is not null";
    world.until("they are stored", async || world.counted(unproven).await == 0).await;

    // The stream and the list of changes.
    let mut linked_events = 0;
    while linked_events < 60 {
        let message = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        linked_events += usize::from(message.change.is_some());
    }
    let request = ListAccountChangesRequest { cursor: Some(first.cursor), ..Default::default() };
    let changes = world.accounts().list_account_changes(request).await.unwrap().into_inner().changes;
    assert!(!changes.is_empty());

    // What needs a session of its own takes the direct way.
    for arguments in
        [&["migrate"][..], &["keys", "list"], &["audit", "--user", "user-3"], &["erase", "--export"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_threads-identity"));
        command.args(arguments).env_clear().env("DATABASE_URL", &bouncer.url);
        command.env("DATABASE_DIRECT_URL", &url).env("THREADS_IDENTITY_KEY", &*world.keyring.to_inline());
        let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    // Ends, by every way; one of them in transactions of many statements.
    world.unlink(&linked[0]).await.unwrap();
    assert_eq!(world.list("user-0").await.unwrap().len(), 0);
    for user_id in &users[1..10] {
        let request = EraseUserRequest { user_id: user_id.clone() };
        world.accounts().erase_user(request).await.unwrap();
        assert_eq!(world.list(user_id).await.unwrap().len(), 0);
    }
    assert_eq!(world.counted("select count(*) from accounts").await, 51);
    world.end().await;
}

/// F14: Debian 12's.
#[tokio::test(flavor = "multi_thread")]
async fn a_pgbouncer_that_mixes_up_statements_is_refused() {
    let Some(log) = refusal("bookworm", true, "ignore_startup_parameters = options\n").await else { return };
    assert!(log.contains("use PgBouncer 1.21 or newer"), "{log}");
}

/// One that could, and has been told not to.
#[tokio::test(flavor = "multi_thread")]
async fn a_pgbouncer_without_prepared_statements_is_refused() {
    let settings = "max_prepared_statements = 0\nignore_startup_parameters = options\n";
    let Some(log) = refusal("trixie", true, settings).await else { return };
    assert!(log.contains("use PgBouncer 1.21 or newer"), "{log}");
}

/// What is missing is named.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_pgbouncer_lacks_are_named() {
    for suite in ["bookworm", "trixie"] {
        let Some(log) = refusal(suite, true, "").await else { return };
        assert!(log.contains("ignore_startup_parameters = options"), "{log}");
        assert!(log.contains("alter role NAME set statement_timeout"), "{log}");
    }
    let settings = "max_prepared_statements = 100\nignore_startup_parameters = options\n";
    let Some(log) = refusal("trixie", false, settings).await else { return };
    assert!(log.contains("the sessions have no limits"), "{log}");
}

/// By session everything works with any version.
#[tokio::test(flavor = "multi_thread")]
async fn a_pgbouncer_that_pools_by_session_is_good() {
    let Some(program) = program("bookworm") else { return };
    let (ground, url) = ground(true).await;
    let settings = "ignore_startup_parameters = options\npool_mode = session\ndefault_pool_size = 40\n";
    let bouncer = PgBouncer::start(&program, &ground.home, &url, settings).await;
    let world = World::on_url(ground, &bouncer.url).await;
    world.people(1);
    world.until_ready().await;
    assert!(world.link("user-0", 0).await.is_ok());
    world.end().await;
}

/// Without anything in between it costs some milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn the_trial_of_the_way_is_quick() {
    let mut ground = Ground::new().await;
    let pool = store::pool_of_one(&DatabaseUrl::new(ground.postgres.url())).unwrap();
    self_test::run_through(&pool).await.unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        self_test::run_through(&pool).await.unwrap();
    }
    let each = start.elapsed() / 20;
    eprintln!("the trial takes {each:?}");
    // Generous for a machine that has much else to do.
    assert!(each < Duration::from_secs(1), "{each:?}");
    ground.postgres.stop().await;
}
