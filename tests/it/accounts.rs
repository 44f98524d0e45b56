//! Reading and unlinking one account.

use threads_identity::proto::v1::account::{State, StateReason};
use threads_identity::proto::v1::{
    AuthorizationOutcome, BatchGetProfilesRequest, GetAccountRequest, ListAccountsRequest,
    ListProfilesRequest,
};
use tonic::Code;

use crate::harness::{World, bad_fields, failed, metadata};
use crate::shorthand::{NOBODY, STRANGER, account, account_of_person, profile, same_refusal, token, unlink};

/// Account ids that this service never gives.
const NO_IDS: [&str; 8] = [
    "",
    "1",
    "00000000000080008000000000000000",
    "{00000000-0000-8000-8000-000000000000}",
    "urn:uuid:00000000-0000-8000-8000-000000000000",
    "ABCDEF00-0000-8000-8000-000000000000",
    "00000000-0000-8000-8000-00000000000g",
    "00000000-0000-8000-8000-000000000000\0",
];

#[tokio::test]
async fn an_account_must_be_named_rightly() {
    let world = World::start().await;
    let mut client = world.accounts("web");
    let mut get = async |request: GetAccountRequest| client.get_account(request).await;
    assert_eq!(bad_fields(get(GetAccountRequest::default()).await), ["account"]);
    for id in NO_IDS {
        assert_eq!(bad_fields(get(account(id, None)).await), ["account_id"], "{id:?}");
    }
    assert_eq!(bad_fields(get(account(&"x".repeat(10_000), None)).await), ["account_id"]);
    for id in ["", "12a", "-1", " 1", "1.0", "١٢", &"1".repeat(33)] {
        assert_eq!(bad_fields(get(account_of_person(id, None)).await), ["threads_user_id"], "{id:?}");
    }
    for user_id in ["", &"u".repeat(129), "a\nb", "a\0b", &"ü".repeat(65)] {
        assert_eq!(bad_fields(get(account(NOBODY, Some(user_id))).await), ["user_id"], "{user_id:?}");
    }
    assert_eq!(bad_fields(get(account("", Some(""))).await), ["account_id", "user_id"]);
    for user_id in ["u", " ", &"u".repeat(128), &"ü".repeat(64), "../../%00'\"; drop table accounts;--"] {
        let refused = get(account(NOBODY, Some(user_id))).await;
        let details = failed(refused, Code::NotFound, "ACCOUNT_NOT_FOUND");
        assert_eq!(metadata(&details)["account_id"], NOBODY);
    }
}

#[tokio::test]
async fn an_unlinking_must_be_asked_for_rightly() {
    let world = World::start().await;
    let mut client = world.accounts("web");
    for id in NO_IDS {
        assert_eq!(bad_fields(client.unlink_account(unlink(id, "u")).await), ["account_id"], "{id:?}");
    }
    for user_id in ["", &"u".repeat(129), "a\0b"] {
        assert_eq!(bad_fields(client.unlink_account(unlink(NOBODY, user_id)).await), ["user_id"]);
    }
    assert_eq!(bad_fields(client.unlink_account(unlink("", "")).await), ["account_id", "user_id"]);
    failed(client.unlink_account(unlink(NOBODY, "u")).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn another_users_account_cannot_be_told_from_none() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let (id, person) = (linked.account_id.as_str(), linked.threads_user_id.as_str());
    let (mut accounts, mut profiles) = (world.accounts("web"), world.profiles("web"));
    let mut tokens = world.tokens("web");
    for user_id in ["user-2", "user-", "user-11", "USER-1", "user-1 ", "ｕser-1"] {
        let theirs = accounts.get_account(account(id, Some(user_id))).await;
        same_refusal(theirs, id, accounts.get_account(account(NOBODY, Some(user_id))).await, NOBODY);
        let theirs = accounts.get_account(account_of_person(person, Some(user_id))).await;
        same_refusal(
            theirs,
            person,
            accounts.get_account(account_of_person(STRANGER, Some(user_id))).await,
            STRANGER,
        );
        let theirs = profiles.get_profile(profile(id, Some(user_id))).await;
        same_refusal(theirs, id, profiles.get_profile(profile(NOBODY, Some(user_id))).await, NOBODY);
        let theirs = tokens.fetch_access_token(token(id, user_id)).await;
        same_refusal(theirs, id, tokens.fetch_access_token(token(NOBODY, user_id)).await, NOBODY);
        let theirs = accounts.unlink_account(unlink(id, user_id)).await;
        same_refusal(theirs, id, accounts.unlink_account(unlink(NOBODY, user_id)).await, NOBODY);
    }
    assert_eq!(world.account(id).await.unwrap(), linked, "nobody has done anything to it");
    assert!(accounts.get_account(account(id, Some("user-1"))).await.is_ok());
    let by_person = accounts.get_account(account_of_person(person, None)).await.unwrap().into_inner();
    assert_eq!(by_person.account.unwrap(), linked);
}

#[tokio::test]
async fn a_refusal_by_threads_id_tells_no_account_id() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let request = account_of_person(&linked.threads_user_id, Some("user-2"));
    let status = world.accounts("web").get_account(request).await.unwrap_err();
    assert!(!String::from_utf8_lossy(status.details()).contains(&linked.account_id));
    let details = failed::<()>(Err(status), Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert!(metadata(&details).is_empty());
}

#[tokio::test]
async fn unlinking_destroys_token_and_profile_at_once_and_once() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    let id = linked.account_id.as_str();
    world.advance(std::time::Duration::from_secs(60));
    let mut accounts = world.accounts("web");
    let unlinked = accounts.unlink_account(unlink(id, "user-1")).await.unwrap().into_inner().account.unwrap();
    assert_eq!((unlinked.state(), unlinked.state_reason()), (State::Unlinked, StateReason::UnlinkedByCaller));
    assert_eq!((unlinked.token_expire_time, unlinked.token_refresh_time), (None, None));
    assert_eq!(unlinked.create_time, linked.create_time);
    assert_eq!(unlinked.update_time.unwrap().seconds, linked.update_time.unwrap().seconds + 60);
    let left =
        "num_nonnulls(token, token_expire_time, token_refresh_time, username, name, picture_url, biography,
                is_verified, profile_fetch_time)";
    assert_eq!(world.look_up(format!("select {left} from accounts")).await, "0");
    assert!(!world.dump().await.contains("maya.sim"));

    world.advance(std::time::Duration::from_secs(60));
    let again = accounts.unlink_account(unlink(id, "user-1")).await.unwrap().into_inner().account.unwrap();
    assert_eq!(again, unlinked);
    assert_eq!(world.account(id).await.unwrap(), unlinked);
    assert_eq!(world.look_up("select count(*) from events where kind = 'UNLINKED'").await, "1");
}

#[tokio::test]
async fn an_unlinked_account_has_no_profile_and_no_token() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    world.accounts("web").unlink_account(unlink(&id, "user-1")).await.unwrap();

    let details = failed(world.profile(profile(&id, None)).await, Code::NotFound, "PROFILE_NOT_FOUND");
    assert_eq!(metadata(&details)["account_id"], id);
    let fresh = crate::shorthand::fresh_profile(&id, 0);
    failed(world.profile(fresh).await, Code::NotFound, "PROFILE_NOT_FOUND");
    let details =
        failed(world.token(token(&id, "user-1")).await, Code::FailedPrecondition, "ACCOUNT_UNLINKED");
    assert_eq!(metadata(&details)["account_id"], id);
    failed(world.token(token(&id, "user-2")).await, Code::NotFound, "ACCOUNT_NOT_FOUND");

    let request = BatchGetProfilesRequest { account_ids: vec![id.clone()], user_id: None };
    let batch = world.profiles("web").batch_get_profiles(request).await.unwrap().into_inner();
    assert_eq!((batch.profiles.len(), batch.missing_account_ids), (0, vec![id.clone()]));
    let request = ListProfilesRequest { user_id: "user-1".to_owned(), ..ListProfilesRequest::default() };
    assert!(world.profiles("web").list_profiles(request).await.unwrap().into_inner().profiles.is_empty());
    let mut request =
        ListAccountsRequest { user_id: Some("user-1".to_owned()), ..ListAccountsRequest::default() };
    assert!(
        world.accounts("web").list_accounts(request.clone()).await.unwrap().into_inner().accounts.is_empty()
    );
    request.states = vec![State::Unlinked.into()];
    assert_eq!(world.accounts("web").list_accounts(request).await.unwrap().into_inner().accounts.len(), 1);

    let relinked = world.link("user-2", "full").await.unwrap();
    assert_eq!(relinked.outcome(), AuthorizationOutcome::Linked, "the old user has no claim to it");
    let relinked = relinked.account.unwrap();
    assert_eq!((relinked.account_id.as_str(), relinked.user_id.as_str()), (id.as_str(), "user-2"));
    failed(world.token(token(&id, "user-1")).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn of_many_who_unlink_at_once_all_get_the_same_answer() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let unlinks = (0..20).map(|_| {
        let mut client = world.accounts("web");
        let request = unlink(&id, "user-1");
        async move { client.unlink_account(request).await.unwrap().into_inner().account.unwrap() }
    });
    let accounts = futures_util::future::join_all(unlinks).await;
    assert!(accounts.iter().all(|account| *account == accounts[0] && account.state() == State::Unlinked));
    assert_eq!(world.look_up("select count(*) from events where kind = 'UNLINKED'").await, "1");
}
