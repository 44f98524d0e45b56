//! What `proto/` marks as required is required: every request is sent by its
//! descriptor with each such field emptied.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _};
use serde_json::{Value, json};
use threads_identity::proto::DESCRIPTORS;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{World, bad_fields};

const REQUIRED: i32 = 2;

/// A good request of each form, by service and method.
pub fn requests() -> Vec<(&'static str, Value)> {
    const ACCOUNT: &str = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90";
    const AUTHORIZATION: &str = "0197f0a2-7c3e-7d1a-b0c4-5e6f708192a3";
    let account = json!({ "accountId": ACCOUNT, "userId": "user-1" });
    vec![
        ("AuthorizationService/CreateAuthorizationUrl", json!({ "link": { "userId": "user-1" } })),
        (
            "AuthorizationService/CreateAuthorizationUrl",
            json!({ "signIn": { "sessionBinding": "AAECAwQFBgcICQoLDA0ODw==" } }),
        ),
        (
            "AuthorizationService/CompleteAuthorization",
            json!({ "callbackUrl": "/callback?code=AQ&state=s", "userId": "user-1" }),
        ),
        (
            "AuthorizationService/CompleteAuthorization",
            json!({ "parameters": { "state": "s", "code": "AQ" }, "userId": "user-1" }),
        ),
        ("AuthorizationService/GetAuthorization", json!({ "authorizationId": AUTHORIZATION })),
        ("AccountService/GetAccount", account.clone()),
        ("AccountService/ListAccounts", json!({ "userId": "user-1" })),
        ("AccountService/UnlinkAccount", account.clone()),
        ("AccountService/EraseUser", json!({ "userId": "user-1" })),
        ("AccountService/WatchAccounts", json!({ "userId": "user-1" })),
        ("AccountService/ListAccountChanges", json!({ "userId": "user-1" })),
        ("ProfileService/GetProfile", json!({ "threadsUserId": "17841405793187219" })),
        ("ProfileService/BatchGetProfiles", json!({ "accountIds": [ACCOUNT] })),
        ("ProfileService/ListProfiles", json!({ "userId": "user-1" })),
        ("AccessTokenService/FetchAccessToken", account),
        (
            "AccessTokenService/ReportInvalidToken",
            json!({
                "accountId": ACCOUNT,
                "userId": "user-1",
                "tokenSha256": "AAECAwQFBgcICQoLDA0ODwABAgMEBQYHCAkKCwwNDg8="
            }),
        ),
    ]
}

/// Messages as they are: bytes.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(message.to_vec()))
    }
}

async fn send(world: &World, method: &str, message: &DynamicMessage) -> Result<(), Status> {
    send_as(world, "web", method, Request::new(message.encode_to_vec())).await.map(drop)
}

/// Sends a message as a caller; the bytes of the answer, of a stream the first.
pub async fn send_as(
    world: &World,
    caller: &str,
    method: &str,
    request: Request<Vec<u8>>,
) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(world.channel_of(caller));
    client.ready().await.unwrap();
    let path = format!("/threads.identity.v1.{method}").parse().unwrap();
    let answer = client.server_streaming(request, path, Bytes).await?.into_inner().message().await?;
    Ok(answer.unwrap_or_default())
}

/// The forms of a method's request and answer.
pub fn forms(pool: &DescriptorPool, method: &str) -> (MessageDescriptor, MessageDescriptor) {
    let (service, name) = method.split_once('/').unwrap();
    let service = pool.get_service_by_name(&format!("threads.identity.v1.{service}")).unwrap();
    let method = service.methods().find(|method| method.name() == name).unwrap();
    (method.input(), method.output())
}

/// What of a request must not be missing.
#[derive(Clone)]
enum Part {
    Field(Vec<u32>, u32),
    OneOf(Vec<u32>, String),
}

/// A required part: its name for counting, the names by which an answer may
/// call it, and where it is.
struct Required {
    full_name: String,
    names: Vec<String>,
    part: Part,
}

/// The required parts of a message that is set as it is in `message`, with those
/// of the messages inside.
fn required(pool: &DescriptorPool, message: &DynamicMessage, path: &[u32], prefix: &str) -> Vec<Required> {
    let descriptor = message.descriptor();
    let mut found = Vec::new();
    for field in descriptor.fields() {
        let name = format!("{prefix}{}", field.name());
        if is_required(pool, &field) {
            let part = Part::Field(path.to_vec(), field.number());
            found.push(Required { full_name: field.full_name().to_owned(), names: vec![name.clone()], part });
        }
        if let (true, Some(inner)) = (message.has_field(&field), message.get_field(&field).as_message()) {
            let path = [path, &[field.number()]].concat();
            found.extend(required(pool, inner, &path, &format!("{name}.")));
        }
    }
    for oneof in required_oneofs(&descriptor) {
        let members = oneof.fields().map(|field| field.name().to_owned());
        let names = std::iter::once(oneof.name().to_owned()).chain(members);
        found.push(Required {
            full_name: oneof.full_name().to_owned(),
            names: names.map(|name| format!("{prefix}{name}")).collect(),
            part: Part::OneOf(path.to_vec(), oneof.name().to_owned()),
        });
    }
    found
}

fn is_required(pool: &DescriptorPool, field: &prost_reflect::FieldDescriptor) -> bool {
    let extension = pool.get_extension_by_name("google.api.field_behavior").unwrap();
    let options = field.options();
    let behaviours = options.get_extension(&extension);
    behaviours.as_list().unwrap().iter().any(|value| value.as_enum_number() == Some(REQUIRED))
}

/// The oneofs whose comment begins with "Required."
fn required_oneofs(message: &MessageDescriptor) -> Vec<prost_reflect::OneofDescriptor> {
    let file = message.parent_file();
    let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let comment = |path: &[i32]| {
        info.location.iter().find(|location| location.path == path).and_then(|l| l.leading_comments.clone())
    };
    message
        .oneofs()
        .filter(|oneof| comment(oneof.path()).unwrap_or_default().starts_with(" Required."))
        .collect()
}

fn emptied(message: &DynamicMessage, part: &Part) -> DynamicMessage {
    fn at<'a>(message: &'a mut DynamicMessage, path: &[u32]) -> &'a mut DynamicMessage {
        let [first, rest @ ..] = path else { return message };
        at(message.get_field_by_number_mut(*first).unwrap().as_message_mut().unwrap(), rest)
    }
    let mut message = message.clone();
    match part {
        Part::Field(path, number) => at(&mut message, path).clear_field_by_number(*number),
        Part::OneOf(path, name) => {
            let message = at(&mut message, path);
            let oneof = message.descriptor().oneofs().find(|oneof| oneof.name() == name).unwrap();
            oneof.fields().for_each(|field| message.clear_field(&field));
        }
    }
    message
}

/// Every required part that there is, in requests and in the messages inside.
fn all_required(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let messages = pool.all_messages().filter(|message| message.package_name() == "threads.identity.v1");
    for message in messages.filter(|message| message.full_name().contains("Request")) {
        let fields = message.fields().filter(|field| is_required(pool, field));
        all.extend(fields.map(|field| field.full_name().to_owned()));
        all.extend(required_oneofs(&message).iter().map(|oneof| oneof.full_name().to_owned()));
    }
    all
}

#[tokio::test]
async fn a_request_without_a_required_field_is_refused_by_its_name() {
    let world = World::start().await;
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let mut tried = BTreeSet::new();
    let mut called = BTreeSet::new();
    for (method, json) in requests() {
        let good = DynamicMessage::deserialize(forms(&pool, method).0, json).unwrap();
        // Good, but of accounts that are not there.
        if let Err(status) = send(&world, method, &good).await {
            let reason = status.get_details_error_info().unwrap().reason;
            assert_ne!(reason, "FIELD_INVALID", "{method}: {status:?}");
            assert!(matches!(status.code(), Code::NotFound | Code::InvalidArgument), "{method}: {status:?}");
        }
        called.insert(method);
        for Required { full_name, names, part } in required(&pool, &good, &[], "") {
            let bad = bad_fields(send(&world, method, &emptied(&good, &part)).await);
            assert!(bad.len() == 1 && names.contains(&bad[0]), "{method} without {full_name}: {bad:?}");
            tried.insert(full_name);
        }
        // Emptied of everything, it names all that is required at the top.
        let nothing = DynamicMessage::new(good.descriptor());
        let at_top = required(&pool, &nothing, &[], "");
        if !at_top.is_empty() {
            let bad = bad_fields(send(&world, method, &nothing).await);
            for Required { full_name, names, .. } in at_top {
                assert!(
                    bad.iter().any(|field| names.contains(field)),
                    "{method}: {full_name} is not in {bad:?}"
                );
            }
        }
    }
    assert_eq!(tried, all_required(&pool), "every required field has been left out once");
    let services = pool.services().filter(|service| service.package_name() == "threads.identity.v1");
    let methods: usize = services.map(|service| service.methods().count()).sum();
    assert_eq!(called.len(), methods, "every method has been called");
}
