//! The promises of `proto/` that can be read off its descriptors: names,
//! comments, behaviours, and one documented reason for each error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, Value,
};
use threads_identity::grpc;
use threads_identity::proto::v1::{self, ErrorReason};
use threads_identity::proto::{DESCRIPTORS, internal};

const PACKAGE: &str = "threads.identity.v1";
/// The numbers of `google.api.field_behavior`.
const OPTIONAL: i32 = 1;
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
/// The reasons that any call may end with, so that no RPC names them.
const ANYWHERE: [&str; 10] = [
    "REQUEST_MALFORMED",
    "REQUEST_TOO_LARGE",
    "METHOD_UNKNOWN",
    "CALLER_UNKNOWN",
    "CALLER_NOT_ALLOWED",
    "CALLER_RATE_LIMITED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "OVERLOADED",
    "SHUTTING_DOWN",
];

/// The public package, with its comments.
struct Api {
    pool: DescriptorPool,
    comments: BTreeMap<(String, Vec<i32>), String>,
}

impl Api {
    fn read() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let mut comments = BTreeMap::new();
        for file in pool.files() {
            let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
            for location in info.location {
                let text = location.leading_comments.unwrap_or_default();
                comments.insert((file.name().to_owned(), location.path), text);
            }
        }
        Self { pool, comments }
    }

    fn files(&self) -> impl Iterator<Item = FileDescriptor> + '_ {
        self.pool.files().filter(|file| file.package_name() == PACKAGE)
    }

    fn methods(&self) -> Vec<MethodDescriptor> {
        self.files()
            .flat_map(|file| file.services().collect::<Vec<_>>())
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .collect()
    }

    fn messages(&self) -> Vec<MessageDescriptor> {
        self.pool.all_messages().filter(|message| message.package_name() == PACKAGE).collect()
    }

    fn enums(&self) -> Vec<EnumDescriptor> {
        self.pool.all_enums().filter(|descriptor| descriptor.package_name() == PACKAGE).collect()
    }

    /// The comment above something, on one line.
    fn comment(&self, file: &FileDescriptor, path: &[i32]) -> String {
        let text = self.comments.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn field_comment(&self, field: &FieldDescriptor) -> String {
        self.comment(&field.parent_message().parent_file(), field.path())
    }

    fn behaviours(&self, field: &FieldDescriptor) -> Vec<i32> {
        let extension = self.pool.get_extension_by_name("google.api.field_behavior").unwrap();
        let options = field.options();
        let value = options.get_extension(&extension);
        value.as_list().unwrap().iter().map(|value| value.as_enum_number().unwrap()).collect()
    }

    /// Whether a message is, or lies in, the request or response of an RPC.
    fn role(&self, message: &MessageDescriptor) -> Role {
        let mut outermost = message.clone();
        while let Some(parent) = outermost.parent_message() {
            outermost = parent;
        }
        if self.methods().iter().any(|method| method.input() == outermost) {
            Role::Request
        } else if self.methods().iter().any(|method| method.output() == outermost) {
            Role::Response
        } else {
            Role::Resource
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Request,
    Response,
    Resource,
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a oneof stands in the file, and is not what `optional` makes.
fn is_real(oneof: &prost_reflect::OneofDescriptor) -> bool {
    oneof.fields().any(|field| !field.field_descriptor_proto().proto3_optional())
}

fn real_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| is_real(&oneof))
}

#[test]
fn everything_has_a_comment() {
    let api = Api::read();
    let mut wrong = Vec::new();
    let mut check = |file: &FileDescriptor, path: &[i32], name: &str| {
        let comment = api.comment(file, path);
        if comment.is_empty() || !comment.ends_with(['.', '`', ')']) {
            wrong.push(format!("{name}: {comment:?}"));
        }
    };
    let mut seen = 0;
    for file in api.files() {
        for service in file.services() {
            check(&file, service.path(), service.full_name());
            for method in service.methods() {
                check(&file, method.path(), method.full_name());
                seen += 1;
            }
        }
    }
    for message in api.messages() {
        let file = message.parent_file();
        check(&file, message.path(), message.full_name());
        for field in message.fields() {
            check(&file, field.path(), field.full_name());
        }
        for oneof in message.oneofs().filter(is_real) {
            check(&file, oneof.path(), oneof.full_name());
        }
    }
    for descriptor in api.enums() {
        let file = descriptor.parent_file();
        check(&file, descriptor.path(), descriptor.full_name());
        for value in descriptor.values() {
            check(&file, value.path(), value.full_name());
        }
    }
    none(&wrong);
    assert!(seen >= 10, "{seen} methods were looked at");
}

#[test]
fn every_rpc_has_its_own_request_and_response() {
    let mut wrong = Vec::new();
    for method in Api::read().methods() {
        let name = method.name();
        for (message, ending) in [(method.input(), "Request"), (method.output(), "Response")] {
            if message.full_name() != format!("{PACKAGE}.{name}{ending}") {
                wrong.push(format!("{name}: {}", message.full_name()));
            }
        }
        if method.is_client_streaming() {
            wrong.push(format!("{name} streams from the client"));
        }
    }
    none(&wrong);
}

/// What clients are given for every method: how long it may take, and the codes on
/// which it is repeated. The entry with the method's name wins over the service's.
fn service_config() -> impl Fn(&MethodDescriptor) -> Option<(Option<String>, Vec<String>)> {
    let text = include_str!("../proto/threads/identity/v1/service_config.json");
    let config: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut known = BTreeMap::new();
    for entry in config["methodConfig"].as_array().unwrap() {
        let codes = entry["retryPolicy"]["retryableStatusCodes"].as_array().cloned().unwrap_or_default();
        let codes: Vec<String> = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
        let timeout = entry["timeout"].as_str().map(str::to_owned);
        for name in entry["name"].as_array().unwrap() {
            let method = name["method"].as_str().unwrap_or_default().to_owned();
            let name = (name["service"].as_str().unwrap().to_owned(), method);
            assert!(known.insert(name, (timeout.clone(), codes.clone())).is_none(), "named twice");
        }
    }
    let api = Api::read();
    for (service, method) in known.keys() {
        let service = api.pool.get_service_by_name(service).unwrap_or_else(|| panic!("{service}"));
        assert!(method.is_empty() || service.methods().any(|known| known.name() == method), "{method}");
    }
    move |method| {
        let service = method.parent_service().full_name().to_owned();
        let own = known.get(&(service.clone(), method.name().to_owned()));
        own.or_else(|| known.get(&(service, String::new()))).cloned()
    }
}

#[test]
fn the_service_config_repeats_what_is_unavailable_and_no_stream() {
    let config = service_config();
    for method in Api::read().methods() {
        let (timeout, codes) = config(&method).unwrap_or_else(|| panic!("{} is missing", method.full_name()));
        let expected = match method.name() {
            "CompleteAuthorization" | "FetchAccessToken" => Some("30s"),
            _ if method.is_server_streaming() => None,
            _ => Some("15s"),
        };
        assert_eq!(timeout.as_deref(), expected, "{}", method.full_name());
        let repeated: &[&str] = if method.is_server_streaming() { &[] } else { &["UNAVAILABLE"] };
        assert_eq!(codes, repeated, "{}", method.full_name());
    }
}

#[test]
fn comments_and_behaviours_of_fields_agree() {
    let api = Api::read();
    let mut wrong = Vec::new();
    for message in api.messages() {
        let role = api.role(&message);
        for field in message.fields() {
            let (comment, behaviours) = (api.field_comment(&field), api.behaviours(&field));
            let says = |word: &str| comment.starts_with(word);
            let fits = match (role, behaviours.as_slice()) {
                // The oneof's comment says whether one of its members is required.
                (Role::Request, [OPTIONAL]) if real_oneof(&field) => !says("Required") && !says("Optional"),
                // Whether it is required depends on the other fields, which no annotation can say.
                (Role::Request, [OPTIONAL]) => {
                    says("Optional. ") || says("Required for ") || says("Required when ")
                }
                (Role::Request, [REQUIRED]) => says("Required. "),
                (Role::Resource, [OUTPUT_ONLY]) => says("Output only. "),
                (Role::Response, []) => !says("Required") && !says("Optional") && !says("Output only"),
                _ => false,
            };
            if !fits {
                wrong.push(format!("{} {behaviours:?}: {comment:?}", field.full_name()));
            }
        }
        for oneof in message.oneofs().filter(is_real) {
            let comment = api.comment(&message.parent_file(), oneof.path());
            if role == Role::Request
                && !comment.starts_with("Required. ")
                && !comment.starts_with("Optional. ")
            {
                wrong.push(format!("{}: {comment:?}", oneof.full_name()));
            }
        }
    }
    none(&wrong);
}

#[test]
fn lists_are_paged() {
    let api = Api::read();
    // What ListAccountChanges answers has no end: it goes on by a cursor.
    let is_list = |method: &MethodDescriptor| {
        method.name().starts_with("List") && method.input().get_field_by_name("cursor").is_none()
    };
    let lists: Vec<MethodDescriptor> = api.methods().into_iter().filter(is_list).collect();
    assert!(!lists.is_empty());
    for method in lists {
        let (input, output) = (method.input(), method.output());
        let kind =
            |message: &MessageDescriptor, name: &str| message.get_field_by_name(name).map(|f| f.kind());
        assert_eq!(kind(&input, "page_size"), Some(Kind::Int32), "{}", method.name());
        assert_eq!(kind(&input, "page_token"), Some(Kind::String), "{}", method.name());
        assert_eq!(kind(&output, "next_page_token"), Some(Kind::String), "{}", method.name());
        assert!(output.get_field(1).unwrap().is_list(), "{}: field 1 is what is listed", method.name());
        assert!(!method.is_server_streaming(), "{}", method.name());
    }
}

#[test]
fn names_are_as_everywhere() {
    let api = Api::read();
    let mut wrong = Vec::new();
    let snake = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    for field in api.messages().iter().flat_map(|m| m.fields().collect::<Vec<_>>()) {
        let is_time =
            matches!(field.kind(), Kind::Message(m) if m.full_name() == "google.protobuf.Timestamp");
        if !snake(field.name()) || is_time != field.name().ends_with("_time") {
            wrong.push(field.full_name().to_owned());
        }
    }
    for descriptor in api.enums() {
        let zero = descriptor.default_value();
        let mut prefix = String::new();
        for (i, c) in descriptor.name().char_indices() {
            if i > 0 && c.is_ascii_uppercase() {
                prefix.push('_');
            }
            prefix.push(c.to_ascii_uppercase());
        }
        if zero.number() != 0 || zero.name() != format!("{prefix}_UNSPECIFIED") {
            wrong.push(zero.full_name().to_owned());
        }
        // Short reasons are worth the exception: callers compare them as text.
        if descriptor.name() != "ErrorReason" {
            let values = descriptor.values().filter(|v| !v.name().starts_with(&format!("{prefix}_")));
            wrong.extend(values.map(|value| value.full_name().to_owned()));
        }
    }
    none(&wrong);
}

/// The reasons with their comments, but the zero.
fn reasons(api: &Api) -> Vec<(ErrorReason, String)> {
    let descriptor = api.pool.get_enum_by_name(&format!("{PACKAGE}.ErrorReason")).unwrap();
    let values = descriptor.values().filter(|value| value.number() != 0);
    let reasons = values.map(|value| {
        let comment = api.comment(&descriptor.parent_file(), value.path());
        (ErrorReason::from_str_name(value.name()).unwrap(), comment)
    });
    reasons.collect()
}

fn code_name(reason: ErrorReason) -> String {
    // `Debug` of a code is its name in camel case.
    let mut name = String::new();
    for c in format!("{:?}", grpc::code_of(reason)).chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[test]
fn every_reason_is_documented_as_it_is_sent() {
    let api = Api::read();
    let mut wrong = Vec::new();
    for (reason, comment) in reasons(&api) {
        let name = reason.as_str_name();
        if !comment.starts_with(&format!("{}. ", code_name(reason))) {
            wrong.push(format!("{name}: is sent as {}, but: {comment}", code_name(reason)));
        }
        let Some((prose, example)) = comment.split_once(" Example: `") else {
            wrong.push(format!("{name}: has no example"));
            continue;
        };
        let json = example.split('`').next().unwrap();
        let example: serde_json::Value = match serde_json::from_str(json) {
            Ok(example) => example,
            Err(error) => {
                wrong.push(format!("{name}: {error}: {json}"));
                continue;
            }
        };
        if example["reason"] != name || example.as_object().unwrap().len() != 2 {
            wrong.push(format!("{name}: the example is {example}"));
        }
        // What the example holds has been announced.
        for (key, value) in example["metadata"].as_object().unwrap() {
            let announced =
                prose.split_once("Metadata: ").is_some_and(|(_, keys)| keys.contains(&format!("`{key}`")));
            if !announced || !value.is_string() {
                wrong.push(format!("{name}: the metadata `{key}` is not announced"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn rpcs_name_reasons_that_exist_and_every_reason_is_named_somewhere() {
    let api = Api::read();
    let known: BTreeSet<&str> = reasons(&api).iter().map(|(reason, _)| reason.as_str_name()).collect();
    let mut named = BTreeSet::from(ANYWHERE.map(str::to_owned));
    let mut wrong = Vec::new();
    for method in api.methods() {
        let comment = api.comment(&method.parent_service().parent_file(), method.path());
        let Some((_, list)) = comment.split_once("Reasons: ") else {
            wrong.push(format!("{} names no reasons", method.name()));
            continue;
        };
        let words = list.split([' ', ',', '.', ';', '(', ')']);
        let shouted = |word: &&str| {
            word.len() > 3
                && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                && !word.starts_with('_')
        };
        for word in words.filter(shouted) {
            if !known.contains(word) {
                wrong.push(format!("{}: there is no reason {word}", method.name()));
            }
            named.insert(word.to_owned());
        }
        if !comment.contains("Role: `") {
            wrong.push(format!("{} names no role", method.name()));
        }
    }
    wrong.extend(
        known.iter().filter(|name| !named.contains(**name)).map(|name| format!("no RPC names {name}")),
    );
    none(&wrong);
}

#[test]
fn secret_fields_are_marked() {
    let api = Api::read();
    let marked: BTreeSet<String> = api
        .messages()
        .iter()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(|field| {
            let options = field.options();
            options.get_field_by_name("debug_redact").is_some_and(|value| *value == Value::Bool(true))
        })
        .map(|field| field.full_name().trim_start_matches("threads.identity.v1.").to_owned())
        .collect();
    let secret = [
        "CreateAuthorizationUrlRequest.Link.session_binding",
        "CreateAuthorizationUrlRequest.SignIn.session_binding",
        "CreateAuthorizationUrlResponse.authorization_url",
        "CreateAuthorizationUrlResponse.state",
        "CompleteAuthorizationRequest.callback_url",
        "CompleteAuthorizationRequest.Parameters.state",
        "CompleteAuthorizationRequest.Parameters.code",
        "CompleteAuthorizationRequest.ticket",
        "CompleteAuthorizationRequest.session_binding",
        "FetchAccessTokenResponse.access_token",
    ];
    assert_eq!(marked, BTreeSet::from(secret.map(str::to_owned)));
    // Whatever else there comes to be: what is called so is marked.
    for field in api.messages().iter().flat_map(|message| message.fields().collect::<Vec<_>>()) {
        let name = field.full_name().trim_start_matches("threads.identity.v1.").to_owned();
        let is_text = matches!(field.kind(), Kind::String | Kind::Bytes);
        let telling = ["access_token", "session_binding", "callback_url", "code", "ticket", "secret"];
        if is_text && telling.contains(&field.name()) {
            assert!(marked.contains(&name), "{name} is not marked");
        }
    }
}

#[test]
fn nothing_prints_what_is_secret() {
    use v1::complete_authorization_request::{Answer, Parameters, parameters};
    use v1::create_authorization_url_request::{Flow, Link, SignIn};
    let canary = || "canary".to_owned();
    let bytes = || b"canary".to_vec();
    let link = Link { session_binding: Some(bytes()), ..Link::default() };
    let sign_in = SignIn { session_binding: bytes() };
    let created = |flow| v1::CreateAuthorizationUrlRequest { flow: Some(flow), ..Default::default() };
    let completion = |answer| v1::CompleteAuthorizationRequest {
        answer: Some(answer),
        session_binding: Some(bytes()),
        ..Default::default()
    };
    let taken_apart = || Parameters { state: canary(), result: Some(parameters::Result::Code(canary())) };
    let printed = [
        format!("{link:?} {sign_in:?}"),
        format!("{:?} {:?}", created(Flow::Link(link.clone())), created(Flow::SignIn(sign_in.clone()))),
        format!("{:?}", tonic::Request::new(created(Flow::SignIn(sign_in)))),
        format!(
            "{:?}",
            v1::CreateAuthorizationUrlResponse {
                authorization_url: canary(),
                state: canary(),
                ..Default::default()
            }
        ),
        format!("{:?}", completion(Answer::CallbackUrl(canary()))),
        format!("{:?}", completion(Answer::Parameters(taken_apart()))),
        format!("{:?} {:?}", Answer::CallbackUrl(canary()), Answer::Parameters(taken_apart())),
        format!("{:?} {:?}", taken_apart(), parameters::Result::Code(canary())),
        format!("{:?}", v1::FetchAccessTokenResponse { access_token: canary(), ..Default::default() }),
        format!("{:?}", internal::ShortLivedToken { access_token: canary(), ..Default::default() }),
        format!(
            "{:?}",
            internal::State { session_binding_hash: bytes(), redirect_uri: canary(), ..Default::default() }
        ),
        format!("{:?}", internal::PageToken { last_account_id: bytes(), ..Default::default() }),
    ];
    for text in printed {
        let numbers = format!("{:?}", b"canary");
        assert!(!text.contains("canary") && !text.contains(numbers.trim_matches(['[', ']'])), "{text}");
    }
}
