//! The promises of `proto/` that can be read off its descriptors: names,
//! comments, behaviours, and one documented reason for each error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use prost_reflect::{DescriptorPool, FileDescriptor, Kind, MethodDescriptor, Value};
use threads_identity::config::Deadlines;
use threads_identity::grpc;
use threads_identity::proto::v1;
use threads_identity::proto::{DESCRIPTORS, internal};

use api::{Api, OPTIONAL, OUTPUT_ONLY, PACKAGE, REQUIRED, Role, Terms, is_real, real_oneof};
use reasons::Documented;

#[path = "contract/api.rs"]
mod api;
#[path = "contract/document.rs"]
mod document;
#[path = "contract/image.rs"]
mod image;
#[path = "contract/reasons.rs"]
mod reasons;

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

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
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
                (Role::Request, [OPTIONAL]) if real_oneof(&field).is_some() => {
                    !says("Required") && !says("Optional")
                }
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
            let comment = api.oneof_comment(&oneof);
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
fn every_rpc_says_how_long_it_may_take_and_what_repeating_it_does() {
    let api = Api::read();
    let mut wrong = Vec::new();
    for method in api.methods() {
        let paragraphs = api.paragraphs(&method.parent_service().parent_file(), method.path());
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let default = Deadlines::default();
        let calls_threads = grpc::PROVIDER_METHODS.contains(&path.as_str());
        let (usual, max) = if calls_threads {
            (default.provider, default.provider_max)
        } else {
            (default.usual, default.max)
        };
        assert_eq!(usual, max, "the front page of the API says so");
        let deadline = Terms::read(paragraphs.last().unwrap()).unwrap().deadline;
        let seconds = deadline.split(" s").next().and_then(|text| text.parse().ok());
        if seconds.map(Duration::from_secs) != Some(max) {
            wrong.push(format!("{}: may take {max:?}, and says {deadline}", method.name()));
        }
        if !paragraphs.iter().any(|text| text.to_lowercase().contains("repeat")) {
            wrong.push(format!("{} does not say what repeating it does", method.name()));
        }
    }
    none(&wrong);
}

#[test]
fn fields_of_requests_say_how_long_they_may_be_and_what_their_absence_means() {
    const LIMITS: [&str; 9] = [
        "byte",
        "character",
        "KiB",
        "digits",
        "as this service gave it",
        "as CreateAuthorizationUrl gave it",
        "one of the app's",
        "`next_page_token`",
        "cursor",
    ];
    const ABSENCE: [&str; 8] =
        ["Absent", "None:", "Default", "0 means", "Absent or empty", "Empty:", "If given", "is the same as"];
    let api = Api::read();
    let mut wrong = Vec::new();
    for message in api.messages().iter().filter(|message| api.role(message) == Role::Request) {
        for field in message.fields() {
            let comment = api.field_comment(&field);
            let is_text = matches!(field.kind(), Kind::String | Kind::Bytes);
            let is_ids = field.is_list() && comment.contains("1 to 200");
            if is_text && !is_ids && !LIMITS.iter().any(|words| comment.contains(words)) {
                wrong.push(format!("{}: what may it hold? {comment}", field.full_name()));
            }
            let may_be_left_out = comment.starts_with("Optional. ");
            if may_be_left_out && !ABSENCE.iter().any(|words| comment.contains(words)) {
                wrong.push(format!("{}: and without it? {comment}", field.full_name()));
            }
        }
    }
    none(&wrong);
}

#[test]
fn lists_are_paged() {
    let api = Api::read();
    let lists: Vec<MethodDescriptor> =
        api.methods().into_iter().filter(|method| method.name().starts_with("List")).collect();
    assert!(lists.len() >= 3);
    for method in lists {
        let (name, input, output) = (method.name(), method.input(), method.output());
        // What ListAccountChanges answers has no end: it goes on by a cursor.
        let (asked, told) = match input.get_field_by_name("cursor") {
            None => ("page_token", "next_page_token"),
            Some(_) => ("cursor", "cursor"),
        };
        let field = |message: &prost_reflect::MessageDescriptor, field: &str| {
            message.get_field_by_name(field).unwrap_or_else(|| panic!("{name}: there is no {field}"))
        };
        let (size, asked) = (field(&input, "page_size"), field(&input, asked));
        assert_eq!((size.kind(), asked.kind()), (Kind::Int32, Kind::String), "{name}");
        for (field, words) in
            [(&size, &["0 means 50", "more than 200 means 200", "not negative"][..]), (&asked, &["Absent"])]
        {
            assert_eq!(api.behaviours(field), [OPTIONAL], "{}", field.full_name());
            let comment = api.field_comment(field);
            assert!(words.iter().all(|words| comment.contains(words)), "{}: {comment}", field.full_name());
        }
        let told = field(&output, told);
        assert_eq!((told.kind(), told.number()), (Kind::String, 2), "{name}");
        assert!(output.get_field(1).unwrap().is_list(), "{name}: field 1 is what is listed");
        let listed = output.fields().filter(prost_reflect::FieldDescriptor::is_list).count();
        assert_eq!(listed, 1, "{name} lists one thing");
        assert!(
            !output.fields().any(|field| field.name().contains("total")),
            "{name} counts what is elsewhere"
        );
        assert!(!method.is_server_streaming(), "{name}");
    }
    // And nothing is paged, or goes on by a cursor, that is no list.
    for method in api.methods() {
        let paged = method.output().fields().any(|field| field.name() == "next_page_token");
        assert!(!paged || method.name().starts_with("List"), "{}", method.name());
    }
}

#[test]
fn what_was_promised_stands_or_is_reserved() {
    let image = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/image.binpb")).unwrap();
    let before = DescriptorPool::decode(image.as_slice()).unwrap();
    let now = Api::read().pool;
    assert!(before.services().count() >= 4);
    none(&image::broken(&before, &now));
}

#[test]
fn what_goes_without_being_reserved_is_noticed() {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    let now = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let changed = |change: &dyn Fn(&mut prost_types::DescriptorProto)| {
        let mut set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
        change(messages.into_iter().find(|message| message.name() == "ListAccountChangesResponse").unwrap());
        DescriptorPool::from_file_descriptor_set(set).unwrap()
    };
    let gone = changed(&|message| drop(message.field.pop()));
    let complaint = image::broken(&now, &gone);
    assert!(complaint.len() == 1 && complaint[0].contains("number 3"), "{complaint:?}");
    let reserved = changed(&|message| {
        message.field.pop();
        message.reserved_name.push("more".to_owned());
        message
            .reserved_range
            .push(prost_types::descriptor_proto::ReservedRange { start: Some(3), end: Some(4) });
    });
    assert_eq!(image::broken(&now, &reserved), Vec::<String>::new());
    let another = changed(&|message| message.field[2].name = Some("rest".to_owned()));
    assert!(
        image::broken(&now, &another)[0]
            .ends_with("has become threads.identity.v1.ListAccountChangesResponse.rest")
    );
}

#[test]
fn the_document_is_what_the_comments_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let text = document::document(&Api::read(), &documented());
    let update = std::env::var_os("THREADS_IDENTITY_UPDATE").is_some();
    if update {
        fs::write(&file, &text).unwrap();
    }
    let stands = fs::read_to_string(&file).unwrap_or_default();
    let lines = stands.lines().zip(text.lines());
    let same = lines.take_while(|(stands, made)| stands == made).count();
    assert!(stands == text, "docs/api.md is not what proto/ says, from line {} on: `just api`", same + 1);
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

fn documented() -> Vec<Documented> {
    Documented::all().into_iter().map(|read| read.unwrap_or_else(|wrong| panic!("{wrong}"))).collect()
}

#[test]
fn every_reason_is_documented_as_it_is_sent() {
    let mut wrong = Vec::new();
    for documented in documented() {
        let (name, code) = (documented.name(), reasons::code_name(grpc::code_of(documented.reason)));
        if documented.code != code {
            wrong.push(format!("{name}: is sent as {code}, not as {}", documented.code));
        }
        let example = &documented.example;
        if example["reason"] != name || example.as_object().unwrap().len() != 2 {
            wrong.push(format!("{name}: the example is {example}"));
        }
        let metadata = example["metadata"].as_object().unwrap();
        if !metadata.values().all(serde_json::Value::is_string) {
            wrong.push(format!("{name}: metadata is text"));
        }
        // What the example holds has been announced.
        let (announced, shown) = (documented.announced_keys(), documented.example_keys());
        if !shown.is_subset(&announced) {
            wrong.push(format!("{name}: the example has {shown:?}, and announced are {announced:?}"));
        }
        if announced.iter().any(|key| !is_field(key)) {
            wrong.push(format!("{name}: {announced:?} are not all named as fields are"));
        }
        let detail = |field: &str, what: &str| {
            let shown = documented.beside.as_ref().is_some_and(|detail| detail.get(field).is_some());
            (shown, documented.prose.contains(what))
        };
        for (field, what) in [("fieldViolations", "BadRequest"), ("retryDelay", "RetryInfo")] {
            if let (shown, told) = detail(field, what)
                && shown != told
            {
                wrong.push(format!("{name}: the example has {what}: {shown}, the text: {told}"));
            }
        }
        // What became of the call, and what to do: neither goes without saying.
        let told =
            ["othing ", "What ", "went on", "goes on", "will be", "The code was not spent", "has ended"];
        if !told.iter().any(|words| documented.prose.contains(words)) {
            wrong.push(format!("{name}: what was done is not told"));
        }
    }
    none(&wrong);
}

/// Whether metadata may have such a key.
fn is_field(key: &str) -> bool {
    key.len() > 2 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[test]
fn rpcs_name_reasons_that_exist_and_every_reason_is_named_somewhere() {
    let api = Api::read();
    let known: BTreeSet<&str> = documented().iter().map(Documented::name).collect();
    let mut named = BTreeSet::from(ANYWHERE.map(str::to_owned));
    let mut wrong = Vec::new();
    for method in api.methods() {
        let paragraphs = api.paragraphs(&method.parent_service().parent_file(), method.path());
        let Some(terms) = paragraphs.last().and_then(|last| Terms::read(last)) else {
            wrong.push(format!("{} does not end with role, deadline and reasons", method.name()));
            continue;
        };
        let list = terms.reasons;
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
        if !terms.role.starts_with('`') {
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
