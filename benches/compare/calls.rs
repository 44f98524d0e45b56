//! The calls that are compared, made in the same way to either side.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::get_profile_request::Account;
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    BatchGetProfilesRequest, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest,
    FetchAccessTokenRequest, GetProfileRequest,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::seed::{self, OPENING};
use crate::world::{PURPOSE_OF_TRAIL, TOKEN_LEN};

/// Profiles in one call of `BatchGetProfiles`.
pub const BATCH: u64 = 20;
/// How far apart the numbers of the accounts of one such call are, so that none is
/// asked for twice.
const APART: u64 = 4_999;

/// Makes calls; what they ask for is chosen by a random number.
#[derive(Clone)]
pub struct Calls {
    authorization: MetadataValue<Ascii>,
    /// How many accounts there are.
    accounts: u64,
}

impl Calls {
    pub fn new(authorization: MetadataValue<Ascii>, accounts: u64) -> Self {
        Self { authorization, accounts }
    }

    /// The same, in a database of another size.
    pub fn among(&self, accounts: u64) -> Self {
        Self { authorization: self.authorization.clone(), accounts }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    pub async fn get_profile(self, channel: Channel, random: u64) {
        let number = random % self.accounts;
        let message = GetProfileRequest {
            account: Some(Account::AccountId(seed::account_id(number).to_string())),
            user_id: Some(seed::user_id(number)),
            max_age: None,
        };
        let answer = ProfileServiceClient::new(channel).get_profile(self.request(message)).await;
        let profile = answer.unwrap().into_inner().profile.unwrap();
        assert_eq!(profile.user_id, seed::user_id(number));
    }

    pub async fn batch_get_profiles(self, channel: Channel, random: u64) {
        let numbers = (0..BATCH).map(|i| (random % self.accounts + i * APART) % self.accounts);
        let account_ids: Vec<String> = numbers.map(|number| seed::account_id(number).to_string()).collect();
        let message = BatchGetProfilesRequest { account_ids, user_id: None };
        let answer = ProfileServiceClient::new(channel).batch_get_profiles(self.request(message)).await;
        assert_eq!(answer.unwrap().into_inner().profiles.len() as u64, BATCH);
    }

    pub async fn create_authorization_url(self, channel: Channel, random: u64) {
        self.create(channel, random).await;
    }

    async fn create(&self, channel: Channel, person: u64) -> String {
        let link = Link { user_id: format!("person-{person}"), ..Link::default() };
        let message = CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..Default::default() };
        let mut client = AuthorizationServiceClient::new(channel);
        let answer = client.create_authorization_url(self.request(message)).await;
        answer.unwrap().into_inner().authorization_url
    }

    pub async fn fetch_access_token(self, channel: Channel, random: u64) {
        self.fetch(channel, random, "").await;
    }

    pub async fn fetch_access_token_with_trail(self, channel: Channel, random: u64) {
        self.fetch(channel, random, PURPOSE_OF_TRAIL).await;
    }

    async fn fetch(&self, channel: Channel, random: u64, purpose: &str) {
        let number = random % OPENING.min(self.accounts);
        let message = FetchAccessTokenRequest {
            account_id: seed::account_id(number).to_string(),
            user_id: seed::user_id(number),
            purpose: purpose.to_owned(),
            ..FetchAccessTokenRequest::default()
        };
        let answer = AccessTokenServiceClient::new(channel).fetch_access_token(self.request(message)).await;
        assert_eq!(answer.unwrap().into_inner().access_token.len(), TOKEN_LEN);
    }
}

/// Links people who have not been linked before, for as long as there are some.
#[derive(Clone)]
pub struct Linking {
    calls: Calls,
    http: reqwest::Client,
    consent_url: String,
    next: Arc<AtomicU64>,
    /// Whom: from the first, so many.
    first: u64,
    people: u64,
}

impl Linking {
    pub fn new(calls: Calls, provider: &str, first: u64, people: u64) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let consent_url = format!("{provider}/_simulator/consent");
        Self { calls, http, consent_url, next: Arc::default(), first, people }
    }

    /// Create, authorize at the simulator, complete.
    pub async fn link(self, channel: Channel, _random: u64) {
        let person = self.first + self.next.fetch_add(1, Ordering::Relaxed) % self.people;
        let authorization_url = self.calls.create(channel.clone(), person).await;
        let click = json!({ "persona": format!("n{person}"), "decision": "allow",
                            "authorization_url": authorization_url });
        let click = self.http.post(&self.consent_url).body(click.to_string());
        let answer = click.header("content-type", "application/json").send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let message = CompleteAuthorizationRequest {
            answer: Some(Answer::CallbackUrl(answer["callback_url"].as_str().unwrap().to_owned())),
            user_id: Some(format!("person-{person}")),
            session_binding: None,
        };
        let mut client = AuthorizationServiceClient::new(channel);
        let answer = client.complete_authorization(self.calls.request(message)).await;
        let profile = answer.unwrap().into_inner().profile.unwrap();
        assert_eq!(profile.username, Some(format!("sim.person.{person}")));
    }
}

/// A call as the load generator takes it.
pub fn bound<T, F, Fut>(
    to: &T,
    call: F,
) -> impl Fn(Channel, u64) -> Fut + Clone + Send + Sync + 'static + use<T, F, Fut>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(T, Channel, u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let to = to.clone();
    move |channel, random| call(to.clone(), channel, random)
}
