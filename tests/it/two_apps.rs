//! Everything of one app, through every field of every call of the other's caller.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use threads_identity::proto::DESCRIPTORS;
use threads_identity::proto::v1::{
    CreateAuthorizationUrlRequest, ListAccountChangesRequest, ListAccountsRequest,
    create_authorization_url_request,
};
use threads_identity::simulator::Persona;
use tonic::{Request, Status};

use crate::apps::link_as;
use crate::contract::{forms, requests, send_as};
use crate::harness::{Wishes, World, link, parameter};
use crate::request_walk::{Place, places, with};

/// So that it gives tickets, too.
const SECOND_RETURN_TO: &str = "return_to = [\"https://second.example.com/linked\"]";

/// Something of the second app, and one like it that is nowhere.
struct Thing {
    kind: &'static str,
    theirs: String,
    nowhere: String,
}

/// Two worlds in one deployment: the second app's things, and what no answer to the
/// first app may hold.
struct Apps {
    world: World,
    things: Vec<Thing>,
    markers: Vec<String>,
}

/// Like a value, and nothing anywhere: its letters and digits are others.
fn unlike(value: &str) -> String {
    value
        .chars()
        .map(|c| match c {
            '0'..='8' | 'a'..='e' | 'g'..='y' | 'A'..='Y' => char::from_u32(u32::from(c) + 1).unwrap(),
            '9' => '1',
            'f' => 'b',
            other => other,
        })
        .collect()
}

/// The same for something sealed: its last byte is another, so that it opens nowhere.
fn damaged(sealed: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(sealed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Apps {
    async fn start() -> Self {
        let mut world = World::with(Wishes { second_app: SECOND_RETURN_TO, ..Wishes::default() }).await;
        world.expect_violations();
        let mut things = Vec::new();
        let mut markers = Vec::new();
        for n in 0..4 {
            let persona = Persona::numbered(500 + n);
            let (key, id, username) = (persona.key.clone(), persona.id.clone(), persona.username.clone());
            world.controls.add_persona(persona);
            let user = format!("their-user-{n}");
            let (account, authorization) = link_as(&world, "second", &user, &key).await;
            let values = [
                ("account id", account.account_id),
                ("user id", user),
                ("Threads id", id),
                ("authorization id", authorization),
            ];
            for (kind, theirs) in values {
                markers.push(theirs.clone());
                // An id of the same form: the version of a UUID stays as it is.
                let nowhere = if kind == "account id" || kind == "authorization id" {
                    format!("{}{}", &theirs[..24], unlike(&theirs[24..]))
                } else {
                    unlike(&theirs)
                };
                things.push(Thing { kind, theirs, nowhere });
            }
            markers.push(username);
        }
        for persona in ["full", "home"] {
            link_as(&world, "web", &format!("our-user-{persona}"), persona).await;
        }
        things.extend(sealed_things(&world).await);
        Self { world, things, markers }
    }

    /// What the first app's caller is told of an id in a place of a request.
    async fn tried(
        &self,
        method: &str,
        good: &DynamicMessage,
        place: &Place,
        output: &MessageDescriptor,
        thing: &Thing,
        id: &str,
    ) -> String {
        let message = with(good, place, Value::String(id.to_owned()));
        let answer = send_as(&self.world, "web", method, Request::new(message.encode_to_vec())).await;
        if let Ok(bytes) = &answer {
            let held = String::from_utf8_lossy(bytes);
            let marker = self.markers.iter().find(|marker| *marker != id && held.contains(*marker));
            assert!(marker.is_none(), "{method} {} {}: {marker:?}", place.name, thing.kind);
        }
        told(answer, id, output)
    }

    /// What stands in the second app's rows.
    async fn theirs(&self) -> Vec<String> {
        let tables = ["accounts", "authorizations", "audit", "events"];
        let mut rows = Vec::new();
        for table in tables {
            let query = format!(
                "select string_agg(t::text, E'\\n' order by t::text) from {table} t where app_id = 'second'"
            );
            rows.push(self.world.look_up(query).await);
        }
        rows
    }
}

async fn sealed_things(world: &World) -> Vec<Thing> {
    let request = CreateAuthorizationUrlRequest {
        flow: Some(create_authorization_url_request::Flow::Link(link("their-user-0"))),
        ..Default::default()
    };
    let created = world.create_as("second", request).await.unwrap();
    let callback_url = world.consent(&created, "full");
    let page = ListAccountsRequest { page_size: 1, ..Default::default() };
    let page = world.accounts("second").list_accounts(page).await.unwrap().into_inner();
    let changes = world.accounts("second").list_account_changes(ListAccountChangesRequest::default()).await;
    let query = callback_url.split_once('?').unwrap().1.trim_end_matches("#_").to_owned();
    let browser =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("http://{}/api/auth/callback/threads/second?{query}", world.http);
    let answer = browser.get(url).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap();
    let sealed = [
        ("ticket", parameter(location, "ticket")),
        ("state", created.state),
        ("page token", page.next_page_token),
        ("cursor", changes.unwrap().into_inner().cursor),
    ];
    sealed.into_iter().map(|(kind, theirs)| Thing { kind, nowhere: damaged(&theirs), theirs }).collect()
}

/// An answer without what is another each time, and with its id under one name.
fn told(answer: Result<Vec<u8>, Status>, id: &str, output: &MessageDescriptor) -> String {
    match answer {
        Ok(bytes) => {
            let mut message = DynamicMessage::decode(output.clone(), bytes.as_slice()).unwrap();
            for name in ["cursor", "authorization_id", "authorization_url", "state", "expire_time"] {
                if output.get_field_by_name(name).is_some_and(|field| message.has_field(&field)) {
                    message.clear_field_by_name(name);
                }
            }
            format!("{message:?}").replace(id, "ID")
        }
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            format!("{:?} {} {details:?}", status.code(), status.message()).replace(id, "ID")
        }
    }
}

/// Makes so many calls with things of the other app and with things of nobody, and
/// compares the answers of each pair.
async fn cross(calls: usize) {
    let apps = &Apps::start().await;
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let before = apps.theirs().await;
    let fits = |place: &Place| matches!(place.field.kind(), Kind::String);
    let mut cases: Vec<(&str, DynamicMessage, Place, MessageDescriptor)> = Vec::new();
    for (method, json) in requests() {
        let (input, output) = forms(&pool, method);
        let good = DynamicMessage::deserialize(input.clone(), json).unwrap();
        let fields = places(&input, &[], "").into_iter().filter(fits);
        cases.extend(fields.map(|place| (method, good.clone(), place, output.clone())));
    }
    let (start, mut made, mut kinds) = (Instant::now(), 0, BTreeMap::new());
    'all: loop {
        for (method, good, place, output) in &cases {
            // All at once: what travels together must not be mixed up either.
            let pairs = apps.things.iter().map(|thing| async move {
                let theirs = apps.tried(method, good, place, output, thing, &thing.theirs).await;
                let nowhere = apps.tried(method, good, place, output, thing, &thing.nowhere).await;
                assert_eq!(theirs, nowhere, "{method}: a {} in {}", thing.kind, place.name);
            });
            futures_util::future::join_all(pairs).await;
            made += 2 * apps.things.len();
            for thing in &apps.things {
                *kinds.entry(thing.kind).or_insert(0) += 1;
            }
            if made >= calls {
                break 'all;
            }
        }
    }
    assert_eq!(apps.theirs().await, before, "nothing of the other app has changed");
    assert!(kinds.len() >= 7, "{kinds:?}");
    println!("{made} calls in {:?}, no cross result, no difference: {kinds:?}", start.elapsed());
}

#[tokio::test]
async fn nothing_of_one_app_is_told_from_nothing_at_all_by_the_other() {
    cross(5_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: run it by name"]
async fn nothing_of_one_app_is_told_from_nothing_at_all_in_a_hundred_thousand_calls() {
    cross(100_000).await;
}
