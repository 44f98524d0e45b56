//! The people and what happens to them.

use threads_identity::simulator::{Controls, Decision, Persona};

use super::{World, error, json, text};

/// Something that happens to somebody, and the code and subcode that their tokens meet afterwards.
type Act = (fn(&Controls), u64, Option<u64>);

#[tokio::test]
async fn everybody_is_who_they_should_be() {
    let world = World::start().await;
    let bare = world.profile("bare").await;
    assert_eq!(bare, serde_json::json!({"id": "28753684917596557", "username": "bare_sim"}));

    let emoji = world.profile("emoji").await;
    assert_eq!(text(&emoji, "threads_biography").chars().count(), 500);
    assert!(text(&emoji, "name").contains("🌸"));

    assert_eq!(world.profile("bigid").await["id"], "98765432109876543");
    assert_ne!(world.profile("home").await["id"], world.profile("work").await["id"]);

    let token = world.long("renamed").await;
    assert_eq!(json(world.me(&token).await).await["username"], "robin_old");
    world.controls.advance(3_600);
    assert_eq!(json(world.me(&token).await).await["username"], "robin_new");

    world.controls.add_persona(Persona::numbered(7));
    assert_eq!(world.profile("n7").await["id"], "30000000000000015");
    world.good();
}

#[tokio::test]
async fn a_tester_who_has_not_accepted_gets_a_useless_token() {
    let world = World::start().await;
    let short = world.short("tester").await;
    let useless = (400, 100, Some(10), "THApiException".to_owned());
    assert_eq!(error(world.extend(&short).await).await, useless);
    assert_eq!(error(world.me(&short).await).await, useless);
    world.controls.accept_invitation("tester");
    assert_eq!(error(world.me(&short).await).await, useless, "it never becomes useful");
    assert_eq!(world.profile("tester").await["username"], "tester_sim");
    assert_eq!(error(world.me(&short).await).await, useless, "not even after new consent");
}

#[tokio::test]
async fn what_happens_to_people_kills_their_tokens() {
    let world = World::start().await;
    let acts: [Act; 4] = [
        (|controls| controls.revoke_app("full"), 190, Some(458)),
        (|controls| controls.checkpoint("full"), 190, Some(459)),
        (|controls| controls.change_password("full"), 190, Some(460)),
        (|controls| controls.ban("full", true), 190, None),
    ];
    for (act, code, subcode) in acts {
        let token = world.long("full").await;
        act(&world.controls);
        let oauth = "OAuthException".to_owned();
        assert_eq!(error(world.me(&token).await).await, (400, code, subcode, oauth));
    }
    assert!(world.controls.consent(&world.authorization_url(&[]), "full", Decision::Allow).is_err());
    world.controls.ban("full", false);
    assert_eq!(world.profile("full").await["username"], "maya.sim");
    world.controls.rename("full", "maya.new");
    world.controls.set_picture("full", None);
    world.controls.make_private("full");
    let profile = world.profile("full").await;
    assert_eq!(profile["username"], "maya.new");
    assert!(profile.get("threads_profile_picture_url").is_none());
    world.good();
    world.controls.rename("nobody", "x");
    world.bad("nobody has the key");
}
