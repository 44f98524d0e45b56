//! The code exchange.

use std::fmt::Write as _;

use threads_identity::simulator::{Endpoint, Envelope};

use super::{CLIENT_ID, REDIRECT, SECRET, World, error, json};

#[tokio::test]
async fn a_code_works_once_and_for_an_hour() {
    let world = World::start().await;
    world.controls.knobs(|knobs| knobs.code_with_suffix = true);
    let suffixed = world.code("full");
    let code = suffixed.strip_suffix("#_").unwrap();
    assert_eq!(world.exchange(&[("code", code)]).await.status(), 200);
    world.controls.knobs(|knobs| knobs.code_with_suffix = false);

    let code = world.code("full");
    assert_eq!(world.exchange(&[("code", &code)]).await.status(), 200);
    world.good();
    let again = world.exchange(&[("code", &code)]).await;
    assert_eq!(again.status(), 400);
    let again = json(again).await;
    assert_eq!(again["error_type"], "OAuthException");
    assert_eq!(again["code"], 400);
    assert!(again["error_message"].is_string());
    world.bad("was sent 2 times");
    let entry = world.controls.ledger().into_iter().rfind(|entry| entry.endpoint == Endpoint::CodeExchange);
    assert_eq!(entry.map(|entry| (entry.times, entry.status)), Some((2, Some(400))));

    world.controls.knobs(|knobs| knobs.exchange_errors = Envelope::Graph);
    let late = world.code("full");
    world.controls.advance(3_600);
    let oauth = |code, subcode| (400, code, subcode, "OAuthException".to_owned());
    assert_eq!(error(world.exchange(&[("code", &late)]).await).await, oauth(100, Some(36_007)));
    assert_eq!(error(world.exchange(&[("code", &code)]).await).await, oauth(100, Some(36_009)));
    let fresh = world.code("full");
    for (change, expected) in [
        (("client_id", "1"), oauth(101, None)),
        (("client_secret", "wrong"), oauth(1, None)),
        (("redirect_uri", "https://elsewhere.example/"), oauth(100, Some(36_008))),
        (("grant_type", "password"), oauth(100, None)),
        (("code", "AQnonsense"), oauth(100, Some(36_009))),
    ] {
        let changes = [("code", fresh.as_str()), change];
        let changes = if change.0 == "code" { &changes[1..] } else { &changes[..] };
        assert_eq!(error(world.exchange(changes).await).await, expected, "{change:?}");
    }
    world.bad("not the redirect URI");
}

#[tokio::test]
async fn the_code_exchange_takes_every_encoding_reported() {
    let world = World::start().await;
    let (first, second, third) = (world.code("full"), world.code("full"), world.code("full"));
    let fields = |code: &str| {
        [
            ("client_id", CLIENT_ID.to_owned()),
            ("client_secret", SECRET.to_owned()),
            ("grant_type", "authorization_code".to_owned()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("code", code.to_owned()),
        ]
    };
    let url = world.url("/v1.0/oauth/access_token");
    let query = world.http.post(&url).query(&fields(&first)).send().await.unwrap();
    assert_eq!(query.status(), 200);
    let mut body = String::new();
    for (name, value) in fields(&second) {
        write!(body, "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").unwrap();
    }
    let multipart = world.http.post(&url).header("content-type", "multipart/form-data; boundary=xyz");
    assert_eq!(multipart.body(body + "--xyz--\r\n").send().await.unwrap().status(), 200);
    let get = || world.http.get(&url).query(&fields(&third)).send();
    assert_eq!(get().await.unwrap().status(), 400);
    world.controls.knobs(|knobs| knobs.strict = false);
    assert_eq!(get().await.unwrap().status(), 200);
}
