//! `AccessTokenService`.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::fields::Fields;
use super::{Api, answer, call, convert};
use crate::config::Role;
use crate::error::{Error, Reason};
use crate::proto::v1::access_token_service_server::AccessTokenService;
use crate::proto::v1::{
    FetchAccessTokenRequest, FetchAccessTokenResponse, ReportInvalidTokenRequest, ReportInvalidTokenResponse,
};
use crate::tokens::{self, Wish};

/// How long a token must be good when nobody says, and at most.
const LIFETIME_DEFAULT: Duration = Duration::from_hours(1);
const LIFETIME_MAX: Duration = Duration::from_hours(24);

#[tonic::async_trait]
impl AccessTokenService for Api {
    async fn fetch_access_token(
        &self,
        request: Request<FetchAccessTokenRequest>,
    ) -> Result<Response<FetchAccessTokenResponse>, Status> {
        let call = call(&request)?;
        let caller = call.caller;
        let message = request.get_ref();
        let fetched = async {
            caller.require(Role::Token)?;
            let mut fields = Fields::default();
            let account_id = fields.account_id("account_id", &message.account_id);
            fields.user_id("user_id", &message.user_id);
            let lifetime = fields.duration("minimum_lifetime", message.minimum_lifetime, LIFETIME_MAX);
            fields.scopes("required_scopes", &message.required_scopes);
            let purpose = fields.purpose("purpose", &message.purpose);
            fields.check()?;
            let wish = Wish {
                account_id: account_id.ok_or_else(|| Error::new(Reason::AccountNotFound))?,
                user_id: message.user_id.clone(),
                minimum_lifetime: lifetime.unwrap_or(LIFETIME_DEFAULT),
                required_scopes: message.required_scopes.clone(),
                purpose,
                caller: caller.name.clone(),
            };
            tokens::fetch(&self.service, &caller.app, wish, call.deadline).await
        };
        answer(fetched.await.map(|fetched| FetchAccessTokenResponse {
            access_token: fetched.token.expose().to_owned(),
            expire_time: Some(convert::timestamp(fetched.expire_time)),
            scopes: fetched.scopes,
            threads_user_id: fetched.threads_user_id.as_str().to_owned(),
        }))
    }

    async fn report_invalid_token(
        &self,
        request: Request<ReportInvalidTokenRequest>,
    ) -> Result<Response<ReportInvalidTokenResponse>, Status> {
        let call = call(&request)?;
        let caller = call.caller;
        let message = request.get_ref();
        let account = async {
            caller.require(Role::Token)?;
            let mut fields = Fields::default();
            let id = fields.account_id("account_id", &message.account_id);
            fields.user_id("user_id", &message.user_id);
            fields.sha256("token_sha256", &message.token_sha256);
            fields.check()?;
            let id = id.ok_or_else(|| Error::new(Reason::AccountNotFound))?;
            let hash = &message.token_sha256;
            tokens::report(&self.service, &caller.app, id, &message.user_id, hash, call.deadline).await
        };
        let account = account.await.map(convert::account);
        answer(account.map(|account| ReportInvalidTokenResponse { account: Some(account) }))
    }
}
