//! The client of threads-identity: one channel, the calls that a backend makes.

use std::collections::BTreeSet;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use sha2::{Digest as _, Sha256};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::errors::IdentityError;
use crate::pb::access_token_service_client::AccessTokenServiceClient;
use crate::pb::account_service_client::AccountServiceClient;
use crate::pb::authorization_service_client::AuthorizationServiceClient;
use crate::pb::complete_authorization_request::Answer;
use crate::pb::create_authorization_url_request::{Flow, Link};
use crate::pb::profile_service_client::ProfileServiceClient;
use crate::pb::*;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = IdentityError> = std::result::Result<T, E>;
type Connection = InterceptedService<Channel, CallerKey>;

/// The deadlines of `service_config.json`: tonic does not read it.
const DEADLINE: Duration = Duration::from_secs(15);
const PROVIDER_DEADLINE: Duration = Duration::from_secs(30);

/// Sends the key with every call.
#[derive(Clone)]
struct CallerKey(MetadataValue<Ascii>);

impl Interceptor for CallerKey {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The client. One per process; clones share its connection.
#[derive(Clone)]
pub struct Identity {
    authorizations: AuthorizationServiceClient<Connection>,
    accounts: AccountServiceClient<Connection>,
    profiles: ProfileServiceClient<Connection>,
    tokens: AccessTokenServiceClient<Connection>,
}

impl Identity {
    /// Prepares the client; it connects when it is first used.
    pub fn new(address: &str, ca_pem: &[u8], caller_key: &str) -> Result<Self, Failure> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls)?
            .connect_timeout(Duration::from_secs(5))
            // Finds out that the other end of a watch is gone without a word.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .connect_lazy();
        let mut key: MetadataValue<Ascii> = format!("Bearer {caller_key}").parse()?;
        key.set_sensitive(true);
        let connection = InterceptedService::new(channel, CallerKey(key));
        Ok(Self {
            authorizations: AuthorizationServiceClient::new(connection.clone()),
            accounts: AccountServiceClient::new(connection.clone()),
            profiles: ProfileServiceClient::new(connection.clone()),
            tokens: AccessTokenServiceClient::new(connection),
        })
    }

    /// Where to send the browser; with an account, to consent for it again; with more
    /// permissions than the app asks for by itself, such as those that a
    /// PERMISSION_MISSING names, to consent to these, too.
    pub async fn authorization_url(
        &self,
        user_id: &str,
        session_binding: &[u8],
        account_id: Option<&str>,
        more: &[&str],
    ) -> Result<String> {
        let mut scopes: BTreeSet<String> = more.iter().map(|scope| (*scope).to_owned()).collect();
        if let Some(account_id) = account_id {
            // What a consent asks for takes the place of what the account had: ask for that, too.
            scopes.extend(self.account(account_id, user_id).await?.scopes);
        }
        let link = Link {
            user_id: user_id.to_owned(),
            session_binding: Some(session_binding.to_owned()),
            account_id: account_id.map(str::to_owned),
            ..Link::default()
        };
        let message = CreateAuthorizationUrlRequest {
            flow: Some(Flow::Link(link)),
            scopes: scopes.into_iter().collect(),
            ..Default::default()
        };
        let created = repeated(DEADLINE, message, |request| {
            let mut client = self.authorizations.clone();
            async move { client.create_authorization_url(request).await }
        });
        Ok(created.await?.authorization_url)
    }

    /// Links what the browser came back with to whoever sits at it now.
    pub async fn complete(
        &self,
        ticket: &str,
        user_id: &str,
        session_binding: &[u8],
    ) -> Result<CompleteAuthorizationResponse> {
        let message = CompleteAuthorizationRequest {
            answer: Some(Answer::Ticket(ticket.to_owned())),
            user_id: Some(user_id.to_owned()),
            session_binding: Some(session_binding.to_owned()),
        };
        repeated(PROVIDER_DEADLINE, message, |request| {
            let mut client = self.authorizations.clone();
            async move { client.complete_authorization(request).await }
        })
        .await
    }

    /// The profile; a fresh one is read from Threads again first.
    pub async fn profile(&self, account_id: &str, user_id: &str, fresh: bool) -> Result<AccountProfile> {
        let message = GetProfileRequest {
            account: Some(get_profile_request::Account::AccountId(account_id.to_owned())),
            user_id: Some(user_id.to_owned()),
            max_age: fresh.then(prost_types::Duration::default),
        };
        let got = repeated(DEADLINE, message, |request| {
            let mut client = self.profiles.clone();
            async move { client.get_profile(request).await }
        });
        Ok(got.await?.profile.unwrap_or_default())
    }

    /// A token for Threads. Use it and drop it: it is not to be stored.
    pub async fn access_token(
        &self,
        account_id: &str,
        user_id: &str,
        scopes: &[&str],
        purpose: &str,
    ) -> Result<String> {
        let message = FetchAccessTokenRequest {
            account_id: account_id.to_owned(),
            user_id: user_id.to_owned(),
            required_scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            purpose: purpose.to_owned(),
            ..Default::default()
        };
        let fetched = repeated(PROVIDER_DEADLINE, message, |request| {
            let mut client = self.tokens.clone();
            async move { client.fetch_access_token(request).await }
        });
        Ok(fetched.await?.access_token)
    }

    /// Says that Threads refused a token; answers with how the account stands now.
    pub async fn report_invalid(&self, account_id: &str, user_id: &str, token: &str) -> Result<Account> {
        let message = ReportInvalidTokenRequest {
            account_id: account_id.to_owned(),
            user_id: user_id.to_owned(),
            token_sha256: Sha256::digest(token).to_vec(),
        };
        let reported = repeated(DEADLINE, message, |request| {
            let mut client = self.tokens.clone();
            async move { client.report_invalid_token(request).await }
        });
        Ok(reported.await?.account.unwrap_or_default())
    }

    /// One account.
    pub async fn account(&self, account_id: &str, user_id: &str) -> Result<Account> {
        let message = GetAccountRequest {
            account: Some(get_account_request::Account::AccountId(account_id.to_owned())),
            user_id: Some(user_id.to_owned()),
        };
        let got = repeated(DEADLINE, message, |request| {
            let mut client = self.accounts.clone();
            async move { client.get_account(request).await }
        });
        Ok(got.await?.account.unwrap_or_default())
    }

    /// Ends a link; its token and profile are destroyed at once.
    pub async fn unlink(&self, account_id: &str, user_id: &str) -> Result<()> {
        let message = UnlinkAccountRequest { account_id: account_id.to_owned(), user_id: user_id.to_owned() };
        let unlinked = repeated(DEADLINE, message, |request| {
            let mut client = self.accounts.clone();
            async move { client.unlink_account(request).await }
        });
        unlinked.await.map(drop)
    }

    /// Every account of the app that is linked.
    pub async fn list_accounts(&self) -> Result<Vec<Account>> {
        let mut found = Vec::new();
        let mut message = ListAccountsRequest { page_size: 200, ..Default::default() };
        loop {
            let page = repeated(DEADLINE, message.clone(), |request| {
                let mut client = self.accounts.clone();
                async move { client.list_accounts(request).await }
            });
            let page = page.await?;
            found.extend(page.accounts);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            message.page_token = page.next_page_token;
        }
    }

    /// The changes of the whole app, from a cursor on, or from now on.
    pub async fn watch(&self, cursor: Option<String>) -> Result<Streaming<WatchAccountsResponse>> {
        let request = WatchAccountsRequest { cursor, ..Default::default() };
        Ok(self.accounts.clone().watch_accounts(request).await?.into_inner())
    }
}

/// Makes a call within a deadline, and makes it again while it is UNAVAILABLE, by the
/// retry policy of `service_config.json`.
async fn repeated<Q: Clone, A, F: Future<Output = std::result::Result<Response<A>, Status>>>(
    deadline: Duration,
    message: Q,
    call: impl Fn(Request<Q>) -> F,
) -> Result<A> {
    let policy = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(Duration::from_secs(3))
        .with_max_times(4)
        .with_jitter();
    let once = || {
        let mut request = Request::new(message.clone());
        request.set_timeout(deadline);
        call(request)
    };
    let calls = once.retry(policy).when(|status| status.code() == Code::Unavailable);
    match tokio::time::timeout(deadline, calls).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer in time").into()),
    }
}
