//! Whoever asks Threads that we forget them is forgotten, and can see that it is so.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use reqwest::StatusCode;
use threads_identity::clock::Clock as _;
use threads_identity::housekeeping::{Removed, round};
use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::{AuthorizationOutcome, FetchAccessTokenRequest, UnlinkAccountRequest};
use threads_identity::simulator::{Endpoint, Fault};
use tonic::Code;

use crate::callback::{Page, answered, get};
use crate::harness::{World, failed};
use crate::leaks::{Log, forbidden_in};
use crate::meta::{DATA_DELETION, code_of, status};
use crate::refreshing::DAY;
use crate::shorthand::{STRANGER, token};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn nothing_of_a_person_who_asks_to_be_forgotten_is_left_anywhere() {
    let log = Log::default();
    let capturing = log.capture();
    let world = World::start().await;
    let person = world.secretive(0);
    let other = world.linked("user-other", "home").await;
    let linked = world.linked("user-1", &person.key).await;
    let purpose = "purpose-that-goes".to_owned();
    let request = FetchAccessTokenRequest { purpose, ..token(&linked.account_id, "user-1") };
    world.token(request).await.unwrap();
    // All that may have been said of them before: removed, of no consequence, linked anew.
    world.advance(MINUTE);
    let removed = world.notice_of(&linked);
    world.deauthorized(&removed).await;
    world.advance(5 * MINUTE);
    world.linked("user-1", &person.key).await;
    world.deauthorized(&removed).await;
    world.advance(MINUTE);
    let code = world.forgotten(&world.notice_of(&linked)).await;
    // And after it.
    world.deauthorized(&removed).await;
    let metrics = reqwest::get(format!("http://{}/metrics", world.ops)).await.unwrap().text().await.unwrap();
    let page = status(&world, &code).await;
    assert_eq!(page.status, StatusCode::OK);
    drop(capturing);

    failed(world.account(&linked.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let account = world.account(&other.account_id).await.unwrap();
    assert_eq!(account.state(), State::Active, "nobody else is touched");
    let dump = world.dump().await;
    let of_person = |text: &str, place: &str| {
        let named = [&person.id, &person.username, person.name.as_ref().unwrap()];
        for name in named.into_iter().chain([person.biography.as_ref().unwrap(), &code]) {
            assert!(!text.contains(name.as_str()), "{place} holds {name}");
        }
    };
    for (text, place) in [(&dump, "database"), (&log.text(), "log"), (&metrics, "metrics")] {
        of_person(text, place);
    }
    of_person(&page.body.replace(&code, "CODE"), "page");
    let names = vec![person.id.clone(), person.username.clone(), person.biography.clone().unwrap(), code];
    assert!(forbidden_in(&dump, names, "name"));
    assert!(forbidden_in(&dump, world.controls.issued_tokens(&person.key), "token"));
    assert!(!dump.lines().any(|line| line.contains("user-1") && !line.contains("ERASED")), "{dump}");
    assert!(log.text().contains("a person asked to be forgotten"));
    let trail =
        "select string_agg(concat_ws(' ', caller, action, account_id, user_id, detail), '|') from audit
                 where action like 'ERASED%'";
    let noted = "meta ERASED_BY_META signed with the current secret, issued 2026-03-01T12:07:00Z";
    assert_eq!(world.look_up(trail).await, noted);
    assert_eq!(world.look_up("select cause from erasures").await, "META");
}

#[tokio::test]
async fn the_same_request_has_the_same_code_and_one_row_and_another_has_another() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.advance(MINUTE);
    let request = world.notice_of(&linked);
    let code = world.forgotten(&request).await;
    let first = status(&world, &code).await.body;
    let dump = world.dump().await;
    for _ in 0..20 {
        world.advance(MINUTE);
        assert_eq!(world.forgotten(&request).await, code);
    }
    assert_eq!(world.dump().await, dump, "repeating it writes nothing");
    assert_eq!(status(&world, &code).await.body, first);
    // Written otherwise, it says the same.
    let secret = threads_identity::simulator::Options::default().client_secret;
    let issued_at = world.controls.now() - 20 * 60;
    let person = &linked.threads_user_id;
    let json =
        format!(r#"{{"user_id":{person},"expires":1,"issued_at":"{issued_at}","algorithm":"HMAC-SHA256"}}"#);
    assert_eq!(world.forgotten(&crate::meta::signed(&secret, &json)).await, code);
    let later = world.forgotten(&world.notice_of(&linked)).await;
    assert_ne!(later, code);
    assert_eq!(status(&world, &later).await.status, StatusCode::OK);
    assert_eq!(world.look_up("select count(*) from deletion_requests").await, "2");
    assert!((world.told("data_deletion", "erased").await - 1.0).abs() < 0.1);
    assert!((world.told("data_deletion", "repeated").await - 21.0).abs() < 0.1);
}

#[tokio::test]
async fn who_is_not_here_is_answered_in_the_same_way() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let shape = |page: &Page| {
        let code = code_of(page);
        let headers: Vec<_> = page.headers.keys().map(ToString::to_string).collect();
        (page.status, headers, page.body.replace(&code, "CODE"))
    };
    let here = world.tell(DATA_DELETION, &world.notice_of(&linked)).await;
    let stranger = world.notice(STRANGER, Some(world.controls.now()));
    let nobody = world.tell(DATA_DELETION, &stranger).await;
    assert_eq!(shape(&here), shape(&nobody));
    let pages = [status(&world, &code_of(&here)).await, status(&world, &code_of(&nobody)).await];
    assert_eq!(pages[0].body, pages[1].body, "the page does not tell who was here");
    let dump = world.dump().await;
    assert_eq!(world.forgotten(&stranger).await, code_of(&nobody));
    assert_eq!(world.dump().await, dump);
    assert!(!dump.contains(STRANGER));
    let trail = "select caller || ' ' || coalesce(account_id::text, 'nobody') from audit
                 where action = 'DATA_DELETION_REQUESTED'";
    assert_eq!(world.look_up(trail).await, "meta nobody");
    // Whoever had said that they are not here is forgotten in that as well.
    world.deauthorized(&stranger).await;
    world.advance(SECOND);
    world.forgotten(&world.notice(STRANGER, Some(world.controls.now()))).await;
    assert_eq!(world.look_up("select count(account_id) from audit").await, "0");
}

#[tokio::test]
async fn accounts_in_every_state_are_erased() {
    let world = World::start().await;
    let tired = world.linked("user-1", "full").await;
    let gone = world.linked("user-2", "home").await;
    world.unlink(&gone).await;
    world.revoked(&tired.account_id).await;
    for account in [&tired, &gone] {
        world.forgotten(&world.notice_of(account)).await;
        failed(world.account(&account.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
    assert_eq!(world.happened(&tired.account_id).await, "LINKED ERASED");
    // An unlinking after it is told what reading is told.
    let unlink = UnlinkAccountRequest { account_id: gone.account_id.clone(), user_id: "user-2".to_owned() };
    failed(world.accounts("web").unlink_account(unlink).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn an_old_request_does_not_concern_whoever_has_linked_anew() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.advance(MINUTE);
    let old = world.notice_of(&linked);
    let code = world.forgotten(&old).await;
    world.advance(SECOND);
    // A consent a moment after it is a new one, and is taken at once.
    let again = world.link("user-1", "full").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Linked);
    // Played back it does nothing, however soon.
    for _ in 0..3 {
        assert_eq!(world.forgotten(&old).await, code);
    }
    world.token(token(&linked.account_id, "user-1")).await.unwrap();
    world.advance(2 * MINUTE);
    world.linked("user-1", "full").await;
    assert_eq!(world.forgotten(&old).await, code);
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    assert!((world.told("data_deletion", "repeated").await - 4.0).abs() < 0.1);
    let page = status(&world, &code).await;
    assert!(
        page.body.contains("<h1>Your data has been deleted</h1>"),
        "what was done stays done: {}",
        page.body
    );

    // One that comes for the first time so late says that nothing was done.
    let consent = world.controls.now();
    let late = world.forgotten(&world.notice(&linked.threads_user_id, Some(consent - 61))).await;
    let page = status(&world, &late).await;
    assert!(page.body.contains("<h1>You have connected again since</h1>"), "{}", page.body);
    assert!(!page.body.contains("<dt>Deleted"), "{}", page.body);
    assert_eq!(world.account(&linked.account_id).await.unwrap().state(), State::Active);
    // Within the minute by which clocks may differ, the person's word is not doubted.
    world.forgotten(&world.notice(&linked.threads_user_id, Some(consent - 60))).await;
    failed(world.account(&linked.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn a_request_without_a_time_is_of_the_moment_at_which_it_comes() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let request = world.notice(&linked.threads_user_id, None);
    let code = world.forgotten(&request).await;
    assert!(status(&world, &code).await.body.contains("1 March 2026, 12:00 UTC"));
    world.advance(10 * MINUTE);
    world.linked("user-1", "full").await;
    assert_eq!(world.forgotten(&request).await, code);
    failed(world.account(&linked.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let page = status(&world, &code).await;
    assert!(page.body.contains("1 March 2026, 12:10 UTC") && !page.body.contains("12:00"), "{}", page.body);
    assert_eq!(world.look_up("select count(*) from deletion_requests").await, "1");
}

#[tokio::test]
async fn a_link_under_way_of_somebody_who_is_not_here_yet_ends_and_its_token_goes() {
    let world = World::start().await;
    let person = world.secretive(1);
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, &person.key);
    world.controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    failed(world.complete(&callback_url, "user-1").await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    let kept = "select count(*) from authorizations where short_lived_token is not null";
    assert_eq!(world.look_up(kept).await, "1");
    world.advance(SECOND);
    world.forgotten(&world.notice(&person.id, Some(world.controls.now()))).await;
    assert_eq!(world.look_up(kept).await, "0");
    let named =
        "select count(*) from authorizations where num_nonnulls(user_id, account_id, token_account_id) > 0";
    assert_eq!(world.look_up(named).await, "0");
    failed(world.complete(&callback_url, "user-1").await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    assert_eq!(world.look_up("select count(*) from accounts").await, "0");
    world.advance(SECOND);
    assert_eq!(world.link("user-1", &person.key).await.unwrap().outcome(), AuthorizationOutcome::Linked);
}

#[tokio::test]
async fn a_code_that_is_being_exchanged_meanwhile_leaves_no_token() {
    let world = World::start().await;
    let person = world.secretive(2);
    for endpoint in [Endpoint::CodeExchange, Endpoint::LongLivedExchange] {
        let created = world.create("user-1").await;
        let callback_url = world.consent(&created, &person.key);
        let at = world.controls.count(endpoint) + 1;
        world.controls.fault_next(endpoint, Fault::Delay(Duration::from_millis(400)));
        let forgetting = async {
            world.controls.received(endpoint, at).await;
            world.advance(SECOND);
            world.forgotten(&world.notice(&person.id, Some(world.controls.now()))).await;
            world.look_up("select count(*) from accounts").await
        };
        let (completed, left) = tokio::join!(world.complete(&callback_url, "user-1"), forgetting);
        failed(completed, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
        assert_eq!(left, "0");
        let kept = "select (select count(*) from accounts) +
                           (select count(*) from authorizations where short_lived_token is not null)";
        assert_eq!(world.look_up(kept).await, "0", "{endpoint:?}");
        world.advance(SECOND);
    }
}

#[tokio::test]
async fn the_page_tells_a_person_what_became_of_it_for_half_a_year() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let code = world.forgotten(&world.notice_of(&linked)).await;
    let page = status(&world, &code).await;
    assert_eq!(page.status, StatusCode::OK);
    for words in [
        "<h1>Your data has been deleted</h1>",
        "<dt>Requested</dt><dd>1 March 2026, 12:00 UTC</dd>",
        "<dt>Deleted</dt>",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert_eq!(get(&world, &format!("/threads/data-deletion/{code}/?utm=x")).await.body, page.body);
    let hash = "select octet_length(code_hash) from deletion_requests";
    assert_eq!(world.look_up(hash).await, "32");
    world.advance(180 * DAY - SECOND);
    round(&world.service).await.unwrap();
    assert_eq!(status(&world, &code).await.body, page.body);
    world.advance(SECOND);
    assert_eq!(round(&world.service).await.unwrap(), Removed { deletion_requests: 1, ..Removed::default() });
    assert_eq!(status(&world, &code).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_cannot_be_guessed_and_every_wrong_one_looks_the_same() {
    guess_codes(200).await;
}

/// `cargo test --release --test it a_hundred_thousand_guesses -- --ignored`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the same with more guesses"]
async fn a_hundred_thousand_guesses_find_nothing() {
    guess_codes(2_000).await;
}

/// So many peers guess, each as often as it may without being told to slow down.
async fn guess_codes(peers: u32) {
    const EACH: u32 = 50;
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let code = world.forgotten(&world.notice_of(&linked)).await;
    let letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let guess = |n: u32| -> String {
        let digest = threads_identity::secret::sha256(&[&n.to_be_bytes()]);
        digest.iter().map(|byte| char::from(letters.as_bytes()[usize::from(byte % 32)])).collect()
    };
    let near = |n: u32| {
        let mut near = code.clone().into_bytes();
        let place = n as usize % near.len();
        near[place] = if near[place] == b'0' { b'1' } else { b'0' };
        String::from_utf8(near).unwrap()
    };
    let odd = [
        code.to_lowercase(),
        format!("{code}A"),
        code[1..].to_owned(),
        "%00".to_owned(),
        "%FF".to_owned(),
        "..%2F".to_owned(),
        "'or'1'='1".to_owned(),
        "x".repeat(4000),
        linked.threads_user_id.clone(),
        linked.account_id.clone(),
        "<script>".to_owned(),
    ];
    let guesses = |peer: u32| {
        let (world, odd) = (&world, &odd);
        let address = Ipv4Addr::from(Ipv4Addr::new(127, 1, 0, 0).to_bits() + peer);
        let client = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(address));
        let client = client.build().unwrap();
        async move {
            let mut seen = HashSet::new();
            for n in 0..EACH {
                let tried = match n % 3 {
                    0 => guess(peer * EACH + n),
                    1 => near(n),
                    _ => odd[n as usize % odd.len()].clone(),
                };
                let page =
                    answered(client.get(format!("http://{}/threads/data-deletion/{tried}", world.http)))
                        .await;
                seen.insert((page.status, page.body));
            }
            seen
        }
    };
    let seen: Vec<_> = stream::iter(0..peers).map(guesses).buffer_unordered(4).collect().await;
    let seen: HashSet<_> = seen.into_iter().flatten().collect();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let (status, body) = seen.into_iter().next().unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("<h1>No such request</h1>"));
    assert!((world.told("deletion_status", "unknown").await - f64::from(peers * EACH)).abs() < 0.1);
    assert!(crate::meta::status(&world, &code).await.body.contains("has been deleted"));
}

#[tokio::test]
async fn one_peer_is_told_to_slow_down_whatever_it_says_of_itself() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let code = world.forgotten(&world.notice_of(&linked)).await;
    let mut limited = None;
    for n in 0..200 {
        let address = format!("192.0.2.{n}");
        let headers =
            [("x-forwarded-for", address.as_str()), ("forwarded", "for=192.0.2.1"), ("x-real-ip", &address)];
        let path = format!("/threads/data-deletion/{code}");
        let page = crate::callback::fetch(&world, reqwest::Method::GET, &path, &headers).await;
        if page.status == StatusCode::TOO_MANY_REQUESTS {
            limited = Some((n, page));
            break;
        }
        assert_eq!(page.status, StatusCode::OK);
    }
    let (n, page) = limited.expect("a limit");
    assert!(n >= 60, "a person may load it {n} times");
    page.assert_guarded();
    assert_eq!(page.header("retry-after"), "1");
    assert!(page.body.contains("<h1>One moment</h1>"));
    // Others go on, and so does everything else.
    let client = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from([127, 2, 0, 1]));
    let url = format!("http://{}/threads/data-deletion/{code}", world.http);
    assert_eq!(answered(client.build().unwrap().get(url)).await.status, StatusCode::OK);
    world.forgotten(&world.notice(STRANGER, Some(world.clock.now().unix_timestamp()))).await;
}
