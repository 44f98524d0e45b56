//! Callback URLs as they should not be, and the rest of what a script without Rust can ask for.

use serde_json::{Value, json as object};
use threads_identity::simulator::{Decision, Endpoint, Knobs, Variant};

use super::control_api::{get, post};
use super::{CLIENT_ID, DAY, SECRET, World, json, parameter, text};

#[tokio::test]
async fn a_callback_can_come_back_in_any_shape() {
    let world = World::start().await;
    let consent = async |variant: &str| {
        let url = world.authorization_url(&[]);
        let wish = object!({
            "authorization_url": url, "persona": "full", "decision": "allow", "variant": variant,
        });
        let (status, answer) = post(&world, "/_simulator/consent", wish).await;
        assert_eq!(status, 200, "{variant}: {answer}");
        (text(&answer, "callback_url"), parameter(&url, "state").unwrap())
    };
    let (plain, state) = consent("plain").await;
    assert_eq!(parameter(&plain, "state"), Some(state));
    let (url, state) = consent("code_and_error").await;
    assert!(parameter(&url, "code").is_some());
    assert_eq!(parameter(&url, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&url, "state"), Some(state));
    assert_eq!(parameter(&consent("no_state").await.0, "state"), None);
    assert!(parameter(&consent("suffix").await.0, "code").unwrap().ends_with("#_"));
    let (url, state) = consent("other_state").await;
    assert_ne!(parameter(&url, "state"), Some(state));
    let (url, _) = consent("two_codes").await;
    let codes: Vec<&str> = url.split(['?', '&', '#']).filter(|part| part.starts_with("code=")).collect();
    assert!(codes.len() == 2 && codes[0] != codes[1]);
    let (url, _) = consent("nothing").await;
    assert!(parameter(&url, "code").is_none() && parameter(&url, "state").is_none());

    let url = world.authorization_url(&[]);
    let bare = world.controls.consent_variant(&url, "full", Decision::Allow, Variant::NoFragment).unwrap();
    let code = parameter(&bare, "code").unwrap();
    assert!(!bare.contains('#'));
    assert_eq!(world.exchange(&[("code", &code)]).await.status(), 200, "the code itself is good");
    let nonsense = object!({
        "authorization_url": url, "persona": "full", "decision": "allow", "variant": "sideways",
    });
    let request =
        world.http.post(world.url("/_simulator/consent")).header("content-type", "application/json");
    assert_eq!(request.body(nonsense.to_string()).send().await.unwrap().status(), 422);
}

#[tokio::test]
async fn every_fault_is_known_by_name_and_can_be_sent_as_it_is_shown() {
    let world = World::start().await;
    let faults = get(&world, "/_simulator/faults").await;
    let faults = faults.as_object().unwrap().clone();
    assert_eq!(faults.len(), 17);
    for (name, fault) in faults {
        let script = object!({"endpoint": "debug_token", "fault": fault, "times": 1});
        assert_eq!(post(&world, "/_simulator/faults", script).await.0, 200, "{name}");
        let own = fault.as_str().map(str::to_owned);
        let own = own.or_else(|| Some(fault.as_object()?.keys().next()?.clone()));
        assert_eq!(own.unwrap(), name);
    }
    world.controls.clear_faults();
    let token = world.short("full").await;
    // A failed call of each class, by what the platform's errors are made of.
    for (code, subcode) in [(1, 99), (2, 0), (4, 0), (10, 0), (100, 10), (102, 0), (190, 463), (368, 0)] {
        let subcode = Some(subcode).filter(|subcode| *subcode > 0);
        let graph = object!({
            "status": 400, "code": code, "subcode": subcode, "kind": "OAuthException", "transient": null,
        });
        let script = object!({"endpoint": "me", "fault": {"graph": graph}});
        assert_eq!(post(&world, "/_simulator/faults", script).await.0, 200);
        assert_eq!(json(world.me(&token).await).await["error"]["code"], code);
    }
}

#[tokio::test]
async fn a_knob_is_turned_by_the_name_under_which_it_is_listed() {
    let world = World::start().await;
    let knobs = get(&world, "/_simulator/knobs").await;
    assert_eq!(post(&world, "/_simulator/knobs", knobs.clone()).await.0, 200);
    assert_eq!(get(&world, "/_simulator/knobs").await, knobs);
    assert_eq!(serde_json::to_value(Knobs::default()).unwrap(), knobs);
}

#[tokio::test]
async fn a_picture_can_be_opened_until_its_address_dies() {
    let world = World::start().await;
    let profile = world.profile("pictured").await;
    let url = text(&profile, "threads_profile_picture_url");
    assert!(url.starts_with(&world.simulator.base_url()), "{url}");
    let open = async |url: &str| {
        let answer = world.http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, picture) = open(&url).await;
    assert!(status == 200 && picture.starts_with("<svg "), "{status}");
    assert_eq!(open(&url.replace("&oe=", "&oe=7")).await.0, 403, "not as it was signed");
    assert_eq!(open(url.split('?').next().unwrap()).await.0, 403, "not signed");
    assert_eq!(open(&url.replace("17841405793187667", "17841405793187219")).await.0, 404);
    world.controls.advance(6 * DAY);
    let (status, why) = open(&url).await;
    assert_eq!((status, why.as_str()), (403, "URL signature expired"));
    let renewed = text(&world.profile("pictured").await, "threads_profile_picture_url");
    assert_eq!(open(&renewed).await.0, 200);
    assert_eq!(world.controls.count(Endpoint::Picture), 6);
    world.good();
}

#[tokio::test]
async fn a_pipeline_can_fail_on_what_the_client_did_wrong() {
    let world = World::start().await;
    let verdict = async || {
        let answer = world.get("/_simulator/violations", &[("fail", "true")]).await;
        (answer.status().as_u16(), json(answer).await)
    };
    assert_eq!(verdict().await, (200, object!({"violations": []})));
    let token = world.long("full").await;
    world.controls.advance(DAY);
    let query =
        [("grant_type", "th_refresh_token"), ("access_token", token.as_str()), ("client_secret", SECRET)];
    world.get("/refresh_access_token", &query).await;
    let (status, answer) = verdict().await;
    assert_eq!((status, answer), (409, object!({"violations": ["Refresh: the client secret was sent"]})));
    assert_eq!(world.get("/_simulator/violations", &[]).await.status(), 200, "asking alone is no failure");
}

#[tokio::test]
async fn a_tester_who_has_not_accepted_cannot_inspect_tokens_either() {
    let world = World::start().await;
    let token = world.short("tester").await;
    let query = [("access_token", token.as_str()), ("input_token", token.as_str())];
    let answer: Value = json(world.get("/v1.0/debug_token", &query).await).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["error_subcode"]), (&object!(100), &object!(10)));
    let wrong = [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", "no")];
    assert_eq!(world.get("/oauth/access_token", &wrong).await.status(), 400);
}
