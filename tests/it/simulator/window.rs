//! The authorization window: its page, its redirects, and what never redirects.

use serde_json::Value;
use threads_identity::simulator::{Decision, Endpoint, MetaAppIdPage, Registration};

use super::{CLIENT_ID, REDIRECT, SECRET, World, json, parameter, text};

const META_APP_ID: &str = "123456789012345";

/// The consent page for a URL.
pub(super) async fn page_of(world: &World, url: &str) -> String {
    let page = world.http.get(url).send().await.unwrap();
    assert_eq!(page.status(), 200);
    page.text().await.unwrap()
}

#[tokio::test]
async fn the_page_offers_people_and_leads_back() {
    let world = World::start().await;
    let url = world.authorization_url(&[("state", Some("<q83vEjRWeJCrze8SNFZ4kA>\"x"))]);
    let page = world.http.get(&url).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'none'", "form-action 'self' https://app.example ", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.headers()["cache-control"], "no-store");
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let html = page.text().await.unwrap();
    assert!(html.contains("value=\"full\" checked"));
    assert!(html.contains("&#60;script&#62;") && !html.contains("<script"), "names are escaped");
    let style = world.get("/_simulator/style.css", &[]).await;
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");

    let action = html.split("action=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let form = [("persona", "bare"), ("decision", "allow")];
    let answer = world.http.post(world.url(&action)).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(REDIRECT) && location.ends_with("#_"), "{location}");
    assert_eq!(parameter(location, "state").as_deref(), Some("<q83vEjRWeJCrze8SNFZ4kA>\"x"));
    let code = parameter(location, "code").unwrap();
    assert_eq!(world.exchange(&[("code", &code)]).await.status(), 200);
    assert_eq!(world.controls.count(Endpoint::Authorize), 1);
    assert_eq!(world.controls.count(Endpoint::Consent), 1);
    world.good();
}

#[tokio::test]
async fn a_denial_returns_with_its_reason_and_state() {
    let world = World::start().await;
    for (persona, decision) in [("full", Decision::Deny), ("denier", Decision::Allow)] {
        let url = world.authorization_url(&[]);
        let callback = world.controls.consent(&url, persona, decision).unwrap();
        assert!(callback.contains("error_description=The+user+denied"), "{callback}");
        assert_eq!(parameter(&callback, "error").as_deref(), Some("access_denied"));
        assert_eq!(parameter(&callback, "error_reason").as_deref(), Some("user_denied"));
        assert_eq!(parameter(&callback, "state"), parameter(&url, "state"));
        assert_eq!(parameter(&callback, "code"), None);
    }
    assert_eq!(world.controls.issued_codes().len(), 0);
    world.controls.knobs(|knobs| knobs.state_on_denial = false);
    let url = world.authorization_url(&[]);
    let callback = world.controls.consent(&url, "full", Decision::Deny).unwrap();
    assert_eq!(parameter(&callback, "state"), None);
}

#[tokio::test]
async fn what_is_wrong_with_the_url_is_shown_and_never_redirects() {
    let world = World::start().await;
    let registration = Registration {
        client_id: CLIENT_ID.to_owned(),
        client_secret: SECRET.to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        meta_app_id: Some(META_APP_ID.to_owned()),
        ..Registration::default()
    };
    world.controls.register(registration).unwrap();
    for (name, value, code) in [
        ("client_id", None, 4_476_002),
        ("client_id", Some("123"), 1_349_026),
        ("client_id", Some(META_APP_ID), 4_476_002),
        ("client_id", Some("abc"), 1),
        ("redirect_uri", None, 1),
        ("redirect_uri", Some("https://app.example/api/auth/callback/threads/"), 1_349_168),
        ("response_type", None, 1),
        ("scope", Some("threads_delete"), 1),
    ] {
        let url = world.authorization_url(&[(name, value)]);
        let response = world.http.get(&url).send().await.unwrap();
        assert!(!response.status().is_redirection());
        let page = json(response).await;
        assert_eq!(page["error_code"], code, "{name} {value:?}");
        assert!(page["error_message"].is_string());
        let scripted = world.controls.consent(&url, "full", Decision::Allow).unwrap_err();
        assert_eq!(serde_json::from_str::<Value>(&scripted).unwrap(), page);
    }
    world.controls.knobs(|knobs| knobs.meta_app_id_page = MetaAppIdPage::Text);
    let url = world.authorization_url(&[("client_id", Some(META_APP_ID))]);
    let page = json(world.http.get(&url).send().await.unwrap()).await;
    assert!(text(&page, "error_message").contains("TH__APPLICATION") && page.get("error_code").is_none());
    let lost = world.controls.consent(&world.authorization_url(&[]), "no_profile", Decision::Allow);
    assert!(lost.unwrap_err().contains("\"error_code\":1}"), "there is no way back");
    world.controls.knobs(|knobs| knobs.published = false);
    let page = world.controls.consent(&world.authorization_url(&[]), "full", Decision::Allow);
    assert!(page.unwrap_err().contains("1349245"));
    assert!(world.controls.consent(&world.authorization_url(&[]), "accepted", Decision::Allow).is_ok());
    world.controls.knobs(|knobs| knobs.strict = false);
    let lenient =
        world.authorization_url(&[("response_type", None), ("scope", Some("threads_basic threads_delete"))]);
    assert!(world.controls.consent(&lenient, "accepted", Decision::Allow).is_ok());
}
