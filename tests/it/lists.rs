//! Lists and their pages.

use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::{ListAccountsRequest, ListAccountsResponse, ListProfilesRequest};
use tonic::{Code, Status};

use crate::harness::{World, bad_fields, failed, metadata};
use crate::shorthand::unlink;

fn list(user_id: &str, page_size: i32, page_token: &str) -> ListAccountsRequest {
    ListAccountsRequest {
        user_id: Some(user_id.to_owned()),
        states: Vec::new(),
        page_size,
        page_token: page_token.to_owned(),
    }
}

fn list_profiles(user_id: &str, page_size: i32, page_token: &str) -> ListProfilesRequest {
    ListProfilesRequest { user_id: user_id.to_owned(), page_size, page_token: page_token.to_owned() }
}

fn whole_app(page_token: &str) -> ListAccountsRequest {
    ListAccountsRequest {
        page_size: 200,
        page_token: page_token.to_owned(),
        ..ListAccountsRequest::default()
    }
}

impl World {
    async fn list(&self, caller: &str, request: ListAccountsRequest) -> Result<ListAccountsResponse, Status> {
        self.accounts(caller).list_accounts(request).await.map(tonic::Response::into_inner)
    }
}

fn ids(page: &ListAccountsResponse) -> Vec<String> {
    page.accounts.iter().map(|account| account.account_id.clone()).collect()
}

#[tokio::test]
async fn a_page_is_as_long_as_asked_for_within_its_bounds() {
    let world = World::start().await;
    world.fill("default", "many", 250).await;
    for (asked, got) in [(0, 50), (1, 1), (199, 199), (200, 200), (201, 200), (i32::MAX, 200)] {
        let page = world.list("web", list("many", asked, "")).await.unwrap();
        assert_eq!(page.accounts.len(), got, "page_size {asked}");
        assert!(!page.next_page_token.is_empty() && page.next_page_token.len() <= 512);
        let page = world.profiles("web").list_profiles(list_profiles("many", asked, "")).await.unwrap();
        assert_eq!(page.into_inner().profiles.len(), got, "page_size {asked}");
    }
    for asked in [-1, i32::MIN] {
        assert_eq!(bad_fields(world.list("web", list("many", asked, "")).await), ["page_size"]);
        let page = world.profiles("web").list_profiles(list_profiles("many", asked, "")).await;
        assert_eq!(bad_fields(page), ["page_size"]);
    }
}

#[tokio::test]
async fn pages_hold_everything_once_and_in_order() {
    let world = World::start().await;
    let mut expected = world.fill("default", "many", 450).await;
    for page_size in [200, 7, 450] {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = world.list("web", list("many", page_size, &page_token)).await.unwrap();
            seen.extend(ids(&page));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected, "page_size {page_size}");
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = list_profiles("many", 200, &page_token);
        let page = world.profiles("web").list_profiles(request).await.unwrap().into_inner();
        assert!(page.profiles.iter().all(|profile| profile.user_id == "many" && profile.profile.is_some()));
        seen.extend(page.profiles.into_iter().map(|profile| profile.account_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected);

    expected.extend(world.fill("default", "more", 150).await);
    expected.sort();
    world.fill("second", "many", 30).await;
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = world.list("only-sync", whole_app(&page_token)).await.unwrap();
        assert_eq!(page.accounts.len(), 200, "600 accounts fill three pages");
        seen.extend(ids(&page));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected, "one app's, and no other's");
}

#[tokio::test]
async fn a_page_goes_on_after_what_has_been_seen_whatever_happens_in_between() {
    let world = World::start().await;
    let all = world.fill("default", "many", 30).await;
    let first = world.list("web", list("many", 10, "")).await.unwrap();
    // The last one seen goes, and so does the first one to come.
    for id in [&all[9], &all[10]] {
        world.accounts("web").unlink_account(unlink(id, "many")).await.unwrap();
    }
    let second = world.list("web", list("many", 10, &first.next_page_token)).await.unwrap();
    assert_eq!(ids(&second), all[11..21]);
}

#[tokio::test]
async fn a_page_token_opens_only_the_list_that_it_is_of() {
    let world = World::start().await;
    for (app, user_id) in [("default", "many"), ("default", "more"), ("second", "many")] {
        world.fill(app, user_id, 5).await;
    }
    let page_token = world.list("web", list("many", 2, "")).await.unwrap().next_page_token;
    assert!(world.list("web", list("many", 200, &page_token)).await.is_ok(), "the size may change");

    let refused = async |caller: &str, request: ListAccountsRequest| {
        assert_eq!(
            bad_fields(world.list(caller, request.clone()).await),
            ["page_token"],
            "{caller} {request:?}"
        );
    };
    refused("web", list("more", 2, &page_token)).await;
    refused("web", whole_app(&page_token)).await;
    refused("only-read", list("many", 2, &page_token)).await;
    refused("second", list("many", 2, &page_token)).await;
    let mut other_states = list("many", 2, &page_token);
    other_states.states = vec![State::Active.into()];
    refused("web", other_states).await;

    let request = list_profiles("many", 2, &page_token);
    assert_eq!(bad_fields(world.profiles("web").list_profiles(request).await), ["page_token"]);
    let page = world.profiles("web").list_profiles(list_profiles("many", 2, "")).await.unwrap().into_inner();
    refused("web", list("many", 2, &page.next_page_token)).await;
    let state = world.create("many").await.state;
    refused("web", list("many", 2, &state)).await;

    for bad in ["x", " ", "AAAA", &"A".repeat(513), &"A".repeat(60_000), &format!("{page_token}="), "a\0"] {
        refused("web", list("many", 2, bad)).await;
    }
    for at in (0..page_token.len()).step_by(3) {
        let mut changed = page_token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        refused("web", list("many", 2, &String::from_utf8(changed).unwrap())).await;
        refused("web", list("many", 2, &page_token[..at.max(1)])).await;
    }
}

#[tokio::test]
async fn every_wrong_field_of_a_list_is_named() {
    let world = World::start().await;
    let bad = async |request: ListAccountsRequest| bad_fields(world.list("web", request).await);
    assert_eq!(bad(list("", 0, "")).await, ["user_id"], "empty never means all");
    assert_eq!(bad(list(&"u".repeat(129), -1, "x")).await, ["user_id", "page_size", "page_token"]);
    let (active, unlinked) = (State::Active.into(), State::Unlinked.into());
    for (states, expected) in [
        (vec![0], vec!["states[0]"]),
        (vec![4], vec!["states[0]"]),
        (vec![-1, active, i32::MAX], vec!["states[0]", "states[2]"]),
        (vec![active, unlinked, active], vec!["states[2]"]),
    ] {
        assert_eq!(bad(ListAccountsRequest { states, ..list("u", 0, "") }).await, expected);
    }
    let request = ListAccountsRequest { states: vec![99; 10_000], ..list("u", 0, "") };
    assert_eq!(bad(request).await.len(), 20);
    assert_eq!(bad_fields(world.profiles("web").list_profiles(list_profiles("", 0, "")).await), ["user_id"]);
}

#[tokio::test]
async fn a_list_shows_the_states_asked_for() {
    let world = World::start().await;
    let all = world.fill("default", "many", 6).await;
    for id in &all[..2] {
        world.accounts("web").unlink_account(unlink(id, "many")).await.unwrap();
    }
    world
        .meddle(format!(
            "update accounts set state = 'REAUTHORIZATION_REQUIRED', state_reason = 'TOKEN_EXPIRED'
             where account_id in ('{}', '{}')",
            all[2], all[3]
        ))
        .await;
    let (active, waiting, unlinked) =
        (State::Active.into(), State::ReauthorizationRequired.into(), State::Unlinked.into());
    for (states, expected) in [
        (vec![], &all[2..]),
        (vec![active], &all[4..]),
        (vec![waiting], &all[2..4]),
        (vec![unlinked], &all[..2]),
        (vec![unlinked, active, waiting], &all[..]),
    ] {
        let page = world.list("web", ListAccountsRequest { states, ..list("many", 0, "") }).await.unwrap();
        assert_eq!(ids(&page), expected);
    }
    // The order in which states are named means nothing.
    let request = ListAccountsRequest { states: vec![active, unlinked], ..list("many", 2, "") };
    let page_token = world.list("web", request).await.unwrap().next_page_token;
    let request = ListAccountsRequest { states: vec![unlinked, active], ..list("many", 2, &page_token) };
    assert_eq!(ids(&world.list("web", request).await.unwrap()), all[4..]);
}

#[tokio::test]
async fn the_whole_app_is_for_those_who_may_sync() {
    let world = World::start().await;
    let details =
        failed(world.list("only-read", whole_app("")).await, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    assert_eq!(metadata(&details)["role"], "sync");
    for user_id in ["user-1", ""] {
        let refused = world.list("only-sync", list(user_id, 0, "")).await;
        let details = failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
        assert_eq!(metadata(&details)["role"], "read");
    }
    assert!(world.list("only-sync", whole_app("")).await.unwrap().accounts.is_empty());
    assert!(world.list("only-read", list("user-1", 0, "")).await.unwrap().accounts.is_empty());
}
