//! Watching what changes, and listing it.

use std::time::Duration;

use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::account_change::Kind;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::create_authorization_url_request::Link;
use threads_identity::proto::v1::{
    AccountChange, ListAccountChangesRequest, ListAccountChangesResponse, OnConflict, WatchAccountsRequest,
    WatchAccountsResponse,
};
use threads_identity::simulator::Persona;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use crate::harness::{Wishes, World, bad_fields, failed, link, metadata, with_key};
use crate::shorthand::{fresh_profile, until};

/// Long enough for anything that comes at all.
const PATIENCE: Duration = Duration::from_secs(90);

/// An open watch.
pub struct Watching(Streaming<WatchAccountsResponse>);

impl Watching {
    /// The next message, or how it ended.
    pub async fn message(&mut self) -> Result<WatchAccountsResponse, Status> {
        let message = timeout(PATIENCE, self.0.message()).await.expect("a message comes")?;
        message.ok_or_else(|| panic!("a watch never ends well"))
    }

    /// The next change, with its cursor.
    pub async fn change(&mut self) -> (String, AccountChange) {
        loop {
            let message = self.message().await.unwrap();
            if let Some(change) = message.change {
                return (message.cursor, change);
            }
        }
    }

    /// So many changes.
    pub async fn changes(&mut self, count: usize) -> Vec<AccountChange> {
        let mut changes = Vec::with_capacity(count);
        while changes.len() < count {
            changes.push(self.change().await.1);
        }
        changes
    }

    /// How it ended, after whatever it still had to say; the last cursor.
    pub async fn end(&mut self) -> (Status, Option<String>) {
        let mut cursor = None;
        loop {
            match self.message().await {
                Ok(message) => cursor = Some(message.cursor),
                Err(status) => return (status, cursor),
            }
        }
    }
}

fn wish(user_id: Option<&str>, cursor: Option<&str>) -> WatchAccountsRequest {
    WatchAccountsRequest { user_id: user_id.map(str::to_owned), cursor: cursor.map(str::to_owned) }
}

impl World {
    /// Opens a watch.
    pub async fn watch_as(
        &self,
        caller: &str,
        user_id: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Watching, Status> {
        let stream = self.accounts(caller).watch_accounts(wish(user_id, cursor)).await?;
        Ok(Watching(stream.into_inner()))
    }

    /// A watch of the whole app from now on, over a connection of its own: whoever
    /// does not read keeps what else comes over its connection waiting too. It
    /// takes in little by itself.
    pub async fn watch_apart(&self) -> Watching {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
        let channel = with_key(endpoint.connect().await.unwrap(), self.key("web"));
        let stream = AccountServiceClient::new(channel).watch_accounts(wish(None, None)).await.unwrap();
        Watching(stream.into_inner())
    }

    /// A watch of the whole app from now on, and where it begins.
    pub async fn watch(&self) -> (Watching, String) {
        let mut watching = self.watch_as("web", None, None).await.unwrap();
        let first = watching.message().await.unwrap();
        assert_eq!(first.change, None, "the position comes first");
        (watching, first.cursor)
    }

    /// A watch of the whole app behind a cursor.
    pub async fn watch_from(&self, cursor: &str) -> Watching {
        self.watch_as("web", None, Some(cursor)).await.unwrap()
    }

    /// A page of changes.
    pub async fn changes_as(
        &self,
        caller: &str,
        user_id: Option<&str>,
        cursor: Option<&str>,
        page_size: i32,
    ) -> Result<ListAccountChangesResponse, Status> {
        let request = ListAccountChangesRequest {
            user_id: user_id.map(str::to_owned),
            cursor: cursor.map(str::to_owned),
            page_size,
        };
        self.accounts(caller).list_account_changes(request).await.map(tonic::Response::into_inner)
    }

    /// Where the changes stand now.
    pub async fn position(&self) -> String {
        let page = self.changes_as("web", None, None, 0).await.unwrap();
        assert!(page.changes.is_empty() && !page.more);
        page.cursor
    }

    /// Takes an account over for a user.
    pub async fn transfer(&self, user_id: &str, persona: &str) {
        let wish = Link { on_conflict: OnConflict::Transfer.into(), ..link(user_id) };
        let created = self.create_with(wish).await;
        self.complete(&self.consent(&created, persona), user_id).await.unwrap();
    }

    /// Changes each of these accounts once, as the service does: the row first,
    /// then the event.
    pub async fn emit(&self, accounts: &[String], kind: &str) {
        let statement = "with changed as (
                 update accounts set update_time = update_time
                 where account_id = any($1::text[]::uuid[]) returning *
             )
             insert into events (app_id, account_id, user_id, kind, event_time)
             select app_id, account_id, user_id, $2, update_time from changed";
        sqlx::query(statement).bind(accounts).bind(kind).execute(&mut self.sql().await).await.unwrap();
    }
}

fn told(changes: &[AccountChange]) -> Vec<(Kind, &str, &str)> {
    changes.iter().map(|c| (c.kind(), c.user_id.as_str(), c.previous_user_id.as_str())).collect()
}

/// A day with everything in it that happens to accounts.
async fn eventful_day(world: &World) -> String {
    let id = world.linked("user-1", "full").await.account_id;
    world.linked("user-1", "full").await;
    world.controls.rename("full", "maya_new");
    world.profile(fresh_profile(&id, 0)).await.unwrap();
    world.profile(fresh_profile(&id, 0)).await.unwrap();
    world.transfer("user-2", "full").await;
    world.unlink(&world.account(&id).await.unwrap()).await;
    world.linked("user-2", "full").await;
    id
}

const DAY: [(Kind, &str, &str); 6] = [
    (Kind::Linked, "user-1", ""),
    (Kind::Reauthorized, "user-1", ""),
    (Kind::ProfileChanged, "user-1", ""),
    (Kind::Transferred, "user-2", "user-1"),
    (Kind::Unlinked, "user-2", ""),
    (Kind::Relinked, "user-2", ""),
];

#[tokio::test]
async fn every_change_comes_in_order_after_the_position_with_the_account_as_it_is() {
    let world = World::start().await;
    world.linked("user-0", "home").await;
    let (mut watching, _) = world.watch().await;
    let account = world.linked("user-1", "full").await;
    let (_, change) = watching.change().await;
    assert_eq!(change.kind(), Kind::Linked, "nothing from before the watch");
    assert_eq!((change.account_id.as_str(), change.user_id.as_str()), (&*account.account_id, "user-1"));
    assert_eq!(change.change_time, account.update_time);
    assert_eq!(change.account, Some(account.clone()));
    world.advance(Duration::from_secs(60));
    world.unlink(&account).await;
    let (_, change) = watching.change().await;
    assert_eq!(change.account.unwrap().state(), State::Unlinked);
}

#[tokio::test]
async fn a_watch_and_a_list_tell_of_everything_that_happens() {
    let world = World::start().await;
    let (mut watching, start) = world.watch().await;
    let id = eventful_day(&world).await;
    let changes = watching.changes(DAY.len()).await;
    assert_eq!(told(&changes), DAY);
    assert!(changes.iter().all(|change| change.account_id == id));

    for page_size in [1, 4, 0] {
        let (mut listed, mut cursor) = (Vec::new(), start.clone());
        loop {
            let page = world.changes_as("web", None, Some(&cursor), page_size).await.unwrap();
            assert!(page_size == 0 || page.changes.len() <= usize::try_from(page_size).unwrap());
            listed.extend(page.changes);
            cursor = page.cursor;
            if !page.more {
                break;
            }
        }
        assert_eq!(told(&listed), DAY, "by {page_size}");
        assert_eq!(listed.last().unwrap().account, Some(world.account(&id).await.unwrap()));
        let page = world.changes_as("web", None, Some(&cursor), page_size).await.unwrap();
        assert!(page.changes.is_empty() && !page.more && !page.cursor.is_empty());
    }
}

#[tokio::test]
async fn a_watch_goes_on_exactly_behind_each_cursor() {
    let world = World::start().await;
    let (mut watching, start) = world.watch().await;
    eventful_day(&world).await;
    let mut cursors = vec![start];
    for _ in DAY {
        cursors.push(watching.change().await.0);
    }
    drop(watching);
    let replica = world.replica().await;
    for (i, cursor) in cursors.iter().enumerate() {
        for world in [&world, &replica] {
            let mut watching = world.watch_from(cursor).await;
            let first = watching.message().await.unwrap();
            assert_eq!(first.change, None, "the position comes first");
            assert_eq!(told(&watching.changes(DAY.len() - i).await), DAY[i..]);
            let mut again = world.watch_from(&first.cursor).await;
            assert_eq!(told(&again.changes(DAY.len() - i).await), DAY[i..]);
            let page = world.changes_as("web", None, Some(cursor), 200).await.unwrap();
            assert_eq!(told(&page.changes), DAY[i..]);
        }
    }
}

#[tokio::test]
async fn every_kind_has_its_name_and_a_newer_ones_is_left_open() {
    let world = World::start().await;
    let (mut watching, _) = world.watch().await;
    let id = world.fill("default", "many", 1).await;
    for kind in 1..=12 {
        let kind = Kind::try_from(kind).unwrap();
        world.emit(&id, kind.as_str_name().strip_prefix("KIND_").unwrap()).await;
        assert_eq!(watching.change().await.1.kind(), kind);
    }
    world.emit(&id, "SOMETHING_NEWER").await;
    assert_eq!(watching.change().await.1.kind(), Kind::Unspecified);
    assert!(Kind::try_from(13).is_err(), "another kind is tried here too");
}

#[tokio::test]
async fn an_account_that_is_gone_or_cannot_be_read_holds_nobody_up() {
    let world = World::start().await;
    let (mut watching, start) = world.watch().await;
    let ids = world.fill("default", "many", 3).await;
    world
        .meddle(format!(
            "insert into events (app_id, account_id, user_id, kind, event_time)
             select app_id, account_id, user_id, 'TOKEN_REFRESHED', update_time from accounts order by account_id;
             delete from accounts where account_id = '{}';
             update accounts set state_reason = 'nonsense', state = 'UNLINKED', token = null, next_refresh_time = null,
                                 token_expire_time = null, token_refresh_time = null, username = null,
                                 profile_fetch_time = null
             where account_id = '{}'",
            ids[0], ids[1]
        ))
        .await;
    let shown = |changes: &[AccountChange]| -> Vec<bool> {
        changes.iter().map(|change| change.account.is_some()).collect()
    };
    let changes = watching.changes(3).await;
    assert_eq!(shown(&changes), [false, false, true]);
    assert!(changes.iter().all(|change| change.user_id == "many"));
    assert_eq!(
        shown(&world.changes_as("web", None, Some(&start), 0).await.unwrap().changes),
        [false, false, true]
    );
}

#[tokio::test]
async fn whoever_asks_for_one_user_hears_of_that_user_alone() {
    let world = World::start().await;
    let start = world.position().await;
    let id = eventful_day(&world).await;
    world.linked("user-3", "home").await;
    let own = |user_id: &str| -> Vec<(Kind, &str, &str)> {
        // The user that it went to is not the other's to know.
        let seen = |(kind, user, previous): (Kind, &'static str, &'static str)| {
            (kind, if user == user_id { user } else { "" }, previous)
        };
        DAY.into_iter()
            .filter(|(_, user, previous)| *user == user_id || *previous == user_id)
            .map(seen)
            .collect()
    };
    for (user_id, has_it) in [("user-1", false), ("user-2", true)] {
        let expected = own(user_id);
        let mut watching = world.watch_as("only-read", Some(user_id), Some(&start)).await.unwrap();
        let changes = watching.changes(expected.len()).await;
        assert_eq!(told(&changes), expected);
        let page = world.changes_as("only-read", Some(user_id), Some(&start), 0).await.unwrap();
        assert_eq!(told(&page.changes), expected);
        for change in changes.iter().chain(&page.changes) {
            assert_eq!(change.account.is_some(), has_it, "{change:?}");
            assert!(change.account.as_ref().is_none_or(|account| account.user_id == user_id));
            assert_eq!(change.account_id, id);
        }
    }
    let page = world.changes_as("web", Some("user-9"), Some(&start), 0).await.unwrap();
    assert!(page.changes.is_empty() && !page.more);
    assert_eq!(bad_fields(world.changes_as("second", None, Some(&page.cursor), 0).await), ["cursor"]);
}

#[tokio::test]
async fn another_app_hears_of_nothing() {
    let config = "[watch]\nheartbeat = \"50ms\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let mut theirs = world.watch_as("second", None, None).await.unwrap();
    let start = theirs.message().await.unwrap().cursor;
    let (mut ours, _) = world.watch().await;
    eventful_day(&world).await;
    ours.changes(DAY.len()).await;
    for _ in 0..3 {
        assert_eq!(theirs.message().await.unwrap().change, None);
    }
    let page = world.changes_as("second", None, Some(&start), 0).await.unwrap();
    assert!(page.changes.is_empty() && !page.more);
    world.fill("second", "many", 1).await;
    let id = world.look_up("select account_id from accounts where app_id = 'second'").await;
    world.emit(&[id], "TOKEN_REFRESHED").await;
    assert_eq!(theirs.change().await.1.kind(), Kind::TokenRefreshed);
}

#[tokio::test]
async fn a_silent_watch_gives_signs_of_life_that_move_on() {
    let config = "[watch]\nheartbeat = \"50ms\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let mut watching = world.watch_as("web", Some("nobody"), None).await.unwrap();
    watching.message().await.unwrap();
    eventful_day(&world).await;
    // Whatever the others did comes to lie behind it.
    until("the position has moved on", async || {
        let message = watching.message().await.unwrap();
        assert_eq!(message.change, None);
        let page = world.changes_as("web", None, Some(&message.cursor), 0).await.unwrap();
        page.changes.is_empty()
    })
    .await;
}

#[tokio::test]
async fn every_wrong_field_of_a_watch_or_a_list_is_named() {
    let world = World::start().await;
    let cursor = world.position().await;
    let state = world.create("user-1").await.state;
    let theirs = world.changes_as("second", None, None, 0).await.unwrap().cursor;
    let long = "u".repeat(129);
    for (user_id, cursor, expected) in [
        (Some(""), None, vec!["user_id"]),
        (Some(long.as_str()), Some("x"), vec!["user_id", "cursor"]),
        (None, Some(""), vec!["cursor"]),
        (None, Some("x"), vec!["cursor"]),
        (None, Some(" "), vec!["cursor"]),
        (None, Some(&cursor[..cursor.len() - 1]), vec!["cursor"]),
        (None, Some(&format!("{cursor}A")), vec!["cursor"]),
        (None, Some(&"A".repeat(513)), vec!["cursor"]),
        (None, Some(&state), vec!["cursor"]),
        (None, Some(&theirs), vec!["cursor"]),
    ] {
        let refused = world.watch_as("web", user_id, cursor).await;
        assert_eq!(bad_fields(refused), expected, "{user_id:?} {cursor:?}");
        let refused = world.changes_as("web", user_id, cursor, 0).await;
        assert_eq!(bad_fields(refused), expected, "{user_id:?} {cursor:?}");
    }
    let refused = world.changes_as("web", Some(""), Some(""), -1).await;
    let mut named = bad_fields(refused);
    named.sort();
    assert_eq!(named, ["cursor", "page_size", "user_id"]);
    // What the key's id is, behind the version, decides by itself.
    for at in (0..cursor.len()).filter(|at| !(1..7).contains(at)) {
        let mut changed = cursor.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        // The last characters may carry bits that mean nothing; those must be zero.
        assert_eq!(bad_fields(world.changes_as("web", None, Some(&changed), 0).await), ["cursor"], "at {at}");
    }
}

#[tokio::test]
async fn whose_changes_one_may_hear_of_is_a_matter_of_roles() {
    let world = World::start().await;
    for (user_id, caller, role) in [
        (None, "only-read", "sync"),
        (Some("user-1"), "only-sync", "read"),
        (Some("user-1"), "only-token", "read"),
    ] {
        let refused = world.watch_as(caller, user_id, None).await;
        let details = failed(refused.map(drop), Code::PermissionDenied, "CALLER_NOT_ALLOWED");
        assert_eq!(metadata(&details)["role"], role);
        let refused = world.changes_as(caller, user_id, None, 0).await;
        assert_eq!(metadata(&failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED"))["role"], role);
    }
    assert!(world.watch_as("only-read", Some("user-1"), None).await.is_ok());
    assert!(world.watch_as("only-sync", None, None).await.is_ok());
}

#[tokio::test]
async fn no_message_holds_a_token_or_a_profile() {
    let world = World::start().await;
    let persona = Persona {
        name: Some("Name Unheard".to_owned()),
        ..Persona::new("shy", "30000000000077777", "un.heard")
    };
    world.controls.add_persona(persona);
    let (mut watching, start) = world.watch().await;
    let id = world.linked("user-1", "shy").await.account_id;
    world.controls.rename("shy", "un.heard.of");
    world.profile(fresh_profile(&id, 0)).await.unwrap();
    let heard = format!("{:?}", watching.changes(2).await);
    let listed = format!("{:?}", world.changes_as("web", None, Some(&start), 0).await.unwrap());
    let mut forbidden = world.controls.issued_tokens("shy");
    forbidden.extend(world.controls.issued_codes());
    forbidden.extend(["un.heard", "Name Unheard", "SIMSECRET"].map(str::to_owned));
    for text in [heard, listed] {
        assert!(text.contains("30000000000077777"));
        assert!(!forbidden.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

#[tokio::test]
async fn a_callers_own_deadline_ends_a_watch_with_its_cursor() {
    let world = World::start().await;
    let mut request = Request::new(wish(None, None));
    request.metadata_mut().insert("grpc-timeout", "700m".parse().unwrap());
    let mut watching = Watching(world.accounts("web").watch_accounts(request).await.unwrap().into_inner());
    let (status, cursor) = watching.end().await;
    assert!(cursor.is_some(), "{status:?}");
    let details = failed::<()>(Err(status), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    world.linked("user-1", "full").await;
    let mut watching = world.watch_from(&metadata(&details)["cursor"]).await;
    assert_eq!(watching.change().await.1.kind(), Kind::Linked);
}
