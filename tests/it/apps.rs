//! Two apps in one deployment: nothing is visible across.

use threads_identity::proto::v1::create_authorization_url_request::Flow;
use threads_identity::proto::v1::{
    Account, BatchGetProfilesRequest, CreateAuthorizationUrlRequest, GetAuthorizationRequest,
    ListAccountsRequest, ListProfilesRequest,
};
use tonic::Code;

use crate::harness::{World, completion, failed, link};
use crate::shorthand::{
    NOBODY, STRANGER, account, account_of_person, fresh_profile, profile, same_refusal, token, unlink,
};

/// Links in the app of this caller; the account, and the authorization's id.
pub async fn link_as(world: &World, caller: &str, user_id: &str, persona: &str) -> (Account, String) {
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link(user_id))),
        ..CreateAuthorizationUrlRequest::default()
    };
    let created = world.authorizations(caller).create_authorization_url(request).await.unwrap().into_inner();
    let callback_url = world.consent(&created, persona);
    let completion = completion(&callback_url, user_id);
    let completed =
        world.authorizations(caller).complete_authorization(completion).await.unwrap().into_inner();
    (completed.account.unwrap(), completed.authorization_id)
}

#[tokio::test]
async fn one_person_in_two_apps_is_two_accounts() {
    let world = World::start().await;
    let (first, _) = link_as(&world, "web", "user-1", "full").await;
    let (second, _) = link_as(&world, "second", "user-1", "full").await;
    assert_eq!(first.threads_user_id, second.threads_user_id);
    assert_ne!(first.account_id, second.account_id);
    assert_eq!(world.look_up("select count(*) from accounts").await, "2");
    for (caller, own) in [("web", &first), ("second", &second)] {
        let request = account_of_person(&first.threads_user_id, None);
        let read = world.accounts(caller).get_account(request).await.unwrap().into_inner().account.unwrap();
        assert_eq!(read.account_id, own.account_id);
        let request = token(&own.account_id, "user-1");
        let fetched = world.tokens(caller).fetch_access_token(request).await.unwrap().into_inner();
        assert!(world.controls.issued_tokens("full").contains(&fetched.access_token));
    }
    world.accounts("web").unlink_account(unlink(&first.account_id, "user-1")).await.unwrap();
    let read = world.accounts("second").get_account(account(&second.account_id, None)).await;
    assert_eq!(read.unwrap().into_inner().account.unwrap().state, second.state);
}

#[tokio::test]
async fn an_id_of_the_other_app_cannot_be_told_from_none() {
    let world = World::start().await;
    let (own, own_authorization) = link_as(&world, "web", "user-1", "full").await;
    let (theirs, their_authorization) = link_as(&world, "second", "user-1", "home").await;
    let sides = [("web", theirs.clone(), their_authorization), ("second", own.clone(), own_authorization)];
    for (caller, other, authorization_id) in sides {
        let id = other.account_id.as_str();
        let (mut accounts, mut profiles) = (world.accounts(caller), world.profiles(caller));
        for user_id in [None, Some("user-1")] {
            let refused = accounts.get_account(account(id, user_id)).await;
            same_refusal(refused, id, accounts.get_account(account(NOBODY, user_id)).await, NOBODY);
            let person = other.threads_user_id.as_str();
            let refused = accounts.get_account(account_of_person(person, user_id)).await;
            same_refusal(
                refused,
                person,
                accounts.get_account(account_of_person(STRANGER, user_id)).await,
                STRANGER,
            );
            let refused = profiles.get_profile(profile(id, user_id)).await;
            same_refusal(refused, id, profiles.get_profile(profile(NOBODY, user_id)).await, NOBODY);
        }
        let refused = profiles.get_profile(fresh_profile(id, 0)).await;
        same_refusal(refused, id, profiles.get_profile(fresh_profile(NOBODY, 0)).await, NOBODY);
        let refused = accounts.unlink_account(unlink(id, "user-1")).await;
        same_refusal(refused, id, accounts.unlink_account(unlink(NOBODY, "user-1")).await, NOBODY);
        let mut tokens = world.tokens(caller);
        let refused = tokens.fetch_access_token(token(id, "user-1")).await;
        same_refusal(refused, id, tokens.fetch_access_token(token(NOBODY, "user-1")).await, NOBODY);

        let request = BatchGetProfilesRequest { account_ids: vec![id.to_owned()], user_id: None };
        let batch = profiles.batch_get_profiles(request).await.unwrap().into_inner();
        assert_eq!((batch.profiles.len(), batch.missing_account_ids.as_slice()), (0, &[id.to_owned()][..]));
        for user_id in [None, Some("user-1".to_owned())] {
            let request = ListAccountsRequest { user_id, states: vec![1, 2, 3], ..Default::default() };
            let listed = accounts.list_accounts(request).await.unwrap().into_inner().accounts;
            assert!(listed.len() == 1 && listed[0].account_id != id);
        }
        let request = ListProfilesRequest { user_id: "user-1".to_owned(), ..Default::default() };
        let listed = profiles.list_profiles(request).await.unwrap().into_inner().profiles;
        assert!(listed.len() == 1 && listed[0].account_id != id);

        let get = async |authorization_id: &str| {
            let request = GetAuthorizationRequest { authorization_id: authorization_id.to_owned() };
            world.authorizations(caller).get_authorization(request).await
        };
        same_refusal(get(&authorization_id).await, &authorization_id, get(NOBODY).await, NOBODY);
    }
    assert_eq!(world.account(&own.account_id).await.unwrap(), own, "nothing has changed");
    let read = world.accounts("second").get_account(account(&theirs.account_id, None)).await.unwrap();
    assert_eq!(read.into_inner().account.unwrap(), theirs);
    assert_eq!(world.look_up("select count(*) from audit").await, "0");
}

#[tokio::test]
async fn a_state_of_one_app_completes_nothing_in_the_other() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let refused =
        world.authorizations("second").complete_authorization(completion(&callback_url, "user-1")).await;
    failed(refused, Code::InvalidArgument, "STATE_INVALID");
    assert!(world.complete(&callback_url, "user-1").await.is_ok(), "it is still good where it belongs");
}
