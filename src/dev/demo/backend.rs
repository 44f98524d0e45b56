//! This backend's gRPC client: every call that it makes of threads-identity.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::super::Failure;
use super::session::Session;
use crate::proto::v1::access_token_service_client::AccessTokenServiceClient;
use crate::proto::v1::account_service_client::AccountServiceClient;
use crate::proto::v1::authorization_service_client::AuthorizationServiceClient;
use crate::proto::v1::complete_authorization_request::Answer;
use crate::proto::v1::create_authorization_url_request::{Flow, Link, SignIn};
use crate::proto::v1::get_account_request;
use crate::proto::v1::get_profile_request;
use crate::proto::v1::profile_service_client::ProfileServiceClient;
use crate::proto::v1::{
    Account, AccountProfile, CompleteAuthorizationRequest, CompleteAuthorizationResponse,
    CreateAuthorizationUrlRequest, EraseUserRequest, FetchAccessTokenRequest, FetchAccessTokenResponse,
    GetAccountRequest, GetProfileRequest, ListAccountChangesRequest, ListAccountChangesResponse,
    ListAccountsRequest, ListProfilesRequest, ReportInvalidTokenRequest, UnlinkAccountRequest,
    WatchAccountsRequest, WatchAccountsResponse,
};

/// How long a call may take: a little longer than the service's own limit, so that
/// its reason arrives.
const DEADLINE: Duration = Duration::from_secs(35);

/// Where an attempt ends.
pub(super) enum ReturnTo {
    Linked,
    SignedIn,
}

/// A client with its credentials.
pub(super) struct Backend {
    channel: Channel,
    key: MetadataValue<Ascii>,
    linked: String,
    signed_in: String,
}

impl Backend {
    /// Connects to nothing yet. `demo` is where this backend is reached itself.
    pub(super) fn new(grpc: &str, caller_key: &str, demo: &str) -> Result<Self, Failure> {
        let channel = Endpoint::from_shared(format!("http://{grpc}"))?.connect_lazy();
        let [linked, signed_in] = super::return_to(demo);
        Ok(Self { channel, key: format!("Bearer {caller_key}").parse()?, linked, signed_in })
    }

    /// A call with the caller key, and a deadline.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.endless(message);
        request.set_timeout(DEADLINE);
        request
    }

    fn endless<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.key.clone());
        request
    }

    fn authorizations(&self) -> AuthorizationServiceClient<Channel> {
        AuthorizationServiceClient::new(self.channel.clone())
    }

    fn accounts(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    fn profiles(&self) -> ProfileServiceClient<Channel> {
        ProfileServiceClient::new(self.channel.clone())
    }

    fn tokens(&self) -> AccessTokenServiceClient<Channel> {
        AccessTokenServiceClient::new(self.channel.clone())
    }

    /// Where to send the browser to link an account to the session's user; with an
    /// account, to consent for it again.
    pub(super) async fn link(&self, session: &Session, account_id: Option<&str>) -> Result<String, Status> {
        // What a consent asks for takes the place of what the account had: ask for that, too.
        let scopes = match account_id {
            Some(account_id) => self.account(session, account_id).await?.scopes,
            None => Vec::new(),
        };
        let link = Link {
            user_id: session.user_id.clone(),
            session_binding: Some(session.binding()),
            account_id: account_id.map(str::to_owned),
            ..Link::default()
        };
        self.create(Flow::Link(link), scopes, &self.linked).await
    }

    /// Where to send the browser to sign in.
    pub(super) async fn sign_in(&self, session: &Session) -> Result<String, Status> {
        let sign_in = SignIn { session_binding: session.binding() };
        self.create(Flow::SignIn(sign_in), Vec::new(), &self.signed_in).await
    }

    async fn create(&self, flow: Flow, scopes: Vec<String>, return_to: &str) -> Result<String, Status> {
        let request = CreateAuthorizationUrlRequest {
            flow: Some(flow),
            scopes,
            return_to: Some(return_to.to_owned()),
            ..CreateAuthorizationUrlRequest::default()
        };
        let created = self.authorizations().create_authorization_url(self.request(request)).await?;
        Ok(created.into_inner().authorization_url)
    }

    /// Completes what the browser came back with, for whoever sits at it now.
    pub(super) async fn complete(
        &self,
        session: &Session,
        ticket: String,
        returned_to: &ReturnTo,
    ) -> Result<CompleteAuthorizationResponse, Status> {
        let user_id = matches!(returned_to, ReturnTo::Linked).then(|| session.user_id.clone());
        let request = CompleteAuthorizationRequest {
            answer: Some(Answer::Ticket(ticket)),
            user_id,
            session_binding: Some(session.binding()),
        };
        let completed = self.authorizations().complete_authorization(self.request(request)).await?;
        Ok(completed.into_inner())
    }

    /// One of the user's accounts.
    pub(super) async fn account(&self, session: &Session, account_id: &str) -> Result<Account, Status> {
        let request = GetAccountRequest {
            account: Some(get_account_request::Account::AccountId(account_id.to_owned())),
            user_id: Some(session.user_id.clone()),
        };
        let got = self.accounts().get_account(self.request(request)).await?;
        got.into_inner().account.ok_or_else(|| Status::internal("no account"))
    }

    /// The user's accounts that are linked.
    pub(super) async fn list_accounts(&self, session: &Session) -> Result<Vec<Account>, Status> {
        let request = ListAccountsRequest { user_id: Some(session.user_id.clone()), ..Default::default() };
        Ok(self.accounts().list_accounts(self.request(request)).await?.into_inner().accounts)
    }

    /// The profiles of the user's accounts.
    pub(super) async fn list_profiles(&self, session: &Session) -> Result<Vec<AccountProfile>, Status> {
        let request = ListProfilesRequest { user_id: session.user_id.clone(), ..Default::default() };
        Ok(self.profiles().list_profiles(self.request(request)).await?.into_inner().profiles)
    }

    /// A profile, read from Threads again if it must be no older than now.
    pub(super) async fn profile(
        &self,
        session: &Session,
        account_id: &str,
        anew: bool,
    ) -> Result<AccountProfile, Status> {
        let request = GetProfileRequest {
            account: Some(get_profile_request::Account::AccountId(account_id.to_owned())),
            user_id: Some(session.user_id.clone()),
            max_age: anew.then(prost_types::Duration::default),
        };
        let got = self.profiles().get_profile(self.request(request)).await?;
        got.into_inner().profile.ok_or_else(|| Status::internal("no profile"))
    }

    /// The account's token.
    pub(super) async fn fetch_token(
        &self,
        session: &Session,
        account_id: &str,
    ) -> Result<FetchAccessTokenResponse, Status> {
        let request = FetchAccessTokenRequest {
            account_id: account_id.to_owned(),
            user_id: session.user_id.clone(),
            purpose: "to greet".to_owned(),
            ..FetchAccessTokenRequest::default()
        };
        Ok(self.tokens().fetch_access_token(self.request(request)).await?.into_inner())
    }

    /// Says that Threads refused a token. The token itself is never sent back.
    pub(super) async fn report_token(
        &self,
        session: &Session,
        account_id: &str,
        token: &str,
    ) -> Result<(), Status> {
        use aws_lc_rs::digest::{SHA256, digest};
        let request = ReportInvalidTokenRequest {
            account_id: account_id.to_owned(),
            user_id: session.user_id.clone(),
            token_sha256: digest(&SHA256, token.as_bytes()).as_ref().to_vec(),
        };
        self.tokens().report_invalid_token(self.request(request)).await.map(drop)
    }

    /// Ends a link.
    pub(super) async fn unlink(&self, session: &Session, account_id: &str) -> Result<(), Status> {
        let request =
            UnlinkAccountRequest { account_id: account_id.to_owned(), user_id: session.user_id.clone() };
        self.accounts().unlink_account(self.request(request)).await.map(drop)
    }

    /// Forgets the user.
    pub(super) async fn erase(&self, session: &Session) -> Result<(), Status> {
        let request = EraseUserRequest { user_id: session.user_id.clone() };
        self.accounts().erase_user(self.request(request)).await.map(drop)
    }

    /// What has changed in the whole app since a cursor; without one, where that
    /// is now.
    pub(super) async fn changes(&self, cursor: Option<String>) -> Result<ListAccountChangesResponse, Status> {
        let request = ListAccountChangesRequest { cursor, page_size: 200, ..Default::default() };
        Ok(self.accounts().list_account_changes(self.request(request)).await?.into_inner())
    }

    /// The user's changes as they happen, from a cursor on.
    pub(super) async fn watch(
        &self,
        session: &Session,
        cursor: String,
    ) -> Result<Streaming<WatchAccountsResponse>, Status> {
        let request = WatchAccountsRequest { user_id: Some(session.user_id.clone()), cursor: Some(cursor) };
        Ok(self.accounts().watch_accounts(self.endless(request)).await?.into_inner())
    }
}
