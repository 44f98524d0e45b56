//! What is sealed opens in its place, under its key, and nowhere else.

use threads_identity::sealing::Keyring;
use threads_identity::serve::ServeError;
use threads_identity::simulator::Endpoint;
use threads_identity::store::deployment::Unfit;
use tonic::Code;

use crate::harness::{Wishes, World, failed, metadata};
use crate::shorthand::{account, fresh_profile, token};

#[tokio::test]
async fn a_token_does_not_open_in_another_row() {
    let world = World::start().await;
    let own = world.linked("user-1", "full").await.account_id;
    let other = world.linked("user-2", "home").await.account_id;
    world
        .meddle(format!(
            "update accounts set token = (select token from accounts where account_id = '{other}')
             where account_id = '{own}'"
        ))
        .await;
    let details = failed(world.token(token(&own, "user-1")).await, Code::DataLoss, "SEALED_DATA_INVALID");
    assert_eq!(metadata(&details)["account_id"], own);
    let details = failed(world.profile(fresh_profile(&own, 0)).await, Code::DataLoss, "SEALED_DATA_INVALID");
    assert_eq!(metadata(&details)["account_id"], own);
    assert_eq!(world.controls.count(Endpoint::Me), 2, "nobody else's token was used");
    assert!(world.token(token(&other, "user-2")).await.is_ok());
    assert!(world.account(&own).await.is_ok(), "what is not sealed can still be read");
}

#[tokio::test]
async fn no_changed_byte_of_a_token_opens() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let length: usize = world.look_up("select length(token) from accounts").await.parse().unwrap();
    for at in [0, 5, 20, 21, length / 2, length - 16, length - 1] {
        let flip = format!("update accounts set token = set_byte(token, {at}, get_byte(token, {at}) # 1)");
        world.meddle(&flip).await;
        let refused = world.token(token(&id, "user-1")).await;
        let details = failed(refused, Code::DataLoss, "SEALED_DATA_INVALID");
        assert_eq!(metadata(&details)["account_id"], id, "byte {at}");
        world.meddle(&flip).await;
        assert!(world.token(token(&id, "user-1")).await.is_ok());
    }
    for token_is in
        ["''", "'\\x01'", "substring(token for 37)", "token || '\\x00'", "substring(token from 2)"]
    {
        world.meddle(format!("begin; update accounts set token = {token_is}; commit")).await;
        failed(world.token(token(&id, "user-1")).await, Code::DataLoss, "SEALED_DATA_INVALID");
    }
}

/// The same id key, and other sealing keys.
pub fn rekeyed(keyring: &str) -> String {
    let of = |toml: &str, key: &str| toml.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let old = Keyring::parse(keyring).unwrap().to_toml().to_string();
    let new = Keyring::generate("2026-02-01T00:00:00Z").to_toml().to_string();
    new.replace(&of(&new, "id_key = "), &of(&old, "id_key = "))
}

#[tokio::test]
async fn a_key_that_a_replica_lacks_is_said_to_be_missing() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let keyring = Some(rekeyed(&world.keyring));
    let replica = world.replica_with(Wishes { keyring, ..Wishes::default() }).await;
    assert_eq!(replica.account(&id).await.unwrap().account_id, id);
    failed(replica.token(token(&id, "user-1")).await, Code::Unavailable, "KEY_UNAVAILABLE");
    failed(replica.profile(fresh_profile(&id, 0)).await, Code::Unavailable, "KEY_UNAVAILABLE");
    assert!(world.token(token(&id, "user-1")).await.is_ok());

    // The other way round too, and the same account all the same.
    let relinked = replica.linked("user-1", "full").await;
    assert_eq!(relinked.account_id, id);
    failed(world.token(token(&id, "user-1")).await, Code::Unavailable, "KEY_UNAVAILABLE");
    assert!(replica.token(token(&id, "user-1")).await.is_ok());
}

#[tokio::test]
async fn a_keyring_that_is_not_the_databases_is_refused() {
    let mut world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let keyring = Some(Keyring::generate("2026-02-01T00:00:00Z").to_toml().to_string());
    let mut replica = world.replica_with(Wishes { keyring, ..Wishes::default() }).await;
    let ended =
        tokio::time::timeout(std::time::Duration::from_secs(60), replica.ended()).await.expect("it ends");
    assert!(matches!(ended, Err(ServeError::Unfit(Unfit::OtherIdKey))), "{ended:?}");
    let read = world.accounts("web").get_account(account(&id, None)).await;
    assert!(read.is_ok(), "the one that belongs here goes on");
    world.stop().await.unwrap();
}
