//! The graph host's reads, and the requests it refuses.

use threads_identity::simulator::Proof;

use super::{CLIENT_ID, DAY, SECRET, START, World, error, json, text};

#[tokio::test]
async fn tokens_can_be_inspected() {
    let world = World::start().await;
    let token = world.long("accepted").await;
    let inspect = async |caller: &str, input: &str| {
        json(world.get("/v1.0/debug_token", &[("access_token", caller), ("input_token", input)]).await).await
    };
    let data = inspect(&token, &token).await["data"].clone();
    assert_eq!(data["type"], "USER");
    assert_eq!(data["is_valid"], true);
    assert_eq!(data["user_id"], "28753684917596781");
    assert_eq!(data["scopes"], serde_json::json!(["threads_basic"]));
    assert_eq!(data["issued_at"], START);
    assert_eq!(data["expires_at"], START + 5_183_944);
    assert_eq!(data["data_access_expires_at"], START + 90 * DAY);
    assert_eq!(inspect(&token, "THrubbish").await["data"]["is_valid"], false);

    let query = [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", SECRET)];
    let app = text(&json(world.get("/oauth/access_token", &query).await).await, "access_token");
    assert!(app.starts_with(&format!("TH|{CLIENT_ID}|")));
    assert_eq!(inspect(&app, &app).await["data"]["type"], "APP");
    world.controls.knobs(|knobs| knobs.debug_testers_only = true);
    assert_eq!(inspect(&token, &token).await["data"]["is_valid"], true);
    assert_eq!(inspect(&app, &token).await["error"]["code"], 10);
    assert_eq!(error(world.me(&app).await).await.1, 100);
    world.controls.knobs(|knobs| knobs.appsecret_proof = Proof::Require);
    assert_eq!(error(world.me(&token).await).await.1, 100);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_as_the_platform_does() {
    let world = World::start().await;
    let token = world.short("full").await;
    let get = |path: &'static str, query: &'static [(&str, &str)]| {
        let request = world.http.get(world.url(path)).query(query).bearer_auth(&token);
        async { error(request.send().await.unwrap()).await }
    };
    let oauth = |code, subcode| (400, code, subcode, "OAuthException".to_owned());
    let threads = |code, subcode| (400, code, subcode, "THApiException".to_owned());
    assert_eq!(get("/v1.0/17841405793187221", &[]).await, threads(100, Some(33)));
    assert_eq!(get("/me", &[("fields", "id,email")]).await, threads(100, None));
    assert_eq!(get("/v9.0/me", &[]).await, oauth(2500, None));
    world.bad("no such path");
    assert_eq!(error(world.get("/me", &[]).await).await, oauth(2500, None));
    assert_eq!(error(world.get("/me", &[("access_token", "rubbish")]).await).await, oauth(190, None));
    assert_eq!(error(world.get("/me", &[("access_token", "THrubbish")]).await).await, oauth(190, None));
    let own = world.get("/v1.0/17841405793187219", &[("access_token", &token)]).await;
    assert_eq!(json(own).await, serde_json::json!({"id": "17841405793187219"}));
    let wrong = [("grant_type", "th_exchange_token"), ("client_secret", "no"), ("access_token", &token)];
    assert_eq!(error(world.get("/access_token", &wrong).await).await, oauth(1, None));
    let long = world.long("full").await;
    assert_eq!(error(world.extend(&long).await).await, oauth(100, None));
}
