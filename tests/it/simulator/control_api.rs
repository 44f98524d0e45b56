//! The controls over HTTP.

use serde_json::{Value, json as object};

use super::{CLIENT_ID, DAY, START, World, error, json, parameter, text};

/// Posts JSON to a control and returns the status and the answer.
pub(super) async fn post(world: &World, path: &str, body: Value) -> (u16, Value) {
    let request = world.http.post(world.url(path)).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await;
    let response = response.expect("an answer");
    (response.status().as_u16(), json(response).await)
}

pub(super) async fn get(world: &World, path: &str) -> Value {
    json(world.get(path, &[]).await).await
}

#[tokio::test]
async fn the_controls_introduce_themselves() {
    let world = World::start().await;
    let index = get(&world, "/_simulator/").await;
    assert!(index.as_object().unwrap().len() > 10);
    assert_eq!(world.get("/_simulator/nonsense", &[]).await.status(), 404);
    let knobs = get(&world, "/_simulator/knobs").await;
    assert_eq!(knobs["long_lifetime"], 5_183_944);
}

#[tokio::test]
async fn a_script_without_rust_can_consent_and_read_the_ledger() {
    let world = World::start().await;
    let click = |persona| {
        let url = world.authorization_url(&[]);
        object!({"authorization_url": url, "persona": persona, "decision": "allow"})
    };
    let (status, answer) = post(&world, "/_simulator/consent", click("full")).await;
    assert_eq!(status, 200);
    let code = parameter(&text(&answer, "callback_url"), "code").unwrap();
    let answer = json(world.exchange(&[("code", &code)]).await).await;
    let token = text(&answer, "access_token");
    let (status, page) = post(&world, "/_simulator/consent", click("nobody")).await;
    assert_eq!((status, &page["error_code"]), (400, &Value::from(1)));

    let fault = object!({"endpoint": "me", "fault": {"delay": 1}, "times": 1});
    assert_eq!(post(&world, "/_simulator/faults", fault).await.0, 200);
    let fault = object!({"endpoint": "me", "fault": "html502"});
    assert_eq!(post(&world, "/_simulator/faults", fault).await.0, 200);
    assert_eq!(world.me(&token).await.status(), 200);
    assert_eq!(world.me(&token).await.status(), 502);
    let ledger = get(&world, "/_simulator/ledger?endpoint=me").await;
    let faults: Vec<_> = ledger["entries"].as_array().unwrap().iter().map(|entry| &entry["fault"]).collect();
    assert_eq!(faults, ["delay", "html502"]);
    let ledger = get(&world, "/_simulator/ledger").await;
    let violations = get(&world, "/_simulator/violations").await;
    assert!(!format!("{ledger} {violations}").contains("SIMSECRET"));
    world.good();
}

#[tokio::test]
async fn a_script_can_have_tokens_without_a_browser() {
    let world = World::start().await;
    let wish = object!({"client_id": CLIENT_ID, "scopes": "threads_basic", "age_seconds": 2 * DAY});
    let (status, answer) = post(&world, "/_simulator/personas/full/token", wish.clone()).await;
    assert_eq!(status, 200);
    let token = text(&answer, "access_token");
    assert_eq!(world.refresh(&token).await.status(), 200);
    let refreshes = get(&world, "/_simulator/refreshes").await;
    assert_eq!(refreshes["refreshes"][0]["persona"], "full");
    assert_eq!(refreshes["refreshes"][0]["times"], 1);
    assert!(!refreshes.to_string().contains("SIMSECRET"));
    assert_eq!(post(&world, "/_simulator/personas/nobody/token", wish).await.0, 404);
    let stranger = object!({"client_id": "7", "scopes": "threads_basic", "age_seconds": 0});
    assert_eq!(post(&world, "/_simulator/personas/full/token", stranger).await.0, 404);
    world.good();
}

#[tokio::test]
async fn people_knobs_and_the_clock_can_be_moved_over_http() {
    let world = World::start().await;
    let token = world.short("full").await;
    let turn = object!({"me_id": "7"});
    assert_eq!(post(&world, "/_simulator/knobs", turn).await.0, 200);
    let nonsense = object!({"nonsense": 7});
    assert_eq!(post(&world, "/_simulator/knobs", nonsense).await.0, 400);
    assert_eq!(json(world.me(&token).await).await["id"], "7");

    let rename = object!({"username": "other"});
    assert_eq!(post(&world, "/_simulator/personas/full/rename", rename).await.0, 200);
    let people = get(&world, "/_simulator/personas").await;
    assert_eq!(people["personas"][0]["username"], "other");
    for (action, wish) in
        [("rename", object!({})), ("rename", object!({"username": ""})), ("throttle", object!({}))]
    {
        assert_eq!(post(&world, &format!("/_simulator/personas/full/{action}"), wish).await.0, 400);
    }
    assert_eq!(post(&world, "/_simulator/personas/full/nonsense", object!({})).await.0, 404);
    let nobody = post(&world, "/_simulator/personas/nobody/revoke", object!({})).await;
    assert_eq!(nobody.0, 404);
    let newcomer = object!({"key": "new", "id": "17841405793180001", "username": "new.sim"});
    assert_eq!(post(&world, "/_simulator/personas", newcomer).await.0, 200);
    world.controls.knobs(|knobs| knobs.me_id = None);
    assert_eq!(world.profile("new").await["id"], "17841405793180001");

    let revoke = world.http.post(world.url("/_simulator/personas/full/revoke"));
    assert_eq!(revoke.send().await.unwrap().status(), 200, "a body is not needed");
    assert_eq!(error(world.me(&token).await).await.2, Some(458));
    let (_, moved) = post(&world, "/_simulator/advance", object!({"seconds": 60})).await;
    assert_eq!(moved["now"], START + 60);
    world.good();
}
