//! Who may call, and what.

use threads_identity::config::Role;
use threads_identity::grpc::new_caller_key;
use threads_identity::proto::v1::{GetAccountRequest, ListAccountsRequest};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Wishes, World, failed, metadata, with_key};
use crate::raw::{self, framed, methods};
use crate::shorthand::{NOBODY, account};

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

#[tokio::test]
async fn whoever_is_not_known_gets_nowhere() {
    let world = World::start().await;
    let key = world.key("web");
    let (stranger, _) = new_caller_key();
    let good = format!("Bearer {key}");
    let values = [
        String::new(),
        key.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {stranger}"),
        format!("Bearer  {key}"),
        format!("Bearer {key}x"),
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {}", key.to_lowercase()),
        format!("Basic {key}"),
        format!("Bearer,{key}"),
        format!("Bearer {key}, Bearer {key}"),
    ];
    let mut paths = methods();
    paths.extend(
        [REFLECTION, REFLECTION_ALPHA, "/nobody.Knows/This", "/", "/threads.identity.v1.AccountService/X"]
            .map(str::to_owned),
    );
    for path in paths {
        let mut attempts: Vec<Vec<(&str, &str)>> = vec![
            vec![],
            vec![("authorization", &good), ("authorization", &good)],
            vec![("authorization", &good), ("authorization", "")],
            vec![("x-authorization", &good)],
        ];
        attempts.extend(values.iter().map(|value| vec![("authorization", value.as_str())]));
        for headers in attempts {
            let answer = raw::call(world.grpc, &path, &headers, framed(b"")).await;
            failed(answer.result(), Code::Unauthenticated, "CALLER_UNKNOWN");
            assert!(answer.body.is_empty());
            assert!(!answer.header("grpc-message").contains("tidkey_"));
        }
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let headers = [("authorization", &*format!("{scheme} {key}"))];
        let answer = raw::call(world.grpc, &methods()[0], &headers, framed(b"")).await;
        failed(answer.result(), Code::InvalidArgument, "FIELD_INVALID");
    }
}

#[tokio::test]
async fn health_is_open_to_everybody() {
    let world = World::start().await;
    let mut health = HealthClient::new(world.connect().await);
    for path in methods() {
        let service = path[1..].split('/').next().unwrap().to_owned();
        let request = HealthCheckRequest { service };
        assert!(health.check(request).await.is_ok(), "{path}");
    }
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

/// The role that a method needs for a request with nothing in it.
fn role_of(method: &str) -> Role {
    match method.rsplit('/').next().unwrap() {
        "CreateAuthorizationUrl" | "CompleteAuthorization" | "GetAuthorization" | "UnlinkAccount" => {
            Role::Link
        }
        "GetAccount" | "GetProfile" | "BatchGetProfiles" | "ListProfiles" => Role::Read,
        "ListAccounts" | "WatchAccounts" | "ListAccountChanges" => Role::Sync,
        "EraseUser" => Role::Erase,
        "FetchAccessToken" | "ReportInvalidToken" => Role::Token,
        other => panic!("which role does {other} need?"),
    }
}

#[tokio::test]
async fn each_role_opens_its_own_methods_and_no_other() {
    let world = World::start().await;
    for method in methods() {
        for role in Role::ALL {
            let caller = format!("only-{}", role.name());
            let result = world.raw(&caller, &method, &[], framed(b"")).await.result();
            if role == role_of(&method) {
                let Err(status) = result else { continue };
                failed::<()>(Err(status), Code::InvalidArgument, "FIELD_INVALID");
            } else {
                let details = failed(result, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
                assert_eq!(metadata(&details)["role"], role_of(&method).name(), "{method} as {caller}");
            }
        }
    }
}

#[tokio::test]
async fn a_role_is_looked_at_before_the_request() {
    let world = World::start().await;
    let request = account("not an id", Some(""));
    let refused = world.accounts("only-token").get_account(request).await;
    failed(refused, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
}

#[tokio::test]
async fn without_callers_whoever_is_on_this_machine_may_do_everything() {
    let world = World::with(Wishes { callers: false, ..Wishes::default() }).await;
    for headers in [vec![], vec![("authorization", "Bearer whatever")]] {
        for method in methods() {
            let result = raw::call(world.grpc, &method, &headers, framed(b"")).await.result();
            if role_of(&method) != Role::Sync {
                failed(result, Code::InvalidArgument, "FIELD_INVALID");
            }
        }
    }
    let channel = world.connect().await;
    let mut accounts =
        threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
    failed(accounts.get_account(account(NOBODY, None)).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert!(accounts.list_accounts(ListAccountsRequest::default()).await.is_ok());
}

#[tokio::test]
async fn both_keys_of_a_caller_open_and_each_names_the_same_caller() {
    let (first, first_hash) = new_caller_key();
    let (second, second_hash) = new_caller_key();
    let config = format!(
        "[[callers]]\nname = \"rotating\"\napp = \"default\"\nroles = [\"sync\", \"read\"]\n\
         key_sha256 = [\"{first_hash}\", \"{second_hash}\"]\n"
    );
    let world = World::with(Wishes { config: config.leak(), ..Wishes::default() }).await;
    world.fill("default", "many", 3).await;
    let list = async |key: &str, page_token: String| {
        let channel = with_key(world.connect().await, key);
        let mut client =
            threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
        let request = ListAccountsRequest { page_size: 2, page_token, ..ListAccountsRequest::default() };
        client.list_accounts(request).await.unwrap().into_inner()
    };
    let page = list(&first, String::new()).await;
    assert_eq!(page.accounts.len(), 2);
    assert_eq!(
        list(&second, page.next_page_token).await.accounts.len(),
        1,
        "a list goes on with the other key"
    );
}

#[tokio::test]
async fn many_callers_on_one_connection_are_told_apart() {
    let world = World::start().await;
    let channel = world.connect().await;
    let calls = (0..60).map(|n| {
        let caller = ["web", "second", "only-token"][n % 3];
        let channel = with_key(channel.clone(), world.key(caller));
        let mut client =
            threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
        async move { (caller, client.get_account(GetAccountRequest::default()).await) }
    });
    for (caller, result) in futures_util::future::join_all(calls).await {
        let code = if caller == "only-token" { Code::PermissionDenied } else { Code::InvalidArgument };
        assert_eq!(result.unwrap_err().code(), code, "{caller}");
    }
}
