//! The backend as a browser meets it, against the real service and the simulator:
//! `examples/run rust`, one test at a time.

use std::collections::BTreeSet;
use std::env::var;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use backend::accounts::{Accounts, Entry};
use backend::errors::{Action, IdentityError, patiently};
use backend::identity::Identity;
use backend::pb::AccountChange;
use backend::{watcher, web};
use reqwest::{Client, Response, redirect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::Code;

fn env(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} is not set: run me with examples/run"))
}

fn client(key: &str) -> Identity {
    let ca = std::fs::read(env("THREADS_IDENTITY_CA_FILE")).unwrap();
    Identity::new(&env("THREADS_IDENTITY_ADDRESS"), &ca, key).unwrap()
}

/// The backend as `main` starts it, on a thread of its own, and what its watch has
/// told of.
struct Running {
    accounts: Arc<Accounts>,
    changes: Arc<Mutex<Vec<AccountChange>>>,
}

static BACKEND: LazyLock<Running> = LazyLock::new(|| {
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let identity = client(&env("THREADS_IDENTITY_CALLER_KEY"));
            let accounts = Arc::new(Accounts::open(folder.path().join("accounts.json")).unwrap());
            let changes = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&changes);
            let note = move |change: &AccountChange| {
                noted.lock().unwrap().push(change.clone());
                Ok(())
            };
            let stop = CancellationToken::new();
            tokio::spawn(watcher::keep_true(identity.clone(), Arc::clone(&accounts), stop, note));
            let listener = tokio::net::TcpListener::bind(env("LISTEN")).await.unwrap();
            while accounts.cursor().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ready.send(Running { accounts: Arc::clone(&accounts), changes }).unwrap();
            axum::serve(listener, web::router(identity, accounts, env("THREADS_GRAPH_URL"))).await.unwrap();
        });
    });
    is_ready.recv_timeout(Duration::from_secs(30)).unwrap()
});

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < until, "it does not come to pass");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn post(url: String, body: Value) -> Value {
    let answer = Client::new().post(&url).json(&body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

async fn simulate(path: &str, body: Value) -> Value {
    post(format!("{}/_simulator/{path}", env("TEST_SIMULATOR_URL")), body).await
}

async fn control(path: &str) {
    post(env("TEST_CONTROL_URL") + path, json!({})).await;
}

/// Somebody with a Threads account and a browser that is logged in here.
struct Person {
    user_id: String,
    key: String,
    threads_id: String,
    username: String,
    browser: Client,
}

impl Person {
    async fn new() -> Self {
        static PEOPLE: AtomicU64 = AtomicU64::new(1);
        LazyLock::force(&BACKEND);
        let number = PEOPLE.fetch_add(1, Ordering::Relaxed);
        let person = Self {
            user_id: format!("user-{number}"),
            key: format!("person{number}"),
            threads_id: (17_841_405_793_190_000 + number).to_string(),
            username: format!("person{number}.sim"),
            browser: Client::builder().cookie_store(true).redirect(redirect::Policy::none()).build().unwrap(),
        };
        let persona = json!({ "key": person.key, "id": person.threads_id, "username": person.username });
        simulate("personas", persona).await;
        assert_eq!(person.submit("/login", &[("user_id", &person.user_id)]).await.status(), 204);
        person
    }

    async fn submit(&self, path: &str, form: &[(&str, &str)]) -> Response {
        self.browser.post(url(path)).form(form).send().await.unwrap()
    }

    async fn visit(&self, path: &str) -> Response {
        self.browser.get(url(path)).send().await.unwrap()
    }

    async fn get(&self, path: &str, status: u16) -> Value {
        let answer = self.visit(path).await;
        let (got, body) = (answer.status(), answer.json().await.unwrap());
        assert_eq!(got, status, "{body}");
        body
    }

    /// Presses "link", decides at Threads; answers with where the browser is sent then.
    async fn consent(&self, decision: &str, form: &[(&str, &str)]) -> String {
        self.decide(decision, &sent_to(self.submit("/link", form).await).await).await
    }

    async fn decide(&self, decision: &str, away: &str) -> String {
        let click = json!({ "persona": self.key, "decision": decision, "authorization_url": away });
        let clicked = simulate("consent", click).await;
        sent_to(self.visit(clicked["callback_url"].as_str().unwrap()).await).await
    }

    async fn link(&self, form: &[(&str, &str)]) -> Value {
        let back = self.consent("allow", form).await;
        assert_eq!(sent_to(self.visit(&back).await).await, "/me");
        self.get("/me", 200).await
    }

    async fn is_refused(&self, path: &str, status: u16, action: &str, reason: &str) {
        assert_eq!(self.get(path, status).await, json!({ "action": action, "reason": reason }));
    }

    fn told(&self) -> Vec<&'static str> {
        let changes = BACKEND.changes.lock().unwrap();
        let own = changes.iter().filter(|change| change.user_id == self.user_id);
        own.map(|change| change.kind().as_str_name().trim_start_matches("KIND_")).collect()
    }

    async fn is_told(&self, kinds: &[&str]) {
        eventually(async || self.told() == kinds).await;
    }

    /// How the account stands in the copy.
    async fn copied(&self) -> Option<String> {
        let entries: Vec<Entry> = self.visit("/accounts").await.json().await.unwrap();
        assert!(entries.len() <= 1);
        entries.into_iter().next().map(|entry| entry.state)
    }
}

fn url(path: &str) -> String {
    if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", env("LISTEN")) }
}

async fn sent_to(answer: Response) -> String {
    let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    location.unwrap()
}

#[tokio::test]
async fn an_account_is_linked_and_used() {
    let person = Person::new().await;
    let profile = person.link(&[]).await;
    assert_eq!(profile["threads_user_id"], person.threads_id);
    assert_eq!(profile["username"], person.username);
    assert_eq!(profile["name"], Value::Null, "absent is not empty");
    let me = json!({ "id": person.threads_id, "username": person.username });
    assert_eq!(person.get("/threads/me", 200).await, me);
    person.is_told(&["LINKED"]).await;
    eventually(async || person.copied().await.as_deref() == Some("STATE_ACTIVE")).await;
}

#[tokio::test]
async fn a_person_may_say_no() {
    let person = Person::new().await;
    let back = person.consent("deny", &[]).await;
    person.is_refused(&back, 409, "tell", "AUTHORIZATION_DENIED").await;
    assert_eq!(person.copied().await, None);
}

#[tokio::test]
async fn who_brings_nothing_is_told_what_to_do() {
    let person = Person::new().await;
    for path in ["/me", "/threads/me"] {
        assert_eq!(person.get(path, 404).await, json!({ "action": "link" }));
    }
    for query in ["", "?ticket=", &format!("?ticket={}", "a".repeat(5000))] {
        assert_eq!(person.get(&format!("/linked{query}"), 410).await, json!({ "action": "start_again" }));
    }
    person.is_refused("/linked?ticket=forged", 410, "start_again", "STATE_INVALID").await;
}

#[tokio::test]
async fn nobody_finishes_what_somebody_else_began() {
    let (victim, attacker) = (Person::new().await, Person::new().await);
    let back = attacker.consent("allow", &[]).await;
    victim.is_refused(&back, 410, "start_again", "SESSION_MISMATCH").await;
    // The attempt is over for everybody.
    attacker.is_refused(&back, 410, "start_again", "AUTHORIZATION_CLOSED").await;
}

#[tokio::test]
async fn who_calls_too_often_waits_as_long_as_it_is_told() {
    let limited = client(&env("TEST_LIMITED_CALLER_KEY"));
    let call = || limited.authorization_url("user", b"0123456789abcdef", None, &[]);
    let mut error = None;
    for _ in 0..3 {
        error = error.or(call().await.err());
    }
    let error = error.unwrap();
    assert_eq!((error.code, error.reason.as_str()), (Code::ResourceExhausted, "CALLER_RATE_LIMITED"));
    assert_eq!(error.action(), Action::Wait);
    let delay = error.retry_delay.unwrap();
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(2), "{delay:?}");
    let url = patiently(Duration::from_secs(10), call).await.unwrap();
    assert!(url.starts_with(&env("TEST_SIMULATOR_URL")));
}

#[tokio::test]
async fn what_is_unavailable_is_repeated_by_the_client() {
    let person = Person::new().await;
    let profile = person.link(&[]).await;
    // The service itself asks three times, so the first call fails and the second does not.
    simulate("faults", json!({ "endpoint": "me", "fault": "html502", "times": 4 })).await;
    assert_eq!(person.get("/me?fresh", 200).await, profile);
}

#[tokio::test]
async fn what_threads_no_longer_takes_is_consented_to_again() {
    let person = Person::new().await;
    let profile = person.link(&[]).await;
    let account = profile["account_id"].as_str().unwrap();
    simulate(&format!("personas/{}/revoke", person.key), json!({})).await;
    // Nobody has told the service yet. Threads refuses the token, and that is reported.
    person.is_refused("/threads/me", 503, "wait", "TOKEN_REFUSED").await;
    // Asked for a fresh profile, the service hears it from Threads itself.
    person.is_refused("/me?fresh", 403, "consent", "REAUTHORIZATION_REQUIRED").await;
    // Refused twice: the account is given up, and the watch tells so.
    person.is_told(&["LINKED", "REAUTHORIZATION_REQUIRED"]).await;
    let lost = Some("STATE_REAUTHORIZATION_REQUIRED");
    eventually(async || person.copied().await.as_deref() == lost).await;
    person.is_refused("/threads/me", 403, "consent", "REAUTHORIZATION_REQUIRED").await;
    // The person consents again, for this very account.
    assert_eq!(person.link(&[("again", "yes")]).await["account_id"], account);
    assert_eq!(person.get("/threads/me", 200).await["id"], person.threads_id);
    person.is_told(&["LINKED", "REAUTHORIZATION_REQUIRED", "REAUTHORIZED"]).await;
}

#[tokio::test]
async fn a_consent_asks_for_all_that_the_account_has() {
    let (person, binding) = (Person::new().await, b"0123456789abcdef");
    let identity = client(&env("THREADS_IDENTITY_CALLER_KEY"));
    let parameter = |url: &str, name: &str| {
        let url = reqwest::Url::parse(url).unwrap();
        url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
    };
    let user = &person.user_id;
    let url = identity.authorization_url(user, binding, None, &["threads_manage_insights"]).await.unwrap();
    let ticket = parameter(&person.decide("allow", &url).await, "ticket");
    let account = identity.complete(&ticket, user, binding).await.unwrap().account.unwrap();
    let (id, more) = (account.account_id.as_str(), ["threads_content_publish"]);
    let url = identity.authorization_url(user, binding, Some(id), &more).await.unwrap();
    let scope = parameter(&url, "scope");
    let asked: BTreeSet<&str> = scope.split([',', ' ']).collect();
    let all = ["threads_basic", "threads_content_publish", "threads_manage_insights"];
    assert_eq!(asked, BTreeSet::from(all));
}

#[tokio::test]
async fn what_is_unlinked_leaves_the_copy() {
    let person = Person::new().await;
    person.link(&[]).await;
    eventually(async || person.copied().await.is_some()).await;
    assert_eq!(person.submit("/unlink", &[]).await.status(), 204);
    eventually(async || person.copied().await.is_none()).await;
    assert_eq!(person.get("/me", 404).await, json!({ "action": "link" }));
    person.link(&[]).await;
    person.is_told(&["LINKED", "UNLINKED", "RELINKED"]).await;
    eventually(async || person.copied().await.as_deref() == Some("STATE_ACTIVE")).await;
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_without_gap_or_repetition() {
    let (before, gone, after) = (Person::new().await, Person::new().await, Person::new().await);
    before.link(&[]).await;
    gone.link(&[]).await;
    gone.is_told(&["LINKED"]).await;
    // What happens while the service is away is told by the cursor alone.
    control(&format!("/restart?erase={}", gone.user_id)).await;
    // Calls are repeated by the client until the service is back.
    after.link(&[]).await;
    after.is_told(&["LINKED"]).await;
    before.is_told(&["LINKED"]).await;
    gone.is_told(&["LINKED", "ERASED"]).await;
    assert_eq!(gone.copied().await, None);
}

#[tokio::test]
async fn who_cannot_go_on_from_its_cursor_begins_anew() {
    let (before, after) = (Person::new().await, Person::new().await);
    before.link(&[]).await;
    eventually(async || before.copied().await.is_some()).await;
    // What is missing in the copy is brought back by a new list, and by nothing else.
    BACKEND.accounts.replace(&[], &BACKEND.accounts.cursor().unwrap()).unwrap();
    control("/restore").await;
    eventually(async || before.copied().await.as_deref() == Some("STATE_ACTIVE")).await;
    after.link(&[]).await;
    after.is_told(&["LINKED"]).await;
    before.is_told(&["LINKED"]).await;
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let identity = client(&env("THREADS_IDENTITY_CALLER_KEY"));
    let error = identity.authorization_url("", b"short", None, &[]).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    let fields: BTreeSet<&str> = error.fields.keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["link.session_binding", "link.user_id"]));
    assert_eq!(error.action(), Action::Alert);
}

#[tokio::test]
async fn an_unknown_caller_is_refused() {
    let error = client("tidkey_nobody").list_accounts().await.unwrap_err();
    assert_eq!((error.reason.as_str(), error.action()), ("CALLER_UNKNOWN", Action::Alert));
}

#[test]
fn a_reason_from_after_this_was_written_goes_by_its_code() {
    for (code, action) in [(Code::Unavailable, Action::Wait), (Code::Internal, Action::Alert)] {
        assert_eq!(IdentityError::from(tonic::Status::new(code, "")).action(), action);
    }
}
