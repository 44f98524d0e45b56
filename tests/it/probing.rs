//! Whoever probes from outside, or from another app, learns nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use uuid::Uuid;

use crate::harness::{World, failed};
use crate::raw::{self, framed};
use crate::shorthand::{account, profile, token};

impl World {
    /// Everything that reflection tells of.
    async fn reflected_methods(&self) -> BTreeSet<String> {
        let mut client = ServerReflectionClient::new(self.channel_of("web"));
        let mut ask = async |wish: MessageRequest| {
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(wish) };
            let mut answers =
                client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
            answers.next().await.unwrap().unwrap().message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(services) =
            ask(MessageRequest::ListServices(String::new())).await
        else {
            panic!("no list of services")
        };
        let mut methods = BTreeSet::new();
        for service in services.service {
            let wish = MessageRequest::FileContainingSymbol(service.name.clone());
            let MessageResponse::FileDescriptorResponse(files) = ask(wish).await else { panic!("no file") };
            for file in files.file_descriptor_proto {
                let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
                for described in &file.service {
                    let name = format!("{}.{}", file.package(), described.name());
                    methods
                        .extend(described.method.iter().map(|method| format!("/{name}/{}", method.name())));
                }
            }
        }
        methods
    }
}

#[tokio::test]
async fn every_method_that_reflection_knows_is_closed_but_health() {
    let world = World::start().await;
    let methods = world.reflected_methods().await;
    for expected in raw::methods() {
        assert!(methods.contains(&expected), "{expected}");
    }
    let mut open = Vec::new();
    for method in &methods {
        if method.starts_with("/grpc.health.v1.") {
            continue;
        }
        let answer = raw::call(world.grpc, method, &[], framed(b"")).await;
        match answer.result() {
            Err(status) if status.code() == Code::Unauthenticated => {
                failed::<()>(Err(status), Code::Unauthenticated, "CALLER_UNKNOWN");
            }
            _ => open.push(method.clone()),
        }
    }
    assert_eq!(open, Vec::<String>::new());
    let mut health = HealthClient::new(world.connect().await);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert!(methods.iter().any(|method| method.starts_with("/grpc.reflection.v1")), "{methods:?}");
}

/// What a caller can tell answers apart by.
fn seen(status: &Status, id: &str) -> (i32, String, Vec<u8>) {
    let details = String::from_utf8_lossy(status.details()).replace(id, "ID").into_bytes();
    (i32::from(status.code()), status.message().replace(id, "ID"), details)
}

#[tokio::test]
async fn what_is_anothers_and_what_is_missing_cannot_be_told_apart() {
    const PROBES: usize = 10_000;
    let world = World::start().await;
    let foreign = world.fill("second", "their-user", 500).await;
    let own = world.fill("default", "another-user", 500).await;
    let (mut answers, mut times) = (BTreeSet::new(), [Vec::new(), Vec::new(), Vec::new()]);
    let (mut accounts, mut profiles, mut tokens) =
        (world.accounts("web"), world.profiles("web"), world.tokens("web"));
    for n in 0..PROBES {
        let kind = n % 3;
        let id = match kind {
            0 => Uuid::from_u128(0x8000_8000_0000_0000_0000 + n as u128).to_string(),
            1 => foreign[n / 3 % foreign.len()].clone(),
            _ => own[n / 3 % own.len()].clone(),
        };
        let begun = Instant::now();
        let (method, status) = match n / 3 % 3 {
            0 => ("account", accounts.get_account(account(&id, Some("user-1"))).await.unwrap_err()),
            1 => {
                let mut request = profile(&id, None);
                request.user_id = Some("user-1".to_owned());
                ("profile", profiles.get_profile(request).await.unwrap_err())
            }
            _ => ("token", tokens.fetch_access_token(token(&id, "user-1")).await.unwrap_err()),
        };
        times[kind].push(begun.elapsed());
        answers.insert((method, seen(&status, &id)));
    }
    // One answer of each method, whatever was asked for.
    assert_eq!(answers.len(), 3, "{answers:#?}");
    for (_, (code, _, _)) in &answers {
        assert_eq!(*code, i32::from(Code::NotFound));
    }
    let [missing, foreign, own] = times.map(median);
    println!("medians: missing {missing:?}, another app's {foreign:?}, another user's {own:?}");
    for time in [foreign, own] {
        let ratio = time.as_secs_f64() / missing.as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
