//! The hosted callback, from the browser's side and from the caller's.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, SignIn};
use threads_identity::proto::v1::{
    AuthorizationOutcome, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest,
    CreateAuthorizationUrlResponse,
};
use threads_identity::simulator::{Decision, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::harness::{
    OTHER_RETURN_TO, PUBLIC_URL, RETURN_TO, SECOND_CLIENT_ID, World, bad_fields, failed, link, metadata,
    parameter,
};

const PATH: &str = "/api/auth/callback/threads";

/// What came back to a browser.
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Where the browser is sent.
    #[track_caller]
    fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.header("location")
    }

    #[track_caller]
    fn ticket(&self) -> String {
        parameter(self.location(), "ticket")
    }

    /// What every answer carries, whatever it is.
    #[track_caller]
    pub fn assert_guarded(&self) {
        let policy = self.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        for part in ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("x-robots-tag", "noindex, nofollow"),
        ] {
            assert_eq!(self.header(name), value, "{name} of {}", self.status);
        }
        assert_eq!(self.header("vary"), "");
        assert!(self.headers.get("set-cookie").is_none());
        assert!(!self.body.contains("<script"), "{}", self.body);
    }

    /// A page of trouble: what it says, and a reference. It stands at an address of
    /// its own, unless nothing came with the one that was asked for.
    async fn assert_trouble(&self, world: &World, status: StatusCode, heading: &str) {
        self.assert_guarded();
        if self.status != StatusCode::SEE_OTHER {
            return self.assert_says(status, heading);
        }
        let address = self.location().strip_prefix(PUBLIC_URL).expect("an address of ours");
        let path = address.strip_suffix('#').expect("a fragment that takes Threads' own away");
        assert!(path.starts_with("/threads/link-trouble/") && !path.contains(['?', '#']), "{path}");
        let told = get(world, path).await;
        told.assert_says(status, heading);
        assert!(told.body.contains(path.rsplit('/').next().unwrap()), "{path}: {}", told.body);
    }

    #[track_caller]
    fn assert_says(&self, status: StatusCode, heading: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        self.assert_guarded();
        assert!(self.body.contains(&format!("<h1>{heading}</h1>")), "{}", self.body);
        let reference = self.body.split("Reference: <strong>").nth(1).expect("a reference");
        assert_eq!(reference.find('<'), Some(8), "{reference}");
        assert_eq!(self.header("location"), "");
    }
}

pub async fn fetch(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> Page {
    let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
    let mut request = client.request(method, format!("http://{}{path}", world.http));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answered(request).await
}

/// Sends a request, and reads what comes back.
pub async fn answered(request: reqwest::RequestBuilder) -> Page {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Page { status, headers, body: response.text().await.unwrap() }
}

pub async fn get(world: &World, path: &str) -> Page {
    fetch(world, Method::GET, path, &[]).await
}

/// The query that Threads sends the browser back with.
fn query(callback_url: &str) -> &str {
    let query = callback_url.split_once('?').unwrap().1;
    query.split('#').next().unwrap()
}

/// The person decides, and the browser follows to the hosted callback.
async fn come_back(world: &World, created: &CreateAuthorizationUrlResponse, decision: Decision) -> Page {
    let url = world.controls.consent(&created.authorization_url, "full", decision).unwrap();
    get(world, &format!("{PATH}?{}", query(&url))).await
}

/// The ticket for what a browser was sent back with.
pub async fn ticket_of(world: &World, callback_url: &str) -> String {
    get(world, &format!("{PATH}?{}", query(callback_url))).await.ticket()
}

fn with_ticket(ticket: &str, user_id: &str) -> CompleteAuthorizationRequest {
    CompleteAuthorizationRequest {
        answer: Some(Answer::Ticket(ticket.to_owned())),
        user_id: Some(user_id.to_owned()),
        session_binding: None,
    }
}

async fn returning_to(
    world: &World,
    caller: &str,
    return_to: Option<&str>,
) -> Result<CreateAuthorizationUrlResponse, Status> {
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link("user-1"))),
        return_to: return_to.map(str::to_owned),
        ..CreateAuthorizationUrlRequest::default()
    };
    world.create_as(caller, request).await
}

#[tokio::test]
async fn a_browser_comes_back_with_a_ticket_that_links() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let page = come_back(&world, &created, Decision::Allow).await;
    page.assert_guarded();
    assert!(page.location().starts_with(&format!("{RETURN_TO}?ticket=")), "{}", page.location());
    assert!(!page.location().contains("code=") && !page.location().contains("state="));
    assert!(page.location().ends_with('#'), "else Threads' `#_` would come along: {}", page.location());
    assert!(page.ticket().len() <= 4096);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0, "nothing is spent by the callback");
    assert_eq!(world.counted("select count(*) from authorizations").await, 0, "nothing is written by it");

    let linked = world.complete_as("web", with_ticket(&page.ticket(), "user-1")).await.unwrap();
    assert_eq!(linked.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(linked.authorization_id, created.authorization_id);
    // The caller's retry gets the same outcome, and so does one with the state and code.
    let again = world.complete_as("web", with_ticket(&page.ticket(), "user-1")).await.unwrap();
    assert_eq!(again, linked);
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test]
async fn a_denial_comes_back_as_a_ticket_and_a_hint() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let page = come_back(&world, &created, Decision::Deny).await;
    assert_eq!(parameter(page.location(), "error"), "AUTHORIZATION_DENIED");
    let denied = world.complete_as("web", with_ticket(&page.ticket(), "user-1")).await;
    failed(denied, Code::FailedPrecondition, "AUTHORIZATION_DENIED");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
}

#[tokio::test]
async fn a_sign_in_comes_back_through_it_too() {
    let world = World::start().await;
    let binding = vec![7; 32];
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::SignIn(SignIn { session_binding: binding.clone() })),
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.create_as("web", request).await.unwrap();
    let ticket = come_back(&world, &created, Decision::Allow).await.ticket();
    let sign_in = |session_binding| CompleteAuthorizationRequest {
        answer: Some(Answer::Ticket(ticket.clone())),
        user_id: None,
        session_binding,
    };
    let signed_in = world.complete_as("web", sign_in(Some(binding.clone()))).await.unwrap();
    assert!(signed_in.user_created);
    let elsewhere = world.complete_as("web", sign_in(Some(vec![8; 32]))).await;
    failed(elsewhere, Code::PermissionDenied, "SESSION_MISMATCH");
}

#[tokio::test]
async fn a_ticket_is_worth_nothing_in_another_users_session() {
    let world = World::start().await;
    let created = world.create("attacker").await;
    let ticket = come_back(&world, &created, Decision::Allow).await.ticket();
    failed(
        world.complete_as("web", with_ticket(&ticket, "victim")).await,
        Code::PermissionDenied,
        "SESSION_MISMATCH",
    );
    // It ended there: not even for the user who began.
    failed(
        world.complete_as("web", with_ticket(&ticket, "attacker")).await,
        Code::FailedPrecondition,
        "AUTHORIZATION_CLOSED",
    );
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    assert_eq!(world.counted("select count(*) from audit where action = 'SESSION_MISMATCH'").await, 1);
}

#[tokio::test]
async fn a_hundred_replays_of_a_callback_write_and_spend_nothing() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let url = world.consent(&created, "full");
    let path = format!("{PATH}?{}", query(&url));
    let first = get(&world, &path).await.ticket();
    world.complete_as("web", with_ticket(&first, "user-1")).await.unwrap();
    let before = world.dump().await;
    let replays = (0..100).map(|_| get(&world, &path));
    let pages = futures_util::future::join_all(replays).await;
    let tickets: HashSet<String> = pages.iter().map(Page::ticket).collect();
    assert_eq!(tickets.len(), 100, "each is sealed anew");
    for ticket in tickets.iter().take(5) {
        let again = world.complete_as("web", with_ticket(ticket, "user-1")).await.unwrap();
        assert_eq!(again.authorization_id, created.authorization_id);
    }
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1);
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn a_browser_goes_back_to_one_of_the_apps_addresses_and_nowhere_else() {
    let world = World::start().await;
    let created = returning_to(&world, "web", Some(OTHER_RETURN_TO)).await.unwrap();
    let page = come_back(&world, &created, Decision::Allow).await;
    assert!(page.location().starts_with(&format!("{OTHER_RETURN_TO}&ticket=")), "{}", page.location());
    let evil = [
        "",
        "/linked",
        "//app.example.com/linked",
        "//evil.example/linked",
        "https:evil.example",
        "https:\\\\evil.example\\linked",
        "https://evil.example/https://app.example.com/linked",
        "https://app.example.com.evil.example/linked",
        "https://app.example.comevil.example/linked",
        "https://evilapp.example.com/linked",
        "https://app.example.com@evil.example/linked",
        "https://user@app.example.com/linked",
        "https://user:password@app.example.com/linked",
        "https://evil.example#@app.example.com/linked",
        "https://app.example.com:8443/linked",
        "http://app.example.com/linked",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/linked/",
        "https://app.example.com/linked/more",
        "https://app.example.com/linkedmore",
        "https://app.example.com/LINKED",
        "https://app.example.com/linked?x=1",
        "https://app.example.com/linked?",
        "https://app.example.com/linked#x",
        "https://app.example.com/linked;x",
        "https://app.example.com/linked%2f..",
        "https://app.example.com/linked%0d%0aSet-Cookie:x=1",
        "https://app.example.com/linked%00",
        "https://app.example.com/settings",
        "https://app.example.com/settings?tab=other",
        "https://app.example.com/settings?tab=threads&x=1",
        "https://app.example.com/..//evil.example/linked",
        "https://аpp.example.com/linked",
        "javascript:alert(1)//https://app.example.com/linked",
        "data:text/html,x",
        "ftp://app.example.com/linked",
        "app.example.com/linked",
        "https://",
        "https:///linked",
        "https://[::1]/linked",
        "https://127.0.0.1/linked",
        "\\\\evil.example",
        "*",
        "https://*.example.com/linked",
        "%68ttps://app.example.com/linked",
    ];
    for text in evil {
        assert_eq!(bad_fields(returning_to(&world, "web", Some(text)).await), ["return_to"], "{text}");
    }
    let long = format!("{RETURN_TO}?{}", "x".repeat(4096));
    assert_eq!(bad_fields(returning_to(&world, "web", Some(&long)).await), ["return_to"]);
    // What is the same address in other letters leads to the configured one.
    for same in ["HTTPS://APP.example.com:443/linked", "https://app.example.com/x/../linked"] {
        let created = returning_to(&world, "web", Some(same)).await.unwrap();
        let page = come_back(&world, &created, Decision::Allow).await;
        assert!(page.location().starts_with(&format!("{RETURN_TO}?ticket=")), "{}", page.location());
    }
    // Another app's are not this app's.
    assert_eq!(bad_fields(returning_to(&world, "second", Some(RETURN_TO)).await), ["return_to"]);
}

#[tokio::test]
async fn an_app_without_an_address_to_return_to_gets_a_page_that_says_so() {
    let world = World::start().await;
    let created = returning_to(&world, "second", None).await.unwrap();
    assert!(created.authorization_url.contains(SECOND_CLIENT_ID));
    let url = world.consent(&created, "full");
    let page = get(&world, &format!("{PATH}/second?{}", query(&url))).await;
    page.assert_trouble(&world, StatusCode::INTERNAL_SERVER_ERROR, "We do not know where you came from")
        .await;
}

#[tokio::test]
async fn a_state_belongs_to_its_apps_path() {
    let world = World::start().await;
    let first = world.create("user-1").await;
    let second = returning_to(&world, "second", None).await.unwrap();
    let (first, second) = (world.consent(&first, "full"), world.consent(&second, "full"));
    for path in [
        format!("{PATH}/second?{}", query(&first)),
        format!("{PATH}/default?{}", query(&second)),
        format!("{PATH}?{}", query(&second)),
    ] {
        get(&world, &path)
            .await
            .assert_trouble(&world, StatusCode::BAD_REQUEST, "We do not know this link")
            .await;
    }
    for path in [PATH.to_owned(), format!("{PATH}/"), format!("{PATH}/default"), format!("{PATH}/default/")] {
        assert!(!get(&world, &format!("{path}?{}", query(&first))).await.ticket().is_empty());
    }
    for path in ["/none", "/DEFAULT", "/default/x", "/%00", "/..%2fdefault", "/%ff", "//"] {
        let page = get(&world, &format!("{PATH}{path}?{}", query(&first))).await;
        assert!(page.status == StatusCode::NOT_FOUND || page.status == StatusCode::BAD_REQUEST, "{path}");
        page.assert_guarded();
    }
    // A ticket is of one app as well.
    let ticket = get(&world, &format!("{PATH}?{}", query(&first))).await.ticket();
    let other = world.complete_as("second", with_ticket(&ticket, "user-1")).await;
    failed(other, Code::InvalidArgument, "STATE_INVALID");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
}

#[tokio::test]
async fn every_way_in_which_a_callback_can_be_wrong_has_its_answer() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let state = &created.state;
    let incomplete = "This link is incomplete";
    let unknown = "We do not know this link";
    let mut cases: Vec<(String, &str)> = vec![
        (String::new(), incomplete),
        ("x=y".to_owned(), incomplete),
        (format!("state={state}"), incomplete),
        (format!("code=&state={state}"), incomplete),
        (format!("code&state={state}"), incomplete),
        (format!("code=%23_&state={state}"), incomplete),
        (format!("code=a&code=b&state={state}"), incomplete),
        (format!("code=a&code=a&state={state}"), incomplete),
        (format!("code=a&error=access_denied&state={state}"), incomplete),
        (format!("error=&state={state}"), incomplete),
        (format!("error=a&error=b&state={state}"), incomplete),
        (format!("code=a%00b&state={state}"), incomplete),
        (format!("code=a%0d%0aX: y&state={state}"), incomplete),
        (format!("code=a+b&state={state}"), incomplete),
        (format!("code=%ff&state={state}"), incomplete),
        (format!("code=%E2%80%AE&state={state}"), incomplete),
        (format!("code={}&state={state}", "c".repeat(2049)), incomplete),
        (format!("error={}&state={state}", "e".repeat(257)), incomplete),
        (format!("code=a&state={state}&x={}", "x".repeat(8192)), incomplete),
        (format!("code[]=a&state={state}"), incomplete),
        (format!("Code=a&state={state}"), incomplete),
        (format!("code=a;state={state}"), unknown),
        ("code=a".to_owned(), unknown),
        ("code=a&state=".to_owned(), unknown),
        ("code=a&state".to_owned(), unknown),
        (format!("code=a&state=&state={state}"), unknown),
        (format!("code=a&state={state}&state={state}"), unknown),
        (format!("code=a&state={state}&state=x"), unknown),
        (format!("code=a&state[]={state}"), unknown),
        (format!("code=a&State={state}"), unknown),
        (format!("code=a&state={state}x"), unknown),
        (format!("code=a&state=x{state}"), unknown),
        (format!("code=a&state={state}%00"), unknown),
        (format!("code=a&state={state}%20"), unknown),
        (format!("code=a&state={state}="), unknown),
        (format!("code=a&state={}", &state[..state.len() - 1]), unknown),
        (format!("code=a&state={}", "s".repeat(1025)), unknown),
        (format!("code=a&state={}", created.authorization_id), unknown),
        ("error=access_denied&state=forged".to_owned(), unknown),
        ("error=access_denied&state=".to_owned(), unknown),
    ];
    for position in [0, state.len() / 2, state.len() - 2] {
        let mut changed = state.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        cases.push((format!("code=a&state={}", String::from_utf8(changed).unwrap()), unknown));
    }
    for (query, heading) in &cases {
        let page = get(&world, &format!("{PATH}?{query}")).await;
        page.assert_trouble(&world, StatusCode::BAD_REQUEST, heading).await;
        assert_eq!(page.status == StatusCode::SEE_OTHER, !query.is_empty(), "{query}");
        assert!(!page.body.contains(&state[..20]), "{query}");
        assert!(!page.header("location").contains(&state[..20]), "{query}");
    }
    let without_state = get(&world, &format!("{PATH}?error=access_denied")).await;
    without_state.assert_trouble(&world, StatusCode::OK, "Nothing was linked").await;
    // None of it has touched the flow: the person can still finish.
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 0);
    assert_eq!(world.counted("select count(*) from authorizations").await, 0);
    let ticket = come_back(&world, &created, Decision::Allow).await.ticket();
    world.complete_as("web", with_ticket(&ticket, "user-1")).await.unwrap();
}

#[tokio::test]
async fn a_page_of_trouble_has_an_address_and_no_other_has_one() {
    let world = World::start().await;
    let path = |result: &str, reference: &str| format!("/threads/link-trouble/{result}/{reference}");
    for result in ["answer_invalid", "state_invalid", "denied_without_state", "expired", "no_return"] {
        let page = get(&world, &path(result, "ABCD2345")).await;
        assert!(page.body.contains("<strong>ABCD2345</strong>"), "{result}: {}", page.body);
        page.assert_guarded();
    }
    for (result, reference) in [
        ("unavailable", "ABCD2345"),
        ("EXPIRED", "ABCD2345"),
        ("", "ABCD2345"),
        ("expired", ""),
        ("expired", "ABCD234"),
        ("expired", "ABCD23456"),
        ("expired", "abcd2345"),
        ("expired", "ABCD234L"),
        ("expired", "%3Cb%3Ea234"),
        ("expired", "A%00CD2345"),
    ] {
        let page = get(&world, &path(result, reference)).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{result} {reference}");
        page.assert_guarded();
    }
}

#[tokio::test]
async fn what_threads_adds_beyond_its_word_is_no_matter() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let url = world.consent(&created, "full");
    for extra in
        ["&scope=threads_basic&granted_scopes=x", "%23_", "#_", "&ticket=x&return_to=https://evil.example"]
    {
        let query = url.split('#').next().unwrap().split_once('?').unwrap().1;
        // The code stands first in what the simulator sends, so the suffix goes to its end.
        let query = match extra {
            "%23_" => query.replacen("&state", "%23_&state", 1),
            _ => format!("{query}{extra}"),
        };
        let page = get(&world, &format!("{PATH}?{query}")).await;
        assert!(page.location().starts_with(&format!("{RETURN_TO}?ticket=")), "{}", page.location());
    }
    let ticket = get(&world, &format!("{PATH}?{}", query(&url).replacen("&state", "%23_&state", 1))).await;
    world.complete_as("web", with_ticket(&ticket.ticket(), "user-1")).await.unwrap();
}

#[tokio::test]
async fn a_prefetch_gets_nothing() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let path = format!("{PATH}?{}", query(&world.consent(&created, "full")));
    for (name, value) in [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "Prefetch"),
        ("Purpose", "prefetch"),
        ("X-Moz", "prefetch"),
    ] {
        let page = fetch(&world, Method::GET, &path, &[(name, value)]).await;
        assert_eq!(page.status, StatusCode::NO_CONTENT, "{name}: {value}");
        assert_eq!(page.body, "");
        page.assert_guarded();
    }
    assert!(!fetch(&world, Method::GET, &path, &[("Sec-Purpose", "other")]).await.ticket().is_empty());
}

#[tokio::test]
async fn a_state_and_a_ticket_live_as_long_as_they_say() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let path = format!("{PATH}?{}", query(&world.consent(&created, "full")));
    world.advance(Duration::from_secs(15 * 60 - 1));
    let ticket = get(&world, &path).await.ticket();
    world.advance(Duration::from_secs(1));
    get(&world, &path).await.assert_trouble(&world, StatusCode::GONE, "That took too long").await;
    // The person came back in time; the ticket has ten minutes of its own.
    world.advance(Duration::from_secs(10 * 60 - 2));
    let linked = world.complete_as("web", with_ticket(&ticket, "user-1")).await.unwrap();
    world.advance(Duration::from_hours(1));
    let again = world.complete_as("web", with_ticket(&ticket, "user-1")).await.unwrap();
    assert_eq!(again.authorization_id, linked.authorization_id, "an outcome outlives its ticket");

    let late = world.create("user-2").await;
    let ticket = come_back(&world, &late, Decision::Allow).await.ticket();
    world.advance(Duration::from_mins(10));
    let expired = world.complete_as("web", with_ticket(&ticket, "user-2")).await;
    let details = failed(expired, Code::FailedPrecondition, "AUTHORIZATION_EXPIRED");
    assert_eq!(metadata(&details)["authorization_id"], late.authorization_id);
}

#[tokio::test]
async fn no_kind_of_sealed_thing_opens_as_another() {
    let world = World::start().await;
    for n in 0..2 {
        world.link("user-1", if n == 0 { "full" } else { "bare" }).await.ok();
    }
    let created = world.create("user-1").await;
    let ticket = come_back(&world, &created, Decision::Allow).await.ticket();
    let code = parameter(&world.consent(&created, "full"), "code");
    // A state as a ticket, a ticket as a state.
    for wrong in [created.state.as_str(), "x", &ticket[1..], &format!("{ticket}A"), &code, &"t".repeat(5000)]
    {
        let answer = world.complete_as("web", with_ticket(wrong, "user-1")).await;
        failed(answer, Code::InvalidArgument, "STATE_INVALID");
    }
    assert_eq!(bad_fields(world.complete_as("web", with_ticket("", "user-1")).await), ["ticket"]);
    let page = get(&world, &format!("{PATH}?code={code}&state={}", &ticket[..ticket.len().min(1024)])).await;
    page.assert_trouble(&world, StatusCode::BAD_REQUEST, "We do not know this link").await;
    for position in 0..ticket.len() {
        let mut changed = ticket.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let answer = world.complete_as("web", with_ticket(&changed, "user-1")).await;
        // Unused bits at the end may spell the same bytes: then it is the same ticket.
        if position + 1 < ticket.len() {
            failed(answer, Code::InvalidArgument, "STATE_INVALID");
        }
    }
}

#[tokio::test]
async fn other_methods_and_paths_get_a_page_like_the_others() {
    let world = World::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let page = fetch(&world, method.clone(), PATH, &[]).await;
        assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        page.assert_guarded();
    }
    for path in ["/", "/favicon.ico", "/api", "/api/auth/callback", "/threads", "/metrics", "/readyz"] {
        let page = get(&world, path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        page.assert_guarded();
    }
}

#[tokio::test]
async fn forged_hosts_change_no_byte() {
    let world = World::start().await;
    let headers = [
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-URL", "/evil"),
        ("X-Rewrite-URL", "/evil"),
        ("X-Host", "evil.example"),
        ("Forwarded", "host=evil.example;proto=http"),
        ("Origin", "https://evil.example"),
        ("Referer", "https://evil.example/"),
    ];
    let plain = get(&world, "/nothing").await.body;
    for header in headers {
        let created = world.create("user-1").await;
        let path = format!("{PATH}?{}", query(&world.consent(&created, "full")));
        let page = fetch(&world, Method::GET, &path, &[header]).await;
        assert!(page.location().starts_with(&format!("{RETURN_TO}?ticket=")), "{header:?}");
        let page = fetch(&world, Method::GET, "/nothing", &[header]).await;
        assert_eq!(page.body, plain, "{header:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_request_is_echoed() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let scripts = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'-alert(1)-'",
        "javascript:alert(1)",
        "</style><script>alert(1)</script>",
    ];
    for script in scripts {
        let payload: String = url::form_urlencoded::byte_serialize(script.as_bytes()).collect();
        for query in [
            format!("error={payload}&state={}", created.state),
            format!("error={payload}&error_description={payload}&error_reason={payload}&state=x"),
            format!("error=x&error_description={payload}"),
            format!("code={payload}&state={payload}"),
            format!("{payload}={payload}"),
        ] {
            let page = get(&world, &format!("{PATH}?{query}")).await;
            assert!(!page.body.contains("alert"), "{}", page.body);
            assert!(!page.header("location").contains("alert"), "{}", page.header("location"));
            page.assert_guarded();
        }
    }
}

#[tokio::test]
async fn no_byte_of_a_request_becomes_a_header() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    for smuggled in ["%0d%0aX-Evil:%20yes", "%0aX-Evil:yes", "%00", "%E2%80%A8X-Evil:yes", "\tX-Evil:yes"] {
        for line in [
            format!("GET {PATH}?error=a{smuggled}&state={} HTTP/1.1", created.state),
            format!("GET {PATH}/{smuggled}?x HTTP/1.1"),
            format!("GET /{smuggled} HTTP/1.1"),
        ] {
            let mut stream = TcpStream::connect(world.http).await.unwrap();
            stream
                .write_all(format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
            assert!(!answer.to_ascii_lowercase().contains("x-evil"), "{answer}");
        }
    }
}

#[tokio::test]
async fn answers_are_counted_by_what_came_of_them() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    come_back(&world, &created, Decision::Allow).await;
    come_back(&world, &created, Decision::Deny).await;
    get(&world, PATH).await;
    for result in ["handed_over", "denied", "answer_invalid"] {
        let name = format!("threads_identity_pages_total{{page=\"callback\",result=\"{result}\"}}");
        assert!((world.metric(&name).await - 1.0).abs() < f64::EPSILON, "{name}");
    }
}
