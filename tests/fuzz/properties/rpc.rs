//! Every request message, from bytes to the door of the flows.

use std::path::Path;
use std::sync::Arc;

use http::Request;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
};
use threads_identity::clock::SystemClock;
use threads_identity::config::Config;
use threads_identity::grpc::fuzzing::Edge;
use threads_identity::proto::DESCRIPTORS;
use threads_identity::sealing::Keyring;
use threads_identity::service::Service;
use tokio::runtime::Builder;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const PACKAGE: &str = "threads.identity.v1";
/// Enough for everything but the database, which is not there.
const TIMEOUT: &str = "6m";

/// Good requests as JSON, by method: a method that is not here is called with bytes
/// alone.
const REQUESTS: [(&str, &str); 16] = [
    ("CreateAuthorizationUrl", r#"{"link":{"userId":"user-1"}}"#),
    (
        "CreateAuthorizationUrl",
        r#"{"signIn":{"sessionBinding":"QUFBQUFBQUFBQUFBQUFBQQ=="},"scopes":["threads_basic"]}"#,
    ),
    ("CompleteAuthorization", r#"{"callbackUrl":"/callback?code=AQ&state=s","userId":"user-1"}"#),
    ("CompleteAuthorization", r#"{"parameters":{"state":"s","code":"AQ"},"userId":"user-1"}"#),
    ("CompleteAuthorization", r#"{"ticket":"t","userId":"user-1"}"#),
    ("GetAuthorization", r#"{"authorizationId":"0197f0a2-7c3e-7d1a-b0c4-5e6f708192a3"}"#),
    ("GetAccount", r#"{"accountId":"5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90","userId":"user-1"}"#),
    ("ListAccounts", r#"{"userId":"user-1","pageSize":5,"states":[1]}"#),
    ("UnlinkAccount", r#"{"accountId":"5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90","userId":"user-1"}"#),
    ("EraseUser", r#"{"userId":"user-1"}"#),
    ("WatchAccounts", r#"{"userId":"user-1","cursor":"c"}"#),
    ("ListAccountChanges", r#"{"userId":"user-1","pageSize":5}"#),
    ("GetProfile", r#"{"threadsUserId":"17841405793187219","maxAge":"5s"}"#),
    ("BatchGetProfiles", r#"{"accountIds":["5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90"]}"#),
    (
        "FetchAccessToken",
        r#"{"accountId":"5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90","userId":"user-1","minimumLifetime":"5s"}"#,
    ),
    (
        "ReportInvalidToken",
        r#"{"accountId":"5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90","userId":"user-1","tokenSha256":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}"#,
    ),
];

/// What matters to the format: keys and lengths of protobuf, and values.
pub const PIECES: [&str; 20] = [
    "\n",
    "\u{12}",
    "\u{1a}",
    "\"",
    "*",
    "2",
    "\u{8}",
    "\u{10}",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "\n\u{0}",
    "\u{12}\u{6}user-2",
    "\u{12}\u{1}\u{0}",
    "\u{20}\u{63}",
    "A",
    "B",
    "user-1",
    "?code=A&state=B",
    "\u{e4}",
];

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let files = pool.files().filter(|file| file.package_name() == PACKAGE);
    let services = files.flat_map(|file| file.services().collect::<Vec<_>>());
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// A letter for the method, and the bytes of a good request.
pub fn examples() -> Vec<String> {
    let methods = methods();
    let example = |(name, json): &(&str, &str)| {
        let at = methods.iter().position(|method| method.name() == *name).unwrap();
        let mut json = serde_json::Deserializer::from_str(json);
        let message = DynamicMessage::deserialize(methods[at].input(), &mut json).unwrap();
        let mut bytes = vec![b'A' + u8::try_from(at).unwrap()];
        bytes.extend(message.encode_to_vec());
        String::from_utf8(bytes).unwrap()
    };
    REQUESTS.iter().map(example).collect()
}

/// The property: whether the input was refused for its fields, or not for itself.
pub fn property() -> impl Fn(&[u8]) -> bool {
    let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
    let environment = [
        ("THREADS_IDENTITY__DATABASE__URL", "postgres://nobody@127.0.0.1:1/none"),
        ("THREADS_IDENTITY__KEYS__VALUE", keyring.as_str()),
        ("THREADS_CLIENT_ID", "1"),
        ("THREADS_CLIENT_SECRET", "s"),
        ("THREADS_REDIRECT_URIS", "https://id.example.com/callback"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse("", Path::new(""), environment).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(async { Arc::new(Service::new(&config, Arc::new(SystemClock)).unwrap()) });
    let edge = Edge::new(&config, &service).unwrap();
    let methods = methods();
    move |input| {
        let Some((letter, message)) = input.split_first() else { return false };
        let method = &methods[usize::from(letter.wrapping_sub(b'A')) % methods.len()];
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", TIMEOUT)
            .body(Body::new(axum::body::Body::from(body)))
            .unwrap();
        let answer = runtime.block_on(edge.call(request)).unwrap();
        let status = Status::from_header_map(answer.headers());
        let status = status.filter(|status| status.code() != Code::Ok);
        looked_at(&method.input(), message, status.as_ref())
    }
}

/// Compares an answer with what an independent reading of the message says.
fn looked_at(form: &MessageDescriptor, bytes: &[u8], status: Option<&Status>) -> bool {
    let reason = status.map(|status| {
        assert!(status.details().len() < 4096);
        status.get_details_error_info().expect("a reason").reason
    });
    let reason = reason.as_deref();
    let Ok(message) = DynamicMessage::decode(form.clone(), bytes) else {
        assert!(matches!(reason, Some("REQUEST_MALFORMED" | "REQUEST_TOO_LARGE")), "{reason:?}");
        return false;
    };
    let code = status.map(Status::code);
    if let Some(bad) = bad_value(&message) {
        assert_eq!(code, Some(Code::InvalidArgument), "{bad}: {status:?}");
    }
    match reason {
        None => {}
        Some("FIELD_INVALID") => {
            let details = status.unwrap().get_error_details();
            let violations = &details.bad_request().expect("a BadRequest").field_violations;
            assert!((1..=20).contains(&violations.len()));
            for violation in violations {
                assert!(names_a_field(form, &violation.field), "{}: {}", form.full_name(), violation.field);
                assert!(!violation.description.is_empty());
            }
        }
        // The database is not there, or not there in time; a state or a ticket is not one of ours.
        Some("STORAGE_UNAVAILABLE" | "DEADLINE_EXCEEDED" | "OVERLOADED" | "STATE_INVALID") => {}
        Some(other) => panic!("{other}: {status:?}"),
    }
    reason.is_none_or(|reason| reason != "FIELD_INVALID")
}

/// A value that no request may hold, wherever it stands: a NUL in a text, an enum's
/// number that does not exist, a negative count or duration.
fn bad_value(message: &DynamicMessage) -> Option<String> {
    let is_duration = message.descriptor().full_name() == "google.protobuf.Duration";
    message.fields().find_map(|(field, value)| {
        let values: Vec<&Value> = value.as_list().map_or_else(|| vec![value], |list| list.iter().collect());
        values.into_iter().find_map(|value| match (value, field.kind()) {
            (Value::String(text), _) if text.contains('\0') => Some(format!("{} holds a NUL", field.name())),
            (Value::EnumNumber(number), Kind::Enum(known)) if known.get_value(*number).is_none() => {
                Some(format!("{} is {number}", field.name()))
            }
            (Value::I32(number), _) if *number < 0 => Some(format!("{} is {number}", field.name())),
            (Value::I64(number), _) if is_duration && *number < 0 => Some(format!("{number} seconds")),
            (Value::Message(inner), _) => bad_value(inner),
            _ => None,
        })
    })
}

/// Whether a path such as `link.user_id` or `account_ids[3]` leads to a field or a
/// oneof of the message.
fn names_a_field(form: &MessageDescriptor, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, index) = first.split_once('[').map_or((first, None), |(name, index)| (name, Some(index)));
    if rest.is_none() && index.is_none() && form.oneofs().any(|oneof| oneof.name() == name) {
        return true;
    }
    let Some(field) = form.get_field_by_name(name) else { return false };
    let index_fits = index.is_none_or(|index| {
        field.is_list() && index.strip_suffix(']').is_some_and(|index| index.parse::<usize>().is_ok())
    });
    index_fits
        && match (rest, field.kind()) {
            (None, _) => true,
            (Some(rest), Kind::Message(inner)) => names_a_field(&inner, rest),
            (Some(_), _) => false,
        }
}
