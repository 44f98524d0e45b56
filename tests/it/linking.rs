//! The main job: from a URL to a linked account.

use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::{
    AuthorizationOutcome, FetchAccessTokenRequest, GetAccountRequest, GetProfileRequest, get_account_request,
    get_profile_request,
};
use threads_identity::simulator::Endpoint;

use crate::harness::World;

#[tokio::test]
async fn a_person_links_an_account_and_everything_about_it_can_be_read() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    assert!(created.state.len() <= 280, "the state has {} characters", created.state.len());
    let callback_url = world.consent(&created, "full");
    let completed = world.complete(&callback_url, "user-1").await.unwrap();

    assert_eq!(completed.outcome(), AuthorizationOutcome::Linked);
    assert_eq!(completed.authorization_id, created.authorization_id);
    assert!(!completed.user_created);
    let persona = world.controls.persona("full").unwrap();
    let account = completed.account.unwrap();
    assert_eq!(account.user_id, "user-1");
    assert_eq!(account.threads_user_id, persona.id);
    assert_eq!(account.state(), State::Active);
    assert_eq!(account.scopes, ["threads_basic"]);
    let profile = completed.profile.unwrap();
    assert_eq!(profile.id, persona.id);
    assert_eq!(profile.username.as_deref(), Some(persona.username.as_str()));

    let request = GetAccountRequest {
        account: Some(get_account_request::Account::ThreadsUserId(persona.id.clone())),
        user_id: Some("user-1".to_owned()),
    };
    let read = world.accounts("web").get_account(request).await.unwrap().into_inner().account.unwrap();
    assert_eq!(read, account);
    let request = GetProfileRequest {
        account: Some(get_profile_request::Account::AccountId(account.account_id.clone())),
        user_id: Some("user-1".to_owned()),
        max_age: None,
    };
    let read = world.profiles("web").get_profile(request).await.unwrap().into_inner().profile.unwrap();
    assert_eq!(read.profile.unwrap(), profile);
    let request = FetchAccessTokenRequest {
        account_id: account.account_id,
        user_id: "user-1".to_owned(),
        ..FetchAccessTokenRequest::default()
    };
    let fetched = world.tokens("web").fetch_access_token(request).await.unwrap().into_inner();
    assert_eq!(Some(fetched.access_token), world.controls.newest_token("full"));
    assert_eq!(fetched.threads_user_id, persona.id);

    for endpoint in [Endpoint::CodeExchange, Endpoint::LongLivedExchange, Endpoint::Me] {
        assert_eq!(world.controls.count(endpoint), 1, "{endpoint:?}");
    }
}
