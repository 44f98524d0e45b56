//! Things that are handed out and come back: each is taken in its own place alone.

use threads_identity::authorizations::{Creation, Flow as Begun, create};
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::proto::v1::{
    CompleteAuthorizationRequest, GetAuthorizationRequest, ListAccountChangesRequest, ListAccountsRequest,
};
use tonic::Status;

use crate::harness::{World, parameter, with_key};

/// Where something may be presented.
const PLACES: [&str; 6] = ["state", "ticket", "page_token", "cursor", "authorization_id", "caller_key"];

/// Presents a value in a place; whatever else is asked for is right.
async fn present(world: &World, place: &str, value: &str) -> Result<(), Status> {
    let complete = |answer| CompleteAuthorizationRequest {
        answer: Some(answer),
        user_id: Some("user-1".to_owned()),
        session_binding: None,
    };
    match place {
        "state" => {
            let result = Some(parameters::Result::Code("AQunknown".to_owned()));
            let answer = Answer::Parameters(Parameters { state: value.to_owned(), result });
            world.complete_as("web", complete(answer)).await.map(drop)
        }
        "ticket" => world.complete_as("web", complete(Answer::Ticket(value.to_owned()))).await.map(drop),
        "page_token" => {
            let request = ListAccountsRequest {
                user_id: Some("user-1".to_owned()),
                page_token: value.to_owned(),
                page_size: 1,
                ..ListAccountsRequest::default()
            };
            world.accounts("web").list_accounts(request).await.map(drop)
        }
        "cursor" => {
            let request = ListAccountChangesRequest {
                cursor: Some(value.to_owned()),
                ..ListAccountChangesRequest::default()
            };
            world.accounts("web").list_account_changes(request).await.map(drop)
        }
        "authorization_id" => {
            let request = GetAuthorizationRequest { authorization_id: value.to_owned() };
            world.authorizations("web").get_authorization(request).await.map(drop)
        }
        "caller_key" => {
            let channel = with_key(world.connect().await, value);
            let request = ListAccountsRequest { user_id: Some("user-1".to_owned()), ..Default::default() };
            let mut accounts =
                threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
            accounts.list_accounts(request).await.map(drop)
        }
        _ => unreachable!("no such place"),
    }
}

#[tokio::test]
async fn no_kind_of_thing_is_taken_as_another() {
    let world = World::start().await;
    let linked = world.linked("user-1", "full").await;
    world.linked("user-1", "home").await;
    let done = world.link("user-1", "full").await.unwrap();
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    let page = ListAccountsRequest { user_id: Some("user-1".to_owned()), page_size: 1, ..Default::default() };
    let page = world.accounts("web").list_accounts(page).await.unwrap().into_inner();
    let changes = ListAccountChangesRequest::default();
    let changes = world.accounts("web").list_account_changes(changes).await.unwrap().into_inner();
    let ticket = crate::callback::ticket_of(&world, &callback_url).await;
    let things = [
        ("state", created.state.clone()),
        ("ticket", ticket),
        ("page_token", page.next_page_token),
        ("cursor", changes.cursor),
        ("authorization_id", done.authorization_id),
        ("caller_key", world.key("web").to_owned()),
        ("code", parameter(&callback_url, "code")),
        ("access_token", world.token_of(&linked).await),
        ("account_id", linked.account_id.clone()),
        ("keyring", world.keyring.to_string()),
    ];
    for (kind, value) in &things {
        assert!(!value.is_empty(), "{kind}");
        // A key or a ring may hold what no header can.
        for place in PLACES.iter().filter(|place| **place != "caller_key" || value.is_ascii()) {
            let result = present(&world, place, value).await;
            // The state of its own place is spent with a code that nobody has given.
            let fits = kind == place;
            match result {
                Ok(()) => assert!(fits, "{kind} was taken as {place}"),
                Err(status) if fits => assert_eq!(
                    tonic_types::StatusExt::get_details_error_info(&status).unwrap().reason,
                    if *kind == "ticket" { "AUTHORIZATION_CLOSED" } else { "CODE_REJECTED" },
                    "{kind}"
                ),
                Err(_) => {}
            }
        }
    }
}

/// The chi-square of bytes against the even distribution; 255 on average, with a
/// deviation of some 23.
fn chi_square(counts: &[u32; 256]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[tokio::test]
async fn states_are_random_in_every_byte_and_no_two_are_alike() {
    use base64::Engine as _;
    const MANY: usize = 100_000;
    /// The format and the key's id are the same in all of them.
    const HEADER: usize = 5;
    let world = World::start().await;
    let mut seen = std::collections::HashSet::with_capacity(MANY);
    let mut counts: Vec<[u32; 256]> = Vec::new();
    for _ in 0..MANY {
        let flow = Begun::Link {
            user_id: "user-1".to_owned(),
            session_binding: None,
            account_id: None,
            transfer: false,
        };
        let creation = Creation { flow, redirect_uri: None, scopes: Vec::new(), return_to: None };
        let created = create(&world.service, &world.service.apps["default"], creation).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&created.state).unwrap();
        counts.resize(bytes.len() - HEADER, [0; 256]);
        for (count, byte) in counts.iter_mut().zip(&bytes[HEADER..]) {
            count[usize::from(*byte)] += 1;
        }
        assert!(seen.insert(bytes[HEADER..HEADER + 16].to_vec()), "two states of one salt");
    }
    for (position, counts) in counts.iter().enumerate() {
        // Some six deviations: one in a hundred million, for each of some two hundred bytes.
        let chi_square = chi_square(counts);
        assert!((130.0..400.0).contains(&chi_square), "byte {position}: {chi_square}");
    }
}
