//! What Meta tells: who is believed, and what a removed app does.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use threads_identity::proto::v1::AuthorizationOutcome;
use threads_identity::proto::v1::account::{State, StateReason};
use threads_identity::proto::v1::account_change::Kind;
use threads_identity::simulator::{Callback, CallbackKind, Endpoint, Fault, Options, Signature, UserIdForm};
use tonic::Code;

use crate::callback::{fetch, get};
use crate::harness::{SECOND_SECRET, Wishes, World, failed};
use crate::meta::{DATA_DELETION, DEAUTHORIZE, FORM, form, payload, signed, signed_by};
use crate::outages::behind_proxy;
use crate::shorthand::{STRANGER, profile, token, until};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const PREVIOUS: &str = "the-secret-before-this-one";
const WITH_PREVIOUS: Wishes = Wishes {
    app: "client_secret_previous = \"the-secret-before-this-one\"",
    second_app: "",
    config: "",
    callers: true,
    database: None,
    database_url: None,
    keyring: None,
    refresher: false,
    keyring_file: None,
    config_file: None,
};

#[tokio::test]
async fn a_removed_app_unlinks_the_account_and_destroys_what_was_kept() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.linked("user-2", "home").await;
    let mut watch = world.watch_as("web", Some("user-1"), None).await.unwrap();
    world.advance(MINUTE);
    world.deauthorized(&world.notice_of(&linked)).await;

    let account = world.account(&linked.account_id).await.unwrap();
    assert_eq!((account.state(), account.state_reason()), (State::Unlinked, StateReason::Deauthorized));
    assert_eq!(account.user_id, "user-1");
    assert_eq!((account.token_expire_time, account.token_refresh_time), (None, None));
    let fetched = world.token(token(&linked.account_id, "user-1")).await;
    failed(fetched, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    let read = world.profile(profile(&linked.account_id, None)).await;
    failed(read, Code::NotFound, "PROFILE_NOT_FOUND");
    assert_eq!(world.happened(&linked.account_id).await, "LINKED DEAUTHORIZED");
    let (_, change) = watch.change().await;
    assert_eq!(change.kind(), Kind::Deauthorized);
    assert_eq!(change.account.unwrap().state_reason(), StateReason::Deauthorized);
    let trail = "select string_agg(concat_ws(' ', caller, action, user_id, detail), '|') from audit
                 where action not like 'FETCH%'";
    let noted = "meta DEAUTHORIZED user-1 signed with the current secret, issued 2026-03-01T12:01:00Z";
    assert_eq!(world.look_up(trail).await, noted);
    assert_eq!(world.look_up("select count(*) from accounts where state = 'ACTIVE'").await, "1");

    // Once more, by whomever: the same answer, and nothing changes.
    let before = world.dump().await;
    for _ in 0..3 {
        world.deauthorized(&world.notice_of(&linked)).await;
    }
    assert_eq!(world.dump().await, before);
    assert!((world.told("deauthorize", "unlinked").await - 1.0).abs() < 0.1);
    assert!((world.told("deauthorize", "repeated").await - 3.0).abs() < 0.1);
    assert!(
        (world.metric("threads_identity_signed_requests_total{secret=\"current\"}").await - 4.0).abs() < 0.1
    );
    let again = world.link("user-1", "full").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Relinked);
}

#[tokio::test]
async fn an_account_that_must_consent_again_is_unlinked_and_one_that_a_caller_unlinked_is_left() {
    let world = World::start().await;
    let tired = world.linked("user-1", "full").await;
    let gone = world.linked("user-2", "home").await;
    world.unlink(&gone).await;
    world.revoked(&tired.account_id).await;
    for account in [&tired, &gone] {
        world.deauthorized(&world.notice_of(account)).await;
    }
    let reason = async |id: &str| world.account(id).await.unwrap().state_reason();
    assert_eq!(reason(&tired.account_id).await, StateReason::Deauthorized);
    assert_eq!(reason(&gone.account_id).await, StateReason::UnlinkedByCaller);
    assert_eq!(world.happened(&gone.account_id).await, "LINKED UNLINKED");
}

#[tokio::test]
async fn a_notice_from_before_a_consent_does_not_concern_it() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.advance(MINUTE);
    let old = world.notice_of(&linked);
    world.deauthorized(&old).await;
    // However soon the person comes back, and it is played back.
    for _ in 0..5 {
        world.advance(SECOND);
        world.linked("user-1", "full").await;
        world.deauthorized(&old).await;
        assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    }
    world.advance(2 * MINUTE);
    world.linked("user-1", "full").await;
    for _ in 0..5 {
        world.deauthorized(&old).await;
    }
    let account = world.account(&linked.account_id).await.unwrap();
    assert_eq!(account.state(), State::Active);
    world.token(token(&linked.account_id, "user-1")).await.unwrap();
    let happened =
        "LINKED DEAUTHORIZED RELINKED REAUTHORIZED REAUTHORIZED REAUTHORIZED REAUTHORIZED REAUTHORIZED";
    assert_eq!(world.happened(&linked.account_id).await, happened);
    assert!((world.told("deauthorize", "outdated").await - 10.0).abs() < 0.1);
    // It is known that it came, once, however often it did.
    let noted = "select count(*) from audit where action = 'DEAUTHORIZE_OUTDATED'";
    assert_eq!(world.look_up(noted).await, "1");

    // Clocks differ: a minute before the consent is not before it, more is.
    let consent = world.controls.now();
    world.deauthorized(&world.notice(&linked.threads_user_id, Some(consent - 61))).await;
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    world.deauthorized(&world.notice(&linked.threads_user_id, Some(consent - 60))).await;
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Unlinked);
}

#[tokio::test]
async fn a_notice_without_a_time_is_of_now_and_one_of_the_future_is_none() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let (person, now) = (&linked.threads_user_id, world.controls.now());
    let before = world.dump().await;
    for path in [DEAUTHORIZE, DATA_DELETION] {
        for ahead in [301, 86_400, 250_000_000_000] {
            let answer = world.tell(path, &world.notice(person, Some(now + ahead))).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{ahead}");
        }
    }
    assert_eq!(world.dump().await, before);
    assert!((world.told("deauthorize", "future").await - 3.0).abs() < 0.1);
    world.deauthorized(&world.notice(person, Some(now + 300))).await;
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Unlinked);
    world.advance(10 * MINUTE);
    world.linked("user-1", "full").await;
    world.deauthorized(&world.notice(person, None)).await;
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Unlinked);
}

#[tokio::test]
async fn who_is_not_here_is_acknowledged_and_noted_once_without_a_name() {
    let world = World::start().await;
    let notice = world.notice(STRANGER, Some(world.controls.now()));
    let all = (0..20).map(|_| world.deauthorized(&notice));
    futures_util::future::join_all(all).await;
    let noted = "select count(*) || ' ' || count(account_id) || ' ' || count(user_id) from audit
                 where action = 'DEAUTHORIZE_UNKNOWN'";
    assert_eq!(world.look_up(noted).await, "1 1 0");
    assert!(!world.dump().await.contains(STRANGER));
    assert!((world.told("deauthorize", "unknown").await - 20.0).abs() < 0.1);
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
    assert_eq!(world.look_up("select count(*) from events").await, "0");
}

#[tokio::test]
async fn ids_come_as_text_and_as_numbers_and_not_one_digit_is_lost() {
    let world = World::start().await;
    let person = threads_identity::simulator::Persona::new("big", "9007199254740993", "big.number");
    world.controls.add_persona(person);
    let linked = world.linked("user-1", "big").await;
    let secret = Options::default().client_secret;
    let of = |user_id: &str| {
        let time = world.controls.now();
        let json = format!(r#"{{"algorithm":"hmac-sha256","issued_at":"{time}","user_id":{user_id}}}"#);
        signed(&secret, &json)
    };
    // What a double would make of it, and its neighbours.
    for other in ["9007199254740992", "\"9007199254740992\"", "9007199254740994", "\"09007199254740993\""] {
        world.deauthorized(&of(other)).await;
        assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active, "{other}");
    }
    for own in ["9007199254740993", "\"9007199254740993\""] {
        world.deauthorized(&of(own)).await;
        assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Unlinked, "{own}");
        world.advance(2 * MINUTE);
        world.linked("user-1", "big").await;
    }
}

#[tokio::test]
async fn a_request_of_which_any_byte_is_changed_is_refused_and_writes_nothing() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let good = world.notice_of(&linked);
    let before = world.dump().await;
    for path in [DEAUTHORIZE, DATA_DELETION] {
        for place in 0..good.len() {
            let mut bytes = good.as_bytes().to_vec();
            bytes[place] ^= 1 << (place % 7);
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(world.tell(path, &text).await.status, StatusCode::BAD_REQUEST, "{path} {place}");
        }
    }
    let shapes = shapes(&good);
    for (content_type, body, what) in &shapes {
        for path in [DEAUTHORIZE, DATA_DELETION] {
            let answer = world.post(path, content_type, body.clone()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
            assert_eq!(answer.body, r#"{"error":"invalid_request"}"#, "{what}");
            answer.assert_guarded();
        }
    }
    assert_eq!(world.dump().await, before);
    let refused = world.told("deauthorize", "form").await + world.told("deauthorize", "signature").await;
    assert!((refused - (good.len() + shapes.len()) as f64).abs() < 0.1, "{refused}");
    world.token(token(&linked.account_id, "user-1")).await.unwrap();
    // And the one that is right is, with whatever else stands beside it.
    let body = format!("other=1&{}&more=", form(&good));
    let answer = world.post(DEAUTHORIZE, "Application/X-WWW-Form-Urlencoded; charset=UTF-8", body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Unlinked);
}

/// Bodies of every wrong shape: their type, themselves, and what is wrong.
fn shapes(good: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (signature, payload) = good.split_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed = |bytes: &[u8]| form(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(bytes)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, Options::default().client_secret.as_bytes());
    let of_decoded = hmac::sign(&key, &URL_SAFE_NO_PAD.decode(payload).unwrap());
    let mut bodies = vec![
        (FORM, String::new(), "nothing"),
        (FORM, "signed_request".to_owned(), "a field without a value"),
        (FORM, "signed_request=".to_owned(), "an empty field"),
        (FORM, format!("{}&{}", form(good), form(good)), "the field twice"),
        (FORM, format!("signed_request=&{}", form(good)), "the field twice, first empty"),
        (FORM, form(good).replace("signed_request", "signed_request[]"), "another name"),
        (FORM, form(good).replace("signed_request", "Signed_Request"), "another spelling"),
        (FORM, form(&format!("{good}{good}")), "two in one"),
        (FORM, form(&format!("{good}{}", "a".repeat(8 * 1024))), "a field of more than 8 KiB"),
        (FORM, format!("{}&more={}", form(good), "a".repeat(16 * 1024)), "a body of more than 16 KiB"),
        (FORM, form(signature), "no payload"),
        (FORM, form(&format!("{signature}.")), "an empty payload"),
        (FORM, form(&format!(".{payload}")), "an empty signature"),
        (FORM, form(&format!("{signature}..{payload}")), "two dots"),
        (FORM, form(&format!("{good}.")), "a dot behind"),
        (FORM, signed(&raw[..31]), "a short signature"),
        (FORM, signed(&[raw.as_slice(), &[0]].concat()), "a long signature"),
        (FORM, form(&format!("{}.{payload}", STANDARD.encode([0xfb; 32]))), "the other alphabet"),
        (FORM, form(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(of_decoded))), "signed after decoding"),
        (FORM, form(&format!("{good}é")), "a letter of elsewhere"),
        (FORM, format!("{}%00", form(good)), "a NUL behind"),
        (FORM, format!("{}%ff", form(good)), "no UTF-8 behind"),
        (FORM, format!("{}+", form(good)), "a blank behind"),
        ("application/json", format!("{{\"signed_request\":\"{good}\"}}"), "JSON"),
        ("application/json", form(good), "a form that says it is JSON"),
        ("text/plain", form(good), "a form that says it is text"),
        ("", form(good), "a form that says nothing"),
        ("multipart/form-data; boundary=x", form(good), "a form of another kind"),
        ("application/x-www-form-urlencoded-not", form(good), "nearly the right kind"),
    ];
    bodies.push((FORM, format!("{}&{}", form(""), form("")), "two empty fields"));
    bodies.into_iter().map(|(kind, body, what)| (kind, body.into_bytes(), what)).collect()
}

#[tokio::test]
async fn the_route_chooses_the_secret_and_the_algorithm_is_fixed() {
    let world = World::with(WITH_PREVIOUS).await;
    let current = Options::default().client_secret;
    let secrets = [current.as_str(), PREVIOUS, SECOND_SECRET, "secret-of-the-meta-app", ""];
    let now = world.controls.now();
    let mut accepted = 0;
    for route in ["deauthorize", "data-deletion"] {
        for (app, valid) in [
            ("", &secrets[..2]),
            ("/", &secrets[..2]),
            ("/default", &secrets[..2]),
            ("/second", &secrets[2..3]),
        ] {
            for secret in secrets {
                for (named, algorithm) in [
                    ("HMAC-SHA256", hmac::HMAC_SHA256),
                    ("hmac-sha256", hmac::HMAC_SHA256),
                    ("none", hmac::HMAC_SHA256),
                    ("HMAC-SHA1", hmac::HMAC_SHA256),
                    ("HMAC-SHA512", hmac::HMAC_SHA256),
                    ("HMAC-SHA1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
                    ("HMAC-SHA256", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
                    ("HMAC-SHA512", hmac::HMAC_SHA512),
                ] {
                    let json = payload(STRANGER, Some(now)).replace("HMAC-SHA256", named);
                    let signed = signed_by(algorithm, secret, &json);
                    let path = format!("/threads/{route}{app}");
                    let answer = world.tell(&path, &signed).await;
                    let is_good = valid.contains(&secret)
                        && algorithm == hmac::HMAC_SHA256
                        && named.eq_ignore_ascii_case("HMAC-SHA256");
                    let expected = if is_good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
                    assert_eq!(answer.status, expected, "{path} {secret} {named} {algorithm:?}");
                    accepted += i32::from(is_good);
                }
            }
        }
        // An unsigned one in the manner of JSON web tokens.
        let body = URL_SAFE_NO_PAD.encode(payload(STRANGER, Some(now)));
        let answer = world.tell(&format!("/threads/{route}/default"), &format!(".{body}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        for nobody in ["/nobody", "/Default", "/%2e%2e", "/default/more"] {
            let path = format!("/threads/{route}{nobody}");
            let answer = world.tell(&path, &signed(&current, &payload(STRANGER, Some(now)))).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    assert_eq!(accepted, 2 * 2 * (2 + 2 + 2 + 1));
    let by = async |secret: &str| {
        world.metric(&format!("threads_identity_signed_requests_total{{secret=\"{secret}\"}}")).await
    };
    assert!(by("previous").await >= 12.0 && by("current").await >= 16.0);
    let trail = "select count(*) from audit where detail like 'signed with the previous secret, issued %'";
    assert_eq!(world.look_up(trail).await, "1", "the first of each that says the same");
}

#[tokio::test]
async fn one_apps_notice_does_nothing_to_anothers_account() {
    let world = World::with(WITH_PREVIOUS).await;
    let linked = world.linked("user-1", "full").await;
    let signed = signed(SECOND_SECRET, &payload(&linked.threads_user_id, Some(world.controls.now())));
    for path in ["/threads/deauthorize/second", "/threads/data-deletion/second"] {
        assert_eq!(world.tell(path, &signed).await.status, StatusCode::OK);
    }
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    for path in [DEAUTHORIZE, DATA_DELETION] {
        assert_eq!(world.tell(path, &signed).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
}

#[tokio::test]
async fn without_a_database_meta_is_told_to_come_again() {
    let (world, proxy) = behind_proxy("").await;
    let removed = world.linked("user-1", "full").await;
    let forgotten = world.linked("user-2", "home").await;
    let notices = [(DEAUTHORIZE, world.notice_of(&removed)), (DATA_DELETION, world.notice_of(&forgotten))];
    let code = world.forgotten(&world.notice(STRANGER, Some(world.controls.now()))).await;
    for is_black_hole in [false, true] {
        if is_black_hole {
            proxy.freeze();
        } else {
            proxy.cut();
        }
        for (path, notice) in &notices {
            let answer = world.tell(path, notice).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
            answer.assert_guarded();
            // What is wrong in itself is told at once.
            let answer = world.tell(path, &format!("{notice}x")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        }
        let page = crate::meta::status(&world, &code).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        proxy.heal();
        proxy.forget_connections();
        until("it reads again", async || world.account(&removed.account_id).await.is_ok()).await;
    }
    for (path, notice) in &notices {
        until("it is taken", async || world.tell(path, notice).await.status == StatusCode::OK).await;
    }
    assert_eq!(world.account(&removed.account_id).await.unwrap().state(), State::Unlinked);
    failed(world.account(&forgotten.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(crate::meta::status(&world, &code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refresh_under_way_writes_nothing_to_an_account_that_was_deauthorized() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.advance(Duration::from_hours(26));
    world.make_due(&linked.account_id).await;
    let at = world.controls.count(Endpoint::Refresh) + 1;
    world.controls.fault_next(Endpoint::Refresh, Fault::Delay(Duration::from_millis(300)));
    let deauthorizing = async {
        world.controls.received(Endpoint::Refresh, at).await;
        world.deauthorized(&world.notice_of(&linked)).await;
    };
    tokio::join!(world.round(), deauthorizing);
    world.advance(SECOND);
    assert_eq!(world.happened(&linked.account_id).await, "LINKED DEAUTHORIZED");
    let left = "select count(*) from accounts where num_nonnulls(token, previous_token, username) > 0";
    assert_eq!(world.look_up(left).await, "0");
}

#[tokio::test]
async fn the_callbacks_take_posts_alone() {
    let world = World::start().await;
    for path in [DEAUTHORIZE, "/threads/deauthorize", "/threads/data-deletion"] {
        let page = get(&world, path).await;
        assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        page.assert_guarded();
    }
    for method in [reqwest::Method::PUT, reqwest::Method::DELETE, reqwest::Method::PATCH] {
        let page = fetch(&world, method, DATA_DELETION, &[]).await;
        assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    // By GET that path asks for the status of a request with such a code.
    assert_eq!(get(&world, DATA_DELETION).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_person_who_removes_the_app_at_threads_and_then_asks_is_unlinked_and_forgotten() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let client_id = Options::default().client_id;
    let url = |path: &str| format!("http://{}{path}", world.http);
    let (removal, deletion) = (url("/threads/deauthorize"), url("/threads/data-deletion"));
    world.controls.set_callback_urls(&client_id, Some(&removal), Some(&deletion)).unwrap();
    let send = async |callback: Callback| {
        let kind = CallbackKind::DataDeletion;
        world.controls.send_callback(kind, &client_id, &callback).await.unwrap().pop().unwrap()
    };
    for signature in [
        Signature::Flipped,
        Signature::Short,
        Signature::Long,
        Signature::Empty,
        Signature::StandardAlphabet,
        Signature::OverJson,
        Signature::Rewritten,
        Signature::NoDot,
        Signature::TwoDots,
    ] {
        let answer = send(Callback { signature, ..Callback::about("full") }).await;
        assert_eq!(answer.status, Some(400), "{signature:?}");
    }
    let answers = world.controls.revoke_app_and_wait("full").await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [Some(200)]);
    let account = world.account(&linked.account_id).await.unwrap();
    assert_eq!(account.state_reason(), StateReason::Deauthorized);
    for signature in [Signature::Good, Signature::Padded] {
        let number = Callback { user_id_form: UserIdForm::Number, signature, ..Callback::about("full") };
        let answer = send(number).await;
        assert_eq!(answer.status, Some(200));
        assert!(answer.body.contains("confirmation_code"));
    }
    failed(world.account(&linked.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(world.happened(&linked.account_id).await, "LINKED DEAUTHORIZED ERASED");
}
