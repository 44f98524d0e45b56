//! Every field of every request with what strangers would put there: a walk over the
//! descriptors, so that a new field is met without anybody thinking of it.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use threads_identity::proto::DESCRIPTORS;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::contract::{forms, requests, send_as};
use crate::harness::World;

/// A field somewhere in a message: the numbers that lead there, and its name as an
/// answer calls it.
#[derive(Clone)]
pub struct Place {
    path: Vec<u32>,
    pub field: FieldDescriptor,
    pub name: String,
}

/// Every field of a message and of the messages inside that holds a value of its own.
pub fn places(form: &MessageDescriptor, path: &[u32], prefix: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for field in form.fields() {
        let name = format!("{prefix}{}", field.name());
        let here = [path, &[field.number()]].concat();
        match field.kind() {
            Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                places.extend(places_in(&inner, &here, &name));
            }
            _ => places.push(Place { path: here, field, name }),
        }
    }
    places
}

fn places_in(inner: &MessageDescriptor, path: &[u32], name: &str) -> Vec<Place> {
    places(inner, path, &format!("{name}."))
}

/// The message with another value in a place; a list holds it alone.
pub fn with(message: &DynamicMessage, place: &Place, value: Value) -> DynamicMessage {
    fn at<'a>(message: &'a mut DynamicMessage, path: &[u32]) -> &'a mut DynamicMessage {
        let [first, rest @ ..] = path else { return message };
        at(message.get_field_by_number_mut(*first).unwrap().as_message_mut().unwrap(), rest)
    }
    let mut message = message.clone();
    let (last, path) = place.path.split_last().unwrap();
    let value = if place.field.is_list() { Value::List(vec![value]) } else { value };
    at(&mut message, path).set_field_by_number(*last, value);
    message
}

/// What may stand in a field and must not get through it: the value, and whether the
/// field must be named for it.
fn values(field: &FieldDescriptor, listener: &str) -> Vec<(Value, bool)> {
    let text = |text: &str| Value::String(text.to_owned());
    match field.kind() {
        Kind::String => vec![
            (text("a\0b"), true),
            (text("\0"), true),
            (text(&"x".repeat(40_000)), true),
            (text(&format!("http://{listener}/")), false),
            (text("http://169.254.169.254/latest/meta-data/"), false),
            (text("gopher://localhost:1/_x"), false),
            (text("' or '1'='1"), false),
            (text("'; drop table accounts; --"), false),
            (text("$1 %s {} ${jndi:ldap://localhost/x}"), false),
            (text("\u{1b}[31m\r\nx: y\u{2028}"), false),
            (text("../../../../etc/passwd"), false),
            (text("%00%0d%0a"), false),
            (text("\u{feff}\u{202e}\u{10ffff}"), false),
        ],
        Kind::Bytes => [vec![0], vec![0; 40_000], b"' or 1=1 --".to_vec()]
            .map(|bytes| (Value::Bytes(bytes.into()), true))
            .to_vec(),
        Kind::Enum(_) => {
            [99, -1, i32::MIN, i32::MAX].map(|number| (Value::EnumNumber(number), true)).to_vec()
        }
        Kind::Int32 => [-1, i32::MIN].map(|number| (Value::I32(number), true)).to_vec(),
        Kind::Message(duration) => {
            let value = |seconds, nanos| {
                let mut message = DynamicMessage::new(duration.clone());
                message.set_field_by_name("seconds", Value::I64(seconds));
                message.set_field_by_name("nanos", Value::I32(nanos));
                Value::Message(message)
            };
            vec![
                (value(-1, 0), true),
                (value(0, -1), true),
                (value(0, 1_000_000_000), true),
                (value(i64::MAX, 0), true),
                (value(i64::MIN, i32::MIN), true),
            ]
        }
        other => panic!("{}: nobody has said what to put into a {other:?}", field.full_name()),
    }
}

#[track_caller]
fn names(status: &Status, place: &Place, shown: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{shown}: {status:?}");
    let details = status.get_error_details();
    let reason = &details.error_info().unwrap().reason;
    // A state or a ticket is one thing: whether it is one of ours. It is looked at
    // last, and a callback URL holds one.
    if ["state", "ticket", "callback_url"].contains(&place.field.name()) {
        assert!(["STATE_INVALID", "FIELD_INVALID"].contains(&reason.as_str()), "{shown}: {status:?}");
        return;
    }
    assert_eq!(reason, "FIELD_INVALID", "{shown}: {status:?}");
    let named =
        details.bad_request().unwrap().field_violations.iter().map(|violation| violation.field.as_str());
    let named: Vec<&str> = named.collect();
    let first = format!("{}[0]", place.name);
    assert!(named.contains(&place.name.as_str()) || named.contains(&first.as_str()), "{shown}: {named:?}");
}

#[tokio::test]
async fn whatever_stands_in_a_field_is_refused_by_its_name_and_reaches_nobody() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let before = world.dump().await;
    let mut tried = 0;
    for (method, json) in requests() {
        let form = forms(&pool, method).0;
        let good = DynamicMessage::deserialize(form.clone(), json).unwrap();
        for place in places(&form, &[], "") {
            for (value, must_be_named) in values(&place.field, &address) {
                let shown: String = format!("{method} {} {value:?}", place.name).chars().take(150).collect();
                let mut request = Request::new(with(&good, &place, value).encode_to_vec());
                for header in ["x-forwarded-host", "x-original-url", "referer", "origin", "forwarded"] {
                    request.metadata_mut().insert(header, format!("http://{address}/").parse().unwrap());
                }
                tried += 1;
                match send_as(&world, "web", method, request).await {
                    Ok(_) => assert!(!must_be_named, "{shown}: was taken"),
                    Err(status) if must_be_named => names(&status, &place, &shown),
                    Err(status) => {
                        let fine = matches!(
                            status.code(),
                            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition
                        );
                        assert!(fine, "{shown}: {status:?}");
                    }
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(world.controls.ledger().len(), 0, "Threads was asked for nothing");
    let connected = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(connected.is_err(), "somebody came to the listener");
    // Whom nobody knows can be erased, and that stands in the trail.
    let accounts = |dump: &str| dump.lines().filter(|line| line.starts_with("accounts:")).count();
    assert_eq!(accounts(&world.dump().await), accounts(&before));
}
