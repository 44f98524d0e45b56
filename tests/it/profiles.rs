//! Profiles as they are stored.

use threads_identity::proto::v1::{BatchGetProfilesRequest, BatchGetProfilesResponse, GetProfileRequest};
use threads_identity::simulator::{MissingFields, Persona, Picture};
use tonic::{Code, Status};

use crate::harness::{START, World, bad_fields, failed};
use crate::shorthand::{NOBODY, profile, unlink};

impl World {
    async fn batch(&self, ids: &[String], user_id: Option<&str>) -> Result<BatchGetProfilesResponse, Status> {
        let request =
            BatchGetProfilesRequest { account_ids: ids.to_vec(), user_id: user_id.map(str::to_owned) };
        self.profiles("web").batch_get_profiles(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test]
async fn a_profile_must_be_asked_for_rightly() {
    let world = World::start().await;
    let bad = async |request: GetProfileRequest| bad_fields(world.profile(request).await);
    assert_eq!(bad(GetProfileRequest::default()).await, ["account"]);
    assert_eq!(bad(profile("", Some(""))).await, ["account_id", "user_id"]);
    let age = |seconds, nanos| {
        let max_age = Some(prost_types::Duration { seconds, nanos });
        GetProfileRequest { max_age, ..profile(NOBODY, None) }
    };
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (-1, -1),
        (i64::MIN, i32::MIN),
        (1, -1),
        (0, 1_000_000_000),
        (0, i32::MAX),
        (i64::MAX, 999_999_999),
        (315_576_000_000, 1),
    ] {
        assert_eq!(bad(age(seconds, nanos)).await, ["max_age"], "{seconds} s {nanos} ns");
    }
    for (seconds, nanos) in [(0, 0), (0, 999_999_999), (315_576_000_000, 0)] {
        failed(world.profile(age(seconds, nanos)).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }
}

#[tokio::test]
async fn absent_empty_and_present_are_three_things() {
    let world = World::start().await;
    let picture = Picture::None;
    let persona =
        Persona { picture, is_verified: Some(false), ..Persona::new("p", "30000000000000007", "p_sim") };
    world.controls.add_persona(persona);
    for (knob, expected) in
        [(MissingFields::Absent, None), (MissingFields::Null, None), (MissingFields::Empty, Some(""))]
    {
        world.controls.knobs(|knobs| knobs.missing_fields = knob);
        let id = world.linked("user-1", "p").await.account_id;
        let read = world.profile(profile(&id, Some("user-1"))).await.unwrap();
        assert_eq!(read.picture_expire_time, None);
        let shown = read.profile.unwrap();
        assert_eq!(shown.username.as_deref(), Some("p_sim"));
        assert_eq!(shown.name.as_deref(), expected);
        assert_eq!(shown.threads_profile_picture_url.as_deref(), expected);
        assert_eq!(shown.threads_biography.as_deref(), expected);
        assert_eq!(shown.is_verified, Some(false));
    }
    world.controls.knobs(|knobs| knobs.missing_fields = MissingFields::Null);
    world.controls.edit("p", |persona| persona.is_verified = None);
    let id = world.linked("user-1", "p").await.account_id;
    assert_eq!(world.profile(profile(&id, None)).await.unwrap().profile.unwrap().is_verified, None);
}

#[tokio::test]
async fn every_character_of_a_profile_arrives_as_it_was_written() {
    let world = World::start().await;
    let persona = world.controls.persona("emoji").unwrap();
    let id = world.linked("user-1", "emoji").await.account_id;
    let shown = world.profile(profile(&id, None)).await.unwrap().profile.unwrap();
    assert_eq!((shown.id, shown.username), (persona.id, Some(persona.username)));
    assert_eq!((shown.name, shown.threads_biography), (persona.name, persona.biography));
}

#[tokio::test]
async fn a_profile_says_when_it_was_read_and_when_its_picture_dies() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    let read = world.profile(profile(&id, None)).await.unwrap();
    assert_eq!(read.fetch_time.unwrap().seconds, START.unix_timestamp());
    let url = read.profile.unwrap().threads_profile_picture_url.unwrap();
    let (_, end) = url.split_once("&oe=").unwrap();
    assert_eq!(read.picture_expire_time.unwrap().seconds, i64::from_str_radix(end, 16).unwrap());

    world.controls.set_picture("full", Some("https://example.com/me.jpg"));
    let id = world.linked("user-1", "full").await.account_id;
    let read = world.profile(profile(&id, None)).await.unwrap();
    assert_eq!(read.profile.unwrap().threads_profile_picture_url.unwrap(), "https://example.com/me.jpg");
    assert_eq!(read.picture_expire_time, None);
}

#[tokio::test]
async fn a_value_that_is_too_long_or_cannot_be_stored_counts_as_absent() {
    const DROPPED: &str = "threads_identity_profile_values_dropped_total";
    let world = World::start().await;
    let shown = async |name: &str, picture: &str, biography: &str| {
        world.controls.edit("full", |persona| {
            persona.name = Some(name.to_owned());
            persona.picture = Picture::Url(picture.to_owned());
            persona.biography = Some(biography.to_owned());
        });
        let id = world.linked("user-1", "full").await.account_id;
        let shown = world.profile(profile(&id, None)).await.unwrap().profile.unwrap();
        (shown.name, shown.threads_profile_picture_url, shown.threads_biography)
    };
    let (name, picture, biography) =
        ("é".repeat(512), format!("https://x/{}", "p".repeat(4096 - 10)), "b".repeat(8192));
    let longest = shown(&name, &picture, &biography).await;
    assert_eq!(longest, (Some(name.clone()), Some(picture.clone()), Some(biography.clone())));
    assert!(world.metric(DROPPED).await < 0.5);

    let longer = shown(&format!("{name}x"), &format!("{picture}x"), &format!("{biography}x")).await;
    assert_eq!(longer, (None, None, None));
    assert!((world.metric(DROPPED).await - 3.0).abs() < 0.5);

    let unstorable = shown("a\0b", "https://x/", "\0").await;
    assert_eq!(unstorable, (None, Some("https://x/".to_owned()), None));
    assert!((world.metric(DROPPED).await - 5.0).abs() < 0.5);
}

#[tokio::test]
async fn a_batch_answers_in_order_and_names_what_is_missing() {
    let world = World::start().await;
    let all = world.fill("default", "many", 198).await;
    let gone = world.linked("many", "full").await.account_id;
    world.accounts("web").unlink_account(unlink(&gone, "many")).await.unwrap();
    let mut asked: Vec<String> = all.iter().rev().cloned().collect();
    asked.insert(0, NOBODY.to_owned());
    asked.insert(100, gone.clone());
    let batch = world.batch(&asked, Some("many")).await.unwrap();
    let got: Vec<&String> = batch.profiles.iter().map(|profile| &profile.account_id).collect();
    assert_eq!(got, all.iter().rev().collect::<Vec<_>>());
    assert_eq!(batch.missing_account_ids, [NOBODY.to_owned(), gone]);

    let batch = world.batch(&asked, Some("somebody else")).await.unwrap();
    assert_eq!((batch.profiles.len(), batch.missing_account_ids.len()), (0, 200));
}

#[tokio::test]
async fn a_batch_must_be_asked_for_rightly() {
    let world = World::start().await;
    let bad = async |ids: &[String], user_id: Option<&str>| bad_fields(world.batch(ids, user_id).await);
    let id = |n: usize| format!("00000000-0000-8000-8000-{n:012}");
    assert_eq!(bad(&[], None).await, ["account_ids"]);
    assert_eq!(bad(&[], Some("")).await, ["account_ids", "user_id"]);
    assert_eq!(bad(&(0..201).map(id).collect::<Vec<_>>(), None).await, ["account_ids"]);
    assert_eq!(bad(&[id(1), id(2), id(1)], None).await, ["account_ids[2]"]);
    let ids = [String::new(), id(1), "x".to_owned(), id(1).to_uppercase() + " "];
    assert_eq!(bad(&ids, None).await, ["account_ids[0]", "account_ids[2]", "account_ids[3]"]);
    assert_eq!(bad(&vec!["x".to_owned(); 200], None).await.len(), 20);
    assert_eq!(
        world.batch(&(0..200).map(id).collect::<Vec<_>>(), None).await.unwrap().missing_account_ids.len(),
        200
    );
}
