//! What the platform itself sends: deauthorize and data-deletion callbacks, webhooks.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json as object};
use threads_identity::simulator::{
    Callback, CallbackKind, Controls, Delivery, Endpoint, Options, Registration, Signature, Simulator,
};

use super::control_api::{get, post};
use super::receiver::Receiver;
use super::{CLIENT_ID, REDIRECT, SECRET, START, World};

/// The payload of a `signed_request` that is rightly signed with this secret; none if it is not.
fn opened(signed_request: &str, secret: &str) -> Option<Value> {
    let (tag, payload) = signed_request.split_once('.')?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, payload.as_bytes(), &tag).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Registers the first app anew, with addresses at the receiver.
async fn registered(world: &World, receiver: &Receiver) {
    let app = object!({
        "client_id": CLIENT_ID,
        "client_secret": SECRET,
        "redirect_uris": [REDIRECT],
        "deauthorize_url": receiver.at("/deauthorize"),
        "data_deletion_url": receiver.at("/delete"),
        "webhook_url": receiver.at("/hook"),
        "webhook_verify_token": "sesame",
    });
    assert_eq!(post(world, "/_simulator/apps", app).await.0, 200);
}

fn control(name: &str) -> String {
    format!("/_simulator/apps/{CLIENT_ID}/{name}")
}

#[tokio::test]
async fn both_callbacks_arrive_as_the_platform_sends_them() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    registered(&world, &receiver).await;
    for (name, path, endpoint) in [
        ("deauthorize", "/deauthorize", Endpoint::Deauthorize),
        ("data-deletion", "/delete", Endpoint::DataDeletion),
    ] {
        let before = receiver.came().len();
        let (status, answer) = post(&world, &control(name), object!({"persona": "full"})).await;
        assert_eq!(status, 200);
        let expected = object!({
            "url": receiver.at(path), "status": 200, "content_type": "application/json",
            "body": "{\"done\":true}", "error": null,
        });
        assert_eq!(answer, object!({"deliveries": [expected]}));
        let came = receiver.came().remove(before);
        assert_eq!((came.method.as_str(), came.uri.path()), ("POST", path));
        let payload = opened(&came.signed_request(), SECRET).unwrap();
        let expected =
            object!({"algorithm": "HMAC-SHA256", "issued_at": START, "user_id": "17841405793187219"});
        assert_eq!(payload, expected);

        assert_eq!(world.controls.count(endpoint), 1);
        let entry = world.controls.ledger().pop().unwrap();
        assert_eq!((entry.endpoint, entry.path.as_str(), entry.status), (endpoint, path, Some(200)));
        assert_eq!(
            (entry.persona.as_deref(), entry.parameters),
            (Some("full"), vec!["signed_request".into()])
        );
        let ledger = get(&world, "/_simulator/ledger").await.to_string();
        assert!(!ledger.contains(&came.signed_request()) && !ledger.contains(SECRET));
    }
    world.good();
}

#[tokio::test]
async fn the_known_signed_requests_come_out_byte_for_byte() {
    const V1: &str = "GicbUZqn4FNQblhZvZHTHWdmd3Ef769r5UktRIZyz3U.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6IjI4NzUzNjg0OTE3NTk2NTU2In0";
    const V2: &str = "ZJqxbUOS5GZJ4fINq7CQL8uHq5Z2cKMkuSTw5cCdIP0.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6Mjg3NTM2ODQ5MTc1OTY1NTZ9";
    let world = World::start().await;
    let person = object!({"key": "known", "id": "28753684917596556", "username": "simuser"});
    assert_eq!(post(&world, "/_simulator/personas", person).await.0, 200);
    assert_eq!(post(&world, "/_simulator/time", object!({"now": 1_754_000_000})).await.0, 200);
    let sign = async |wish| post(&world, &control("signed-request"), wish).await;
    let (_, first) = sign(object!({"persona": "known"})).await;
    assert_eq!(first, object!({"signed_request": V1}));
    let (_, second) = sign(object!({"persona": "known", "user_id_form": "number"})).await;
    assert_eq!(second, object!({"signed_request": V2}));
    let (_, third) = sign(object!({"user_id": 28_753_684_917_596_556_u64, "issued_at": 1_754_000_000})).await;
    assert_eq!(third, object!({"signed_request": V2}), "an id of nobody's");
}

#[tokio::test]
async fn a_payload_can_be_what_the_platform_never_documented() {
    let world = World::start().await;
    let payload = async |wish| {
        let (status, answer) = post(&world, &control("signed-request"), wish).await;
        assert_eq!(status, 200, "{answer}");
        opened(answer["signed_request"].as_str().unwrap(), SECRET).unwrap()
    };
    let about = async |change: Value| {
        let mut wish = object!({"persona": "full"});
        wish.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        payload(wish).await
    };
    assert_eq!(about(object!({"user_id_form": "number"})).await["user_id"], 17_841_405_793_187_219_u64);
    assert_eq!(about(object!({"expires": START + 60})).await["expires"], START + 60);
    assert_eq!(about(object!({"issued_at": START - 86_400})).await["issued_at"], START - 86_400);
    assert_eq!(about(object!({"issued_at": "1754000000"})).await["issued_at"], "1754000000");
    assert_eq!(about(object!({"algorithm": "HMAC-SHA1"})).await["algorithm"], "HMAC-SHA1");
    assert_eq!(about(object!({"user_id": 1.5})).await["user_id"], 1.5);
    assert_eq!(about(object!({"user_id": ""})).await["user_id"], "");
    assert_eq!(about(object!({"extra": {"user": {"country": "se"}}})).await["user"]["country"], "se");
    let bare = about(object!({"without": ["algorithm", "issued_at", "user_id"]})).await;
    assert_eq!(bare, object!({}));
    assert_eq!(payload(object!({"without": ["user_id"]})).await.get("user_id"), None);
}

#[tokio::test]
async fn what_a_receiver_must_refuse_is_wrong_and_what_it_must_accept_is_not() {
    let world = World::start().await;
    let sign = |callback: &Callback| world.controls.signed_request(CLIENT_ID, callback).unwrap();
    let with = |signature| sign(&Callback { signature, ..Callback::about("full") });
    assert!(opened(&with(Signature::Good), SECRET).is_some());
    assert_eq!(with(Signature::Padded).replacen('=', "", 1), with(Signature::Good));
    for signature in [
        Signature::Flipped,
        Signature::Short,
        Signature::Long,
        Signature::Empty,
        Signature::StandardAlphabet,
        Signature::OverJson,
        Signature::Rewritten,
        Signature::NoDot,
        Signature::TwoDots,
    ] {
        assert!(opened(&with(signature), SECRET).is_none(), "{signature:?}");
    }
    let other = sign(&Callback { secret: Some("another".to_owned()), ..Callback::about("full") });
    assert!(opened(&other, SECRET).is_none() && opened(&other, "another").is_some());
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_a_reason() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let refused = async |path: String, wish: Value| {
        let (status, answer) = post(&world, &path, wish).await;
        assert_eq!(status, 400, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    };
    let full = || object!({"persona": "full"});
    assert!(refused(control("deauthorize"), full()).await.contains("not registered"));
    registered(&world, &receiver).await;
    assert!(refused("/_simulator/apps/7/deauthorize".to_owned(), full()).await.contains("no app"));
    assert!(refused(control("deauthorize"), object!({"persona": "who"})).await.contains("nobody"));
    assert!(refused(control("deauthorize"), object!({})).await.contains("persona or user_id"));
    for times in [0, 101] {
        let wish = object!({"persona": "full", "times": times});
        assert!(refused(control("data-deletion"), wish).await.contains("1 to 100"));
    }
    assert!(refused(control("webhook-event"), object!({"persona": "who"})).await.contains("nobody"));
    let fault = object!({"endpoint": "deauthorize", "fault": "html502"});
    assert!(refused("/_simulator/faults".to_owned(), fault).await.contains("sent, not received"));
    for url in ["http://a.example/x", "http://192.168.0.1/", "https://u:p@a.example/", "x", ""] {
        let app = object!({
            "client_id": "17", "client_secret": "s", "redirect_uris": [], "deauthorize_url": url,
        });
        assert!(refused("/_simulator/apps".to_owned(), app).await.contains("deauthorize_url"), "{url}");
    }
    assert_eq!(receiver.came().len(), 0);
    let options =
        || Options { data_deletion_url: Some("http://a.example/".to_owned()), ..Options::default() };
    assert!(Simulator::start(options()).await.is_err());
    let apps = get(&world, "/_simulator/apps").await;
    assert_eq!(apps["apps"][0]["deauthorize_url"], receiver.at("/deauthorize"));
    assert!(!apps.to_string().contains(SECRET) && !apps.to_string().contains("sesame"));
}

async fn deauthorize(controls: &Controls, url: &str, callback: Callback) -> Vec<Delivery> {
    controls.set_callback_urls(CLIENT_ID, Some(url), None).unwrap();
    controls.send_callback(CallbackKind::Deauthorize, CLIENT_ID, &callback).await.unwrap()
}

#[tokio::test]
async fn duplicates_are_the_very_same_one_after_the_other_or_at_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    for at_once in [false, true] {
        let callback = Callback { times: Some(5), at_once, ..Callback::about("full") };
        assert_eq!(deauthorize(&world.controls, &receiver.at("/d"), callback).await.len(), 5);
    }
    let came = receiver.came();
    assert_eq!((came.len(), world.controls.count(Endpoint::Deauthorize)), (10, 10));
    assert!(came.iter().all(|one| one.signed_request() == came[0].signed_request()));
}

#[tokio::test]
async fn bad_answers_are_told_and_redirects_are_not_followed() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let told = async |path: &str| {
        let mut answers = deauthorize(&world.controls, &receiver.at(path), Callback::about("full")).await;
        answers.remove(0)
    };
    assert_eq!(told("/away").await.status, Some(302));
    let broken = told("/broken").await;
    assert_eq!((broken.status, broken.body.as_str(), broken.error), (Some(500), "no", None));
    assert_eq!(told("/huge").await.body.len(), 64 << 10);
    assert!(receiver.came().iter().all(|one| one.uri.path() != "/elsewhere"));
    let nobody = deauthorize(&world.controls, "http://127.0.0.1:1/", Callback::about("full")).await;
    assert_eq!((nobody[0].status, nobody[0].error), (None, Some("cannot connect")));

    let slow = receiver.at("/slow");
    let before = receiver.came().len();
    let controls = world.controls.clone();
    let (answer, ()) = tokio::join!(deauthorize(&controls, &slow, Callback::about("full")), async {
        receiver.receives(before + 1).await;
        world.simulator.stop().await;
    });
    assert_eq!(answer[0].error, Some("the simulator stopped"));
}

#[tokio::test]
async fn whoever_removes_the_app_is_reported_to_it_unless_that_is_lost() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    registered(&world, &receiver).await;
    let other = Registration {
        client_id: "1234567890123456".to_owned(),
        client_secret: "second".to_owned(),
        deauthorize_url: Some(receiver.at("/other")),
        ..Registration::default()
    };
    world.controls.register(other).unwrap();
    world.long("full").await;

    world.controls.revoke_app("full");
    let came = receiver.receives(1).await;
    assert_eq!(came[0].uri.path(), "/deauthorize", "the other app never had a consent");
    assert_eq!(opened(&came[0].signed_request(), SECRET).unwrap()["user_id"], "17841405793187219");
    assert_eq!(world.controls.revoke_app_and_wait("full").await, [], "it is removed already");

    world.long("full").await;
    world.controls.knobs(|knobs| knobs.deauthorize_on_revoke = false);
    let (_, answer) = post(&world, "/_simulator/personas/full/revoke", object!({})).await;
    assert_eq!(answer["deliveries"], object!([]));
    world.controls.knobs(|knobs| knobs.deauthorize_on_revoke = true);
    world.long("full").await;
    let (_, answer) = post(&world, "/_simulator/personas/full/revoke", object!({})).await;
    assert_eq!(answer["deliveries"][0]["status"], 200);
    assert_eq!(receiver.came().len(), 2);
    world.good();
}

#[tokio::test]
async fn a_webhook_is_shaken_hands_with_and_gets_signed_events() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    registered(&world, &receiver).await;
    let shake = async |wish| post(&world, &control("webhook-handshake"), wish).await.1;
    let shaken = shake(object!({"challenge": 1_158_201_444})).await;
    assert_eq!((&shaken["passed"], &shaken["delivery"]["body"]), (&object!(true), &object!("1158201444")));
    let came = receiver.came().pop().unwrap();
    assert_eq!(came.parameter("hub.mode").as_deref(), Some("subscribe"));
    assert!(!shaken.to_string().contains("sesame"));
    let refused = shake(object!({"verify_token": "other"})).await;
    assert_eq!((&refused["passed"], &refused["delivery"]["status"]), (&object!(false), &object!(403)));

    let person = object!({"key": "known", "id": "28753684917596556", "username": "simuser"});
    post(&world, "/_simulator/personas", person).await;
    world.controls.set_time(1_754_000_000);
    let send = async |wish| {
        let (status, answer) = post(&world, &control("webhook-event"), wish).await;
        assert_eq!((status, &answer["delivery"]["status"]), (200, &object!(200)), "{answer}");
        receiver.came().pop().unwrap()
    };
    let known = send(object!({"persona": "known"})).await;
    let body = r#"{"app_id":"990602627938098","topic":"interaction","target_id":"28753684917596556","time":1754000000,"subscription_id":"234567","has_uid_field":false,"values":{"value":{"id":"8901234","username":"simuser"},"field":"publish"}}"#;
    assert_eq!(std::str::from_utf8(&known.body).unwrap(), body);
    assert_eq!(
        known.headers["x-hub-signature-256"],
        "sha256=ba34370ac59d0bcaed59393307e4ef0fc1ed112db59b9a6f972604228c1a2174"
    );
    let flipped = send(object!({"persona": "known", "signature": "flipped"})).await;
    assert_ne!(flipped.headers["x-hub-signature-256"], known.headers["x-hub-signature-256"]);
    let absent = object!({
        "persona": "known", "signature": "absent", "topic": "moderate", "field": "delete", "value": {"id": "1"},
    });
    let absent = send(absent).await;
    assert!(!absent.headers.contains_key("x-hub-signature-256"));
    let body: Value = serde_json::from_slice(&absent.body).unwrap();
    assert_eq!(body["values"], object!({"value": {"id": "1"}, "field": "delete"}));
    assert_eq!(world.controls.count(Endpoint::Webhook), 5);
    world.good();
}
