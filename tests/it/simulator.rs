//! The simulator, as a client sees it on the wire.

mod callbacks;
mod codes;
mod control_api;
mod faults;
mod graph;
mod lifetimes;
mod manual;
mod page;
mod people;
mod receiver;
mod variants;
mod violations;
mod window;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::Value;
use threads_identity::simulator::{Controls, Decision, ExpiresIn, MissingFields, Options, Simulator, UserId};
use url::Url;

const REDIRECT: &str = "https://app.example/api/auth/callback/threads";
const CLIENT_ID: &str = "990602627938098";
const SECRET: &str = "sim-threads-app-secret-0001";
const START: i64 = 1_790_000_000;
const DAY: i64 = 86_400;
const FIELDS: &str = "id,username,name,threads_profile_picture_url,threads_biography,is_verified";

/// A simulator whose clock stands still, and a client that behaves.
struct World {
    simulator: Simulator,
    controls: Controls,
    http: Client,
}

impl World {
    async fn start() -> World {
        let options = Options {
            redirect_uris: vec![REDIRECT.to_owned()],
            start_time: Some(START),
            ..Options::default()
        };
        World::on(Simulator::start(options).await.expect("it starts"))
    }

    fn on(simulator: Simulator) -> World {
        let http = Client::builder()
            .user_agent("simulator-test")
            .redirect(Policy::none())
            .build()
            .expect("a client");
        World { controls: simulator.controls(), simulator, http }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.base_url())
    }

    fn authorization_url(&self, changes: &[(&str, Option<&str>)]) -> String {
        let mut url = Url::parse(&self.url("/oauth/authorize")).expect("a URL");
        let state = fresh_state();
        let usual = [
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT),
            ("response_type", "code"),
            ("scope", "threads_basic"),
            ("state", &state),
        ];
        let replaced = |name: &str| changes.iter().any(|(key, _)| *key == name);
        url.query_pairs_mut()
            .extend_pairs(usual.iter().filter(|(name, _)| !replaced(name)))
            .extend_pairs(changes.iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        url.into()
    }

    fn code(&self, persona: &str) -> String {
        let url = self.authorization_url(&[]);
        let callback = self.controls.consent(&url, persona, Decision::Allow).expect("a callback");
        parameter(&callback, "code").expect("a code")
    }

    async fn exchange(&self, changes: &[(&str, &str)]) -> Response {
        let mut form = vec![
            ("client_id", CLIENT_ID),
            ("client_secret", SECRET),
            ("grant_type", "authorization_code"),
            ("redirect_uri", REDIRECT),
        ];
        form.retain(|(name, _)| !changes.iter().any(|(key, _)| key == name));
        form.extend_from_slice(changes);
        let request = self.http.post(self.url("/oauth/access_token")).form(&form);
        request.send().await.expect("an answer")
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Response {
        self.http.get(self.url(path)).query(query).send().await.expect("an answer")
    }

    async fn short(&self, persona: &str) -> String {
        let answer = self.exchange(&[("code", &self.code(persona))]).await;
        text(&json(answer).await, "access_token")
    }

    async fn extend(&self, short: &str) -> Response {
        let query = [("grant_type", "th_exchange_token"), ("client_secret", SECRET), ("access_token", short)];
        self.get("/access_token", &query).await
    }

    async fn long(&self, persona: &str) -> String {
        let short = self.short(persona).await;
        text(&json(self.extend(&short).await).await, "access_token")
    }

    async fn refresh(&self, long: &str) -> Response {
        let query = [("grant_type", "th_refresh_token"), ("access_token", long)];
        self.get("/refresh_access_token", &query).await
    }

    async fn me(&self, token: &str) -> Response {
        let request = self.http.get(self.url("/v1.0/me")).query(&[("fields", FIELDS)]);
        request.bearer_auth(token).send().await.expect("an answer")
    }

    async fn profile(&self, persona: &str) -> Value {
        json(self.me(&self.short(persona).await).await).await
    }

    fn good(&self) {
        assert_eq!(self.controls.violations(), Vec::<String>::new());
    }

    fn bad(&self, fragment: &str) {
        let violations = self.controls.violations();
        assert!(violations.iter().any(|text| text.contains(fragment)), "{violations:?}");
    }
}

/// Another state at every call: 32 characters that differ enough.
fn fresh_state() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("q83vEjRWeJCrze8SNFZ4kAxy{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).expect("a URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn json(response: Response) -> Value {
    let text = response.text().await.expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}")).to_owned()
}

/// Status, code and subcode of an answer in the Graph envelope.
async fn error(response: Response) -> (u16, u64, Option<u64>, String) {
    let status = response.status().as_u16();
    let body = json(response).await;
    let error = &body["error"];
    assert!(error["fbtrace_id"].is_string(), "{body}");
    let code = error["code"].as_u64().unwrap_or_else(|| panic!("no code: {body}"));
    (status, code, error["error_subcode"].as_u64(), text(error, "type"))
}

#[tokio::test]
async fn the_whole_dance_ends_in_a_profile() {
    let world = World::start().await;
    let authorization = world.authorization_url(&[("state", Some("a/b +ü.q83vEjRWeJCrze8SNFZ4kA"))]);
    let callback = world.controls.consent(&authorization, "full", Decision::Allow).unwrap();
    assert!(callback.starts_with(&format!("{REDIRECT}?code=AQ")), "{callback}");
    assert!(callback.ends_with("#_"));
    let raw = |url: &str| url.split(['&', '#']).find(|part| part.starts_with("state=")).map(str::to_owned);
    assert_eq!(raw(&callback), raw(&authorization), "the state returns byte for byte");

    let code = parameter(&callback, "code").unwrap();
    let response = world.exchange(&[("code", &code)]).await;
    assert_eq!(response.headers()["content-type"], "application/json; charset=UTF-8");
    let body = response.text().await.unwrap();
    assert!(body.contains("\"user_id\":17841405793187219}"), "a number, to the last digit: {body}");
    let short: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(short.as_object().unwrap().len(), 2);
    let short = text(&short, "access_token");
    assert!(short.starts_with("TH") && short.contains("SIMSECRET") && short.len() == 200);

    let extended = json(world.extend(&short).await).await;
    assert_eq!(extended["token_type"], "bearer");
    assert_eq!(extended["expires_in"], 5_183_944);
    let long = text(&extended, "access_token");

    let response = world.me(&long).await;
    let body = response.text().await.unwrap();
    assert!(body.contains("https:\\/\\/scontent-sim.cdninstagram.com\\/"), "{body}");
    let profile: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(profile["id"], "17841405793187219");
    assert_eq!(profile["username"], "maya.sim");
    assert_eq!(profile["is_verified"], true);
    assert_eq!(profile.as_object().unwrap().len(), 6);

    world.controls.advance(DAY);
    let refreshed = json(world.refresh(&long).await).await;
    assert_ne!(text(&refreshed, "access_token"), long);
    assert_eq!(world.controls.issued_tokens("full").len(), 3);
    assert_eq!(world.controls.newest_token("full"), Some(text(&refreshed, "access_token")));
    assert_eq!(world.controls.issued_codes(), [code]);
    world.good();
    world.simulator.stop().await;
}

#[tokio::test]
async fn knobs_change_what_the_answers_look_like() {
    let world = World::start().await;
    world.controls.knobs(|knobs| {
        knobs.user_id = UserId::String;
        knobs.exchange_token_type = Some("bearer".to_owned());
        knobs.exchange_user_id = Some("17841405793187999".to_owned());
        knobs.expires_in = ExpiresIn::Text("5184000".to_owned());
        knobs.me_data_wrapper = true;
        knobs.missing_fields = MissingFields::Null;
        knobs.me_id = Some("28753684917590001".to_owned());
        knobs.escaped = false;
        knobs.token_length = 1_024;
        knobs.headers = vec![("x-app-usage".to_owned(), "{\"call_count\":95}".to_owned())];
    });
    let exchanged = json(world.exchange(&[("code", &world.code("bare"))]).await).await;
    assert_eq!(exchanged["user_id"], "17841405793187999");
    assert_eq!(exchanged["token_type"], "bearer");
    let short = text(&exchanged, "access_token");
    assert_eq!(short.len(), 1_024);
    assert_eq!(json(world.extend(&short).await).await["expires_in"], "5184000");
    let me = world.me(&short).await;
    assert_eq!(me.headers()["x-app-usage"], "{\"call_count\":95}");
    let me = json(me).await;
    assert_eq!(me["data"]["id"], "28753684917590001");
    assert_eq!(me["data"]["name"], Value::Null);
    assert!(me["data"].as_object().unwrap().contains_key("name"));
    world.controls.knobs(|knobs| {
        knobs.user_id = UserId::Absent;
        knobs.expires_in = ExpiresIn::Absent;
    });
    let exchanged = json(world.exchange(&[("code", &world.code("bare"))]).await).await;
    assert!(exchanged.get("user_id").is_none());
    let extended = json(world.extend(&text(&exchanged, "access_token")).await).await;
    assert!(extended.get("expires_in").is_none());
    world.controls.knobs(|knobs| knobs.expires_in = ExpiresIn::Seconds(0));
    assert_eq!(json(world.extend(&world.short("bare").await).await).await["expires_in"], 0);
}

#[tokio::test]
async fn a_second_app_has_its_own_secret_and_codes() {
    let world = World::start().await;
    world.controls.add_app("1234567890123456", "second-secret", ["http://127.0.0.1:8080/cb"]);
    let changes =
        [("client_id", Some("1234567890123456")), ("redirect_uri", Some("http://127.0.0.1:8080/cb"))];
    let callback =
        world.controls.consent(&world.authorization_url(&changes), "full", Decision::Allow).unwrap();
    let code = parameter(&callback, "code").unwrap();
    assert_eq!(world.exchange(&[("code", &code)]).await.status(), 400, "not the first app's");
    let own = [
        ("code", code.as_str()),
        ("client_id", "1234567890123456"),
        ("client_secret", "second-secret"),
        ("redirect_uri", "http://127.0.0.1:8080/cb"),
    ];
    assert_eq!(world.exchange(&own).await.status(), 200);
}
