//! What must not be said: nowhere in logs, metrics and refusals, and not in the
//! clear in the database.

use std::io::Write;
use std::sync::{Arc, Mutex};

use threads_identity::proto::v1::create_authorization_url_request::{Flow, SignIn};
use threads_identity::proto::v1::{
    CreateAuthorizationUrlRequest, GetAuthorizationRequest, ListAccountsRequest,
};
use threads_identity::simulator::{Endpoint, Fault, Options, Persona};
use tonic::Status;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::forms;
use crate::harness::{SECOND_SECRET, World, completion, link};
use crate::raw::{self, framed};
use crate::shorthand::{account, fresh_profile, token, unlink};

const USER: &str = "user-who-must-not-be-named";
const BINDING: &[u8] = b"binding-that-must-not-be-named";
const USERNAME: &str = "handle.that.must.not.be.named";
const PERSON: &str = "30000000000055555";
const NAME: &str = "Name That Must Not Be Named";

/// What the service logs.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything of the service's own that is logged on this thread from now on.
    ///
    /// While there is only one subscriber, `tracing` asks the thread that first
    /// comes by a line whether anybody listens, and that may be another test's.
    /// The second of the answer makes it ask the subscribers themselves.
    pub fn capture(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("threads_identity=trace")
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        (tracing::subscriber::set_default(subscriber), second)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn said<T>(said: &mut String, result: Result<T, Status>) {
    if let Err(status) = result {
        *said += &format!("{status:?} {}\n", String::from_utf8_lossy(status.details()));
    }
}

/// All that goes wrong and right with distinctive values; the refusals' texts,
/// and every state that was made.
async fn eventful_day(world: &World) -> (String, Vec<String>) {
    let mut refusals = String::new();
    let mut states = Vec::new();
    world
        .controls
        .add_persona(Persona { name: Some(NAME.to_owned()), ..Persona::new("secretive", PERSON, USERNAME) });
    let bound = threads_identity::proto::v1::create_authorization_url_request::Link {
        session_binding: Some(BINDING.to_vec()),
        ..link(USER)
    };
    let faults = [
        None,
        None,
        Some((Endpoint::CodeExchange, Fault::Html502)),
        Some((Endpoint::CodeExchange, Fault::CutAfterRequest)),
        Some((Endpoint::CodeExchange, Fault::Redirect("https://evil.example/?x=SIMSECRET".to_owned()))),
        Some((Endpoint::LongLivedExchange, Fault::CutAfterRequest)),
        Some((Endpoint::LongLivedExchange, Fault::GarbageJson)),
        Some((Endpoint::LongLivedExchange, Fault::WrongTypes)),
        Some((Endpoint::Me, Fault::Truncated)),
        Some((Endpoint::Me, Fault::Html200)),
        Some((Endpoint::CodeExchange, refusal("This authorization code AQ-ECHOED has been used"))),
    ];
    let mut id = String::new();
    for fault in faults {
        let created = world.create_with(bound.clone()).await;
        let callback_url = world.consent(&created, "secretive");
        states.push(created.state.clone());
        world.controls.clear_faults();
        if let Some((endpoint, fault)) = fault {
            world.controls.fault_times(endpoint, 4, fault);
        }
        let mut request = completion(&callback_url, USER);
        if states.len() == 1 {
            said(&mut refusals, world.authorizations("web").complete_authorization(request.clone()).await);
        }
        request.session_binding = Some(BINDING.to_vec());
        match world.authorizations("web").complete_authorization(request.clone()).await {
            Ok(completed) => id = completed.into_inner().account.unwrap().account_id,
            Err(status) => said::<()>(&mut refusals, Err(status)),
        }
        request.user_id = Some("another user".to_owned());
        said(&mut refusals, world.authorizations("web").complete_authorization(request).await);
        let request = GetAuthorizationRequest { authorization_id: created.authorization_id };
        said(&mut refusals, world.authorizations("web").get_authorization(request).await);
    }
    world.controls.clear_faults();
    let sign_in = SignIn { session_binding: BINDING.to_vec() };
    let request = CreateAuthorizationUrlRequest { flow: Some(Flow::SignIn(sign_in)), ..Default::default() };
    states.push(
        world.authorizations("web").create_authorization_url(request).await.unwrap().into_inner().state,
    );
    said(&mut refusals, world.complete(&format!("?state={}&code=x", states[0]), USER).await);

    world.token(token(&id, USER)).await.unwrap();
    world.controls.rename("secretive", &format!("{USERNAME}2"));
    world.profile(fresh_profile(&id, 0)).await.unwrap();
    world.controls.knobs(|knobs| knobs.me_id = Some(format!("{PERSON}5")));
    said(&mut refusals, world.profile(fresh_profile(&id, 0)).await);
    world.controls.knobs(|knobs| knobs.me_id = None);
    world.controls.revoke_app("secretive");
    said(&mut refusals, world.profile(fresh_profile(&id, 0)).await);
    said(&mut refusals, world.accounts("web").get_account(account(&id, Some(&format!("{USER}2")))).await);
    let wrong = ListAccountsRequest {
        user_id: Some(format!("{USER}\n")),
        page_token: states[0].clone(),
        ..ListAccountsRequest::default()
    };
    said(&mut refusals, world.accounts("web").list_accounts(wrong).await);
    for user_id in [format!("{USER}\n"), USER.to_owned()] {
        said(&mut refusals, world.watch_as("web", Some(&user_id), Some(&states[0])).await);
        said(&mut refusals, world.changes_as("web", Some(&user_id), Some(&states[0]), -1).await);
    }
    let mut watching = world.watch_as("web", Some(USER), None).await.unwrap();
    watching.message().await.unwrap();
    drop(watching);
    let key = format!("Bearer {}x", world.key("web"));
    let path = "/threads.identity.v1.AccountService/GetAccount";
    said(&mut refusals, raw::call(world.grpc, path, &[("authorization", &key)], framed(b"")).await.result());
    world.meddle("update accounts set token = set_byte(token, 40, get_byte(token, 40) # 1)").await;
    said(&mut refusals, world.token(token(&id, USER)).await);
    world.meddle("update accounts set token = set_byte(token, 40, get_byte(token, 40) # 1)").await;
    let (kept, reason) =
        (world.look_up("select threads_user_id from accounts").await, "threads_user_id = 'SIMSECRET'");
    world.meddle(format!("update accounts set {reason}")).await;
    said(&mut refusals, world.account(&id).await);
    world.meddle(format!("update accounts set threads_user_id = '{kept}'")).await;
    world.accounts("web").unlink_account(unlink(&id, &format!("{USER}2"))).await.unwrap_err();
    (refusals, states)
}

fn refusal(message: &str) -> Fault {
    Fault::Flat { status: 400, message: message.to_owned() }
}

#[tokio::test]
async fn no_secret_and_nobody_is_named_where_it_must_not_be() {
    let log = Log::default();
    let capturing = log.capture();
    let mut world = World::start().await;
    world.expect_violations();
    let (refusals, states) = eventful_day(&world).await;
    let metrics = reqwest::get(format!("http://{}/metrics", world.ops)).await.unwrap().text().await.unwrap();
    drop(capturing);

    let text = log.text();
    for event in ["SEALED_DATA_INVALID", "CODE_REJECTED", "call{request.id=", "caller=\"web\"}", "DEBUG"] {
        assert!(text.contains(event), "no {event} in the log");
    }
    assert!(refusals.lines().count() > 15, "{refusals}");
    let mut forbidden: Vec<String> = world.controls.issued_codes();
    forbidden.extend(world.controls.issued_tokens("secretive"));
    forbidden.extend(states.clone());
    forbidden.extend([Options::default().client_secret, SECOND_SECRET.to_owned()]);
    forbidden.extend(["web", "second", "only-read"].map(|caller| world.key(caller).to_owned()));
    forbidden.push(String::from_utf8(BINDING.to_vec()).unwrap());
    forbidden.extend([USER, USERNAME, PERSON, NAME, "SIMSECRET", "AQ-ECHOED"].map(str::to_owned));
    forbidden.push(world.keyring.to_string());
    let everything = [("log", &text), ("refusals", &refusals), ("metrics", &metrics)];
    for (place, text) in everything {
        for secret in &forbidden {
            let found = forms::found_in(text.as_bytes(), secret.as_bytes());
            assert!(found.is_none(), "{place}: holds {secret:?} as {found:?}");
        }
        assert!(!text.contains("tik1."), "{place} holds a keyring");
    }

    let dump = world.dump().await;
    assert!(dump.contains(USER) && dump.contains(USERNAME), "the dump holds what is not secret");
    assert_eq!(world.look_up("select count(*) from accounts where token is not null").await, "1");
    assert!(forbidden_in(&dump, world.controls.issued_codes(), "code"));
    assert!(forbidden_in(&dump, world.controls.issued_tokens("secretive"), "token"));
    assert!(forbidden_in(&dump, states, "state"));
    let secrets = vec![Options::default().client_secret, "SIMSECRET".to_owned(), world.keyring.to_string()];
    assert!(forbidden_in(&dump, secrets, "secret"));
    let keys = ["web", "second"].map(|caller| world.key(caller).to_owned());
    assert!(forbidden_in(&dump, keys.to_vec(), "caller key"));
}

/// Looks for values in every form.
#[track_caller]
pub fn forbidden_in(dump: &str, values: Vec<String>, what: &str) -> bool {
    assert!(!values.is_empty(), "no {what} to look for");
    for value in values {
        let found = forms::found_in(dump.as_bytes(), value.as_bytes());
        assert!(found.is_none(), "the database holds a {what}: {found:?}");
    }
    true
}
