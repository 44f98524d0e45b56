//! The demo backend of `dev`, as any client meets it: sessions, forms, headers, and
//! time that passes.

use std::fs;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use threads_identity::proto::v1::account::State;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::browser::{Browser, Page, location};
use crate::dev::{Dev, dev};
use crate::run::{Directory, end};

const LINK: &str = "Link a Threads account";
const ALLOW: &[(&str, &str)] = &[("persona", "full"), ("decision", "allow")];

/// A page of the demo.
async fn open(browser: &mut Browser, dev: &Dev, path: &str) -> Page {
    browser.open(&at(dev, path)).await
}

fn at(dev: &Dev, path: &str) -> Url {
    dev.demo().join(path).unwrap()
}

#[tokio::test]
async fn a_person_links_an_account_by_clicking() {
    let directory = Directory::new("tour-clicks");
    let dev = Dev::start(&directory.path("data"));
    let mut browser = Browser::new();
    let page = open(&mut browser, &dev, "/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("maya.sim"), "{}", page.text);

    let consent = browser.press(&page, LINK, &[]).await;
    assert!(consent.url.as_str().starts_with(dev.text("simulator")), "{}", consent.url);
    assert_eq!(consent.status, 200);
    let done = browser.press(&consent, "Allow", ALLOW).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.url.as_str().starts_with(&format!("{}accounts/", dev.demo())), "{}", done.url);
    assert!(done.text.contains("maya.sim"), "{}", done.text);
    // The page stays for this session, and only for it.
    assert!(open(&mut browser, &dev, "/").await.text.contains("maya.sim"));
    assert!(!open(&mut Browser::new(), &dev, "/").await.text.contains("maya.sim"));
    assert_eq!(Browser::new().open(&done.url).await.status, StatusCode::NOT_FOUND);

    // Another session cannot take the account over, and is not told whose it is.
    let mut other = Browser::new();
    let page = open(&mut other, &dev, "/").await;
    let consent = other.press(&page, LINK, &[]).await;
    let refused = other.press(&consent, "Allow", ALLOW).await;
    assert!(refused.text.contains("linked to somebody else"), "{}", refused.text);
    // Somebody who says no links nothing.
    let consent = other.press(&page, LINK, &[]).await;
    let denied = other.press(&consent, "Deny", &[("persona", "bare"), ("decision", "deny")]).await;
    assert!(denied.text.contains("You did not allow it"), "{}", denied.text);

    let accounts = dev.accounts().await;
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].state(), State::Active);
    dev.stop("-INT");
}

#[tokio::test]
async fn a_callback_of_one_browser_is_of_no_use_in_another() {
    let directory = Directory::new("tour-fixation");
    let dev = Dev::start(&directory.path("data"));
    let (mut attacker, mut victim) = (Browser::new(), Browser::new());
    let page = open(&mut attacker, &dev, "/").await;
    open(&mut victim, &dev, "/").await;
    let consent = attacker.press(&page, LINK, &[]).await;

    // The attacker sends the victim to a consent of the attacker's making.
    let (from, answer) = victim.press_only(&consent, "Allow", ALLOW).await;
    let callback = location(&from, &answer).unwrap();
    assert!(callback.as_str().starts_with(dev.text("http")), "{callback}");
    let ended = victim.open(&callback).await;
    assert_eq!(ended.status, StatusCode::FORBIDDEN);
    assert!(ended.text.contains("begun in another session"), "{}", ended.text);
    // And the attacker cannot complete with what the victim brought, either.
    let ended = attacker.open(&callback).await;
    assert!(ended.text.contains("That attempt is over"), "{}", ended.text);
    assert!(dev.accounts().await.is_empty());
    dev.stop("-INT");
}

fn assert_guarded(headers: &HeaderMap, what: &str) {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{what}: {policy}");
    for part in ["base-uri 'none'", "frame-ancestors 'none'", "form-action 'self' http://127.0.0.1:"] {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{what}: {policy}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-robots-tag", "noindex, nofollow"),
    ] {
        assert_eq!(header(name), value, "{what}: {name}");
    }
}

/// What never reaches a page of the demo is answered as its pages are.
async fn unreadable_is_guarded(dev: &Dev) {
    let address = format!("{}:{}", dev.demo().host_str().unwrap(), dev.demo().port().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x01\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && page.contains("Not understood"), "{answer}");
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    assert_guarded(&HeaderMap::from_iter::<Vec<(HeaderName, HeaderValue)>>(fields.collect()), "unreadable");
}

#[tokio::test]
async fn every_answer_is_guarded_and_every_form_is_this_sessions_own() {
    let directory = Directory::new("tour-guards");
    let dev = Dev::start(&directory.path("data"));
    unreadable_is_guarded(&dev).await;
    let mut browser = Browser::new();
    let page = open(&mut browser, &dev, "/").await;
    let long = "t".repeat(5000);
    for (path, status) in [
        ("/", 200),
        ("/events", 200),
        ("/nowhere", 404),
        ("/link", 405),
        ("/linked", 400),
        ("/linked?ticket=", 400),
        ("/linked?ticket=x&ticket=y", 400),
        (&format!("/linked?ticket={long}"), 400),
        ("/linked?ticket=nonsense", 303),
        ("/signed-in?ticket=nonsense", 303),
        ("/signed-in?code=nonsense", 400),
        ("/ended/AUTHORIZATION_DENIED", 200),
        ("/ended/SESSION_MISMATCH", 403),
        ("/ended/%3Cscript%3E", 502),
        ("/accounts/nobody", 400),
        ("/accounts/%00", 400),
        ("/accounts/00000000-0000-8000-8000-000000000000", 404),
        ("/deletions/no-code", 404),
    ] {
        let answer = browser.open_only(&at(&dev, path)).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_guarded(answer.headers(), path);
    }
    let reflected = open(&mut browser, &dev, "/ended/%3Cscript%3E").await;
    assert!(!reflected.text.contains("script"), "{}", reflected.text);

    let token = page.field("form_token");
    let mut other = Browser::new();
    let others = open(&mut other, &dev, "/").await.field("form_token");
    let link = at(&dev, "/link");
    let ours = ("form_token", token.as_str());
    for (form, headers, status) in [
        (vec![], vec![], 403),
        (vec![("form_token", "")], vec![], 403),
        (vec![("form_token", others.as_str())], vec![], 403),
        (vec![ours, ours], vec![], 403),
        (vec![ours], vec![("sec-fetch-site", "cross-site")], 403),
        (vec![ours], vec![("sec-fetch-site", "same-site")], 403),
        (vec![ours, ("account_id", "nobody")], vec![("sec-fetch-site", "same-origin")], 400),
        (vec![ours, ("more", long.repeat(4).as_str())], vec![], 400),
        (vec![ours], vec![("sec-fetch-site", "same-origin")], 303),
        (vec![ours], vec![], 303),
    ] {
        let answer = browser.post(&link, &form, &headers).await;
        assert_guarded(answer.headers(), "a form");
        assert_eq!(answer.status(), status, "{form:?} {headers:?}");
    }
    for path in ["/switch", "/erase", "/time/days", "/try/deny", "/sign-in", "/accounts/x/unlink"] {
        let answer = browser.post(&at(&dev, path), &[], &[]).await;
        assert_eq!(answer.status(), 403, "{path}");
    }
    for path in ["/time/travel", "/try/nothing"] {
        assert_eq!(browser.post(&at(&dev, path), &[ours], &[]).await.status(), 404, "{path}");
    }
    dev.stop("-INT");
}

#[tokio::test]
async fn a_session_is_only_what_was_signed_here() {
    let directory = Directory::new("tour-sessions");
    let data_dir = directory.path("data");
    let dev = Dev::start(&data_dir);
    let mut browser = Browser::new();
    let page = open(&mut browser, &dev, "/").await;
    let user = page.user();
    assert_eq!(open(&mut browser, &dev, "/").await.user(), user);
    let switched = browser.press(&page, "Become Ben", &[]).await;
    assert!(switched.text.contains("You are <strong>Ben"), "{}", switched.text);
    assert_ne!(switched.field("form_token"), page.field("form_token"));
    assert_ne!(switched.user(), user);
    assert_eq!(browser.press(&switched, "Become Ada", &[]).await.user(), user);

    let (name, value) = browser.cookie(&dev.demo());
    let parts: Vec<&str> = value.split('.').collect();
    for bent in [
        String::new(),
        "x".to_owned(),
        format!("{}.{}.{}.", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}.{}", parts[0], parts[1], "YmVu", parts[3]),
        format!("{}.{}.{}.{}", "0".repeat(32), parts[1], parts[2], parts[3]),
        format!("{value}x"),
    ] {
        let mut forger = Browser::new();
        forger.set_cookie(&dev.demo(), &name, &bent);
        assert_ne!(open(&mut forger, &dev, "/").await.user(), user, "{bent}");
    }
    // Nor does a restart end it: its key is kept with the data.
    dev.stop("-INT");
    let dev = Dev::start(&data_dir);
    let mut again = Browser::new();
    again.set_cookie(&dev.demo(), &name, &value);
    assert_eq!(open(&mut again, &dev, "/").await.user(), user);
    dev.stop("-INT");
}

#[tokio::test]
async fn time_that_has_passed_stays_passed() {
    let directory = Directory::new("tour-time");
    let data_dir = directory.path("data");
    let dev_of = || Dev::start(&data_dir);
    let running = dev_of();
    let account = running.link("user-1", "full").await;
    let mut browser = Browser::new();
    let page = open(&mut browser, &running, "/").await;
    let passed = browser.press(&page, "60 days pass", &[]).await;
    assert!(passed.text.contains("60 days ahead"), "{}", passed.text);
    let refreshed = running.accounts().await.remove(0);
    assert_eq!(refreshed.state(), State::Active);
    let expiry = |account: &threads_identity::proto::v1::Account| account.token_expire_time.unwrap().seconds;
    assert!(expiry(&refreshed) > expiry(&account), "it was refreshed on the way");
    let ready = || async { reqwest::get(format!("http://{}/readyz", running.text("ops"))).await.unwrap() };
    assert_eq!(ready().await.status(), 200);
    running.stop("-INT");

    let running = dev_of();
    assert_eq!(fs::read_to_string(data_dir.join("ahead")).unwrap(), format!("{}\n", 60 * 86_400));
    let page = open(&mut Browser::new(), &running, "/").await;
    assert!(page.text.contains("60 days ahead"), "{}", page.text);
    assert_eq!(running.accounts().await, [refreshed]);
    // Its simulator has come along.
    running.link("user-1", "full").await;
    assert_eq!(running.accounts().await[0].state(), State::Active);
    running.stop("-INT");

    for nonsense in ["soon", "", "-5", "99999999999999"] {
        fs::write(data_dir.join("ahead"), nonsense).unwrap();
        let error = end(dev(&data_dir)).bad();
        assert!(error.contains("ahead: must hold"), "{nonsense}: {error}");
    }
}
