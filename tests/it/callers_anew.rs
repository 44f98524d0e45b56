//! Callers and issuers come and go while the service runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use threads_identity::grpc::new_caller_key;
use threads_identity::proto::v1::WatchAccountsRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use tonic::{Code, Streaming};

use crate::harness::{START, Wishes, World, failed, with_key};
use crate::issuer::{Issuer, Key};
use crate::shorthand::{NOBODY, account, until};

/// A configuration file that is gone after the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("threads-identity-callers-{}-{n}.toml", std::process::id())))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }

    /// Puts another text in its place, at once.
    fn place(&self, text: &str) {
        let fresh = self.0.with_extension("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn caller(name: &str, app: &str, hashes: &[&str]) -> String {
    format!(
        "[[callers]]\nname = \"{name}\"\napp = \"{app}\"\nroles = [\"read\", \"sync\"]\nkey_sha256 = {hashes:?}\n"
    )
}

async fn in_file(file: &File, config: String) -> World {
    let config = config.leak();
    World::with(Wishes { config, config_file: Some(file.0.clone()), ..Wishes::default() }).await
}

impl World {
    async fn reloads(&self, result: &str) -> i64 {
        self.metric(&format!("threads_identity_caller_reloads_total{{result=\"{result}\"}}")).await as i64
    }

    async fn watch_with(
        &self,
        bearer: &str,
    ) -> Streaming<threads_identity::proto::v1::WatchAccountsResponse> {
        let channel = with_key(self.connect().await, bearer);
        let mut client = AccountServiceClient::new(channel);
        client.watch_accounts(WatchAccountsRequest::default()).await.unwrap().into_inner()
    }
}

/// How a watch ends.
async fn end(watch: &mut Streaming<threads_identity::proto::v1::WatchAccountsResponse>) -> tonic::Status {
    loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "a watch never ends well"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_while_calls_run_and_none_fails() {
    let (first, first_hash) = new_caller_key();
    let (second, second_hash) = new_caller_key();
    let file = File::new();
    let world = in_file(&file, caller("rotating", "default", &[&first_hash])).await;
    let rest = file.text().split_once("\n[[apps]]").unwrap().1.to_owned();
    let text = |hashes: &[&str]| format!("{}\n[[apps]]{rest}", caller("rotating", "default", hashes));

    let (switched, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let calls = async || {
        let (channel, mut count) = (world.connect().await, [0_usize; 2]);
        while !stop.load(Ordering::SeqCst) {
            // Which key a backend has is read before its call, as backends do.
            let is_new = switched.load(Ordering::SeqCst);
            let mut client =
                AccountServiceClient::new(with_key(channel.clone(), if is_new { &second } else { &first }));
            failed(client.get_account(account(NOBODY, None)).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
            count[usize::from(is_new)] += 1;
        }
        count
    };
    let change = async {
        assert!(!world.lets_in(&second).await);
        file.place(&text(&[&first_hash, &second_hash]));
        until("the second key opens", async || world.lets_in(&second).await).await;
        switched.store(true, Ordering::SeqCst);
        // The operator sees when the old key is at rest.
        let uses = format!(
            "threads_identity_credential_uses_total{{caller=\"rotating\",credential=\"key:{}\"}}",
            &first_hash[..8]
        );
        until("the first key rests", async || {
            let before = world.metric(&uses).await as i64;
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.metric(&uses).await as i64 == before
        })
        .await;
        file.place(&text(&[&second_hash]));
        until("the first key is out", async || !world.lets_in(&first).await).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (one, two, ()) = tokio::join!(calls(), calls(), change);
    for index in 0..2 {
        assert!(one[index] + two[index] > 0, "{one:?} {two:?}");
    }
    assert_eq!(world.reloads("taken").await, 2);
    assert_eq!(world.reloads("refused").await, 0);
}

#[tokio::test]
async fn a_file_with_any_problem_changes_nothing() {
    let (key, hash) = new_caller_key();
    let (stranger, stranger_hash) = new_caller_key();
    let file = File::new();
    let world = in_file(&file, caller("kept", "default", &[&hash])).await;
    let good = file.text();
    let added = |app: &str| caller("added", app, &[&stranger_hash]) + &good;
    let without_callers = good
        .split("[[")
        .filter(|part| !part.starts_with("callers]]") && !part.contains("id = \"second\""))
        .collect::<Vec<_>>()
        .join("[[");
    let third = "[[apps]]\nid = \"third\"\nclient_id = \"3\"\nclient_secret = \"s\"\nredirect_uris = [\"https://a.example/cb\"]\n";
    let broken = [
        ("not TOML", added("default") + "\n[["),
        ("an unknown role", added("default").replace("\"sync\"]", "\"admin\"]")),
        ("an unknown app", added("nowhere")),
        ("an app that is not served", added("third") + third),
        ("an unknown key", added("default") + "\n[server]\nnonsense = 1\n"),
        ("a name twice", added("default").replace("\"added\"", "\"kept\"")),
        ("a key twice", added("default").replace(&stranger_hash, &hash)),
        ("no callers", without_callers.clone()),
        ("empty", String::new()),
    ];
    for (what, text) in broken {
        let before = world.reloads("refused").await;
        file.place(&text);
        until(what, async || world.reloads("refused").await >= before + 3).await;
        assert!(world.lets_in(&key).await, "{what}");
        assert!(!world.lets_in(&stranger).await, "{what}");
        assert_eq!(world.reloads("taken").await, 0, "{what}");
    }
    fs::remove_file(&file.0).unwrap();
    let before = world.reloads("refused").await;
    until("no file", async || world.reloads("refused").await >= before + 3).await;
    assert!(world.lets_in(&key).await);
    // What is mended is taken.
    file.place(&added("default"));
    until("the added key opens", async || world.lets_in(&stranger).await).await;
    assert!(world.lets_in(&key).await);
    let before = world.reloads("refused").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.reloads("refused").await, before);
}

#[tokio::test]
async fn what_else_has_changed_does_not_stand_in_the_way() {
    let (key, hash) = new_caller_key();
    let file = File::new();
    let world = in_file(&file, String::new()).await;
    let other = format!("[watch]\nheartbeat = \"7s\"\n{}", caller("added", "second", &[&hash]));
    file.place(&(other + &file.text()));
    until("the added key opens", async || world.lets_in(&key).await).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_credential_and_with_its_role() {
    let (kept, kept_hash) = new_caller_key();
    let (gone, gone_hash) = new_caller_key();
    let (less, less_hash) = new_caller_key();
    let signing = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&signing]).await;
    let file = File::new();
    let two = caller("two", "default", &[&kept_hash, &gone_hash]);
    let reduced = caller("less", "default", &[&less_hash]);
    let config = issuer.lines("") + &issuer.caller("by-token") + &two + &reduced;
    let world = in_file(&file, config).await;
    let token = signing.token(&issuer.claims());
    let mut staying = world.watch_with(&kept).await;
    let mut ending =
        [world.watch_with(&gone).await, world.watch_with(&less).await, world.watch_with(&token).await];
    let text = file.text();
    let text = text.replace(&two, &caller("two", "default", &[&kept_hash]));
    let text = text.replace(&reduced, &reduced.replace("\"read\", \"sync\"", "\"read\""));
    let text = text.replace("subject = \"web\"", "subject = \"somebody\"");
    file.place(&text);
    for watch in &mut ending {
        let status = tokio::time::timeout(Duration::from_mins(1), end(watch)).await.expect("it ends");
        failed::<()>(Err(status), Code::Unauthenticated, "CALLER_UNKNOWN");
    }
    let ended = "threads_identity_watches_ended_total{reason=\"CALLER_UNKNOWN\"}";
    until("they are counted", async || world.metric(ended).await as i64 == 3).await;
    world.refuses(&token, "token_subject", "a token of nobody").await;
    // A caller with the other key goes on.
    let change = world.fill("default", "user-1", 1).await;
    assert_eq!(change.len(), 1);
    assert!(tokio::time::timeout(Duration::from_millis(300), end(&mut staying)).await.is_err());
}

#[tokio::test]
async fn an_issuer_comes_and_goes_and_others_keep_their_keys() {
    let signing = Key::ec("k");
    let (staying, coming) = (
        Issuer::start(START.unix_timestamp(), &[&signing]).await,
        Issuer::start(START.unix_timestamp(), &[&signing]).await,
    );
    let file = File::new();
    let world = in_file(&file, staying.lines("") + &staying.caller("staying")).await;
    let tokens = [&staying, &coming].map(|issuer| signing.token(&issuer.claims()));
    assert!(world.lets_in(&tokens[0]).await);
    world.refuses(&tokens[1], "token_issuer", "not yet").await;
    let before = file.text();
    file.place(&(coming.lines("") + &coming.caller("coming") + &before));
    until("the new issuer's token opens", async || world.lets_in(&tokens[1]).await).await;
    assert!(world.lets_in(&tokens[0]).await);
    assert_eq!(staying.reads(), 1, "its keys were kept");
    file.place(&before);
    until("it does not any more", async || !world.lets_in(&tokens[1]).await).await;
    world.refuses(&tokens[1], "token_issuer", "not any more").await;
    assert!(world.lets_in(&tokens[0]).await);
}

#[tokio::test]
async fn somebody_who_was_not_known_to_anybody_is_let_in_no_more_once_there_are_callers() {
    let (key, hash) = new_caller_key();
    let file = File::new();
    let config_file = Some(file.0.clone());
    let world = World::with(Wishes { callers: false, config_file, ..Wishes::default() }).await;
    assert!(world.lets_in("whatever").await);
    file.place(&(caller("first", "default", &[&hash]) + &file.text()));
    until("nobody else is let in", async || !world.lets_in("whatever").await).await;
    assert!(world.lets_in(&key).await);
    assert!(Path::new(&file.0).exists());
}
