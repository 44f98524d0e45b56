//! Rival (b): one prepared query per call; and what linking and fetching a token are
//! at least: the calls to Threads and one insert, one query and one decryption.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use threads_identity::proto::v1::access_token_service_server::{
    AccessTokenService, AccessTokenServiceServer,
};
use threads_identity::proto::v1::authorization_service_server::{
    AuthorizationService, AuthorizationServiceServer,
};
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::get_profile_request::Account as By;
use threads_identity::proto::v1::profile_service_server::{ProfileService, ProfileServiceServer};
use threads_identity::proto::v1::{
    Account, AccountProfile, BatchGetProfilesRequest, BatchGetProfilesResponse, CompleteAuthorizationRequest,
    CompleteAuthorizationResponse, CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse,
    FetchAccessTokenRequest, FetchAccessTokenResponse, GetAuthorizationRequest, GetAuthorizationResponse,
    GetProfileRequest, GetProfileResponse, ListProfilesRequest, ListProfilesResponse,
    ReportInvalidTokenRequest, ReportInvalidTokenResponse, ThreadsProfile,
};
use threads_identity::secret;
use threads_identity::simulator::Options;
use time::OffsetDateTime;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::ProfileRow;
use crate::world::{PURPOSE_OF_TRAIL, REDIRECT_URI, TOKEN_LEN, timestamp};

const ONE: &str = "select account_id, user_id, threads_user_id, username, name, picture_url, biography,
                          is_verified, profile_fetch_time
                   from accounts where account_id = $1";
const SEVERAL: &str = "select account_id, user_id, threads_user_id, username, name, picture_url, biography,
                              is_verified, profile_fetch_time
                       from accounts where account_id = any($1)";
const TOKEN: &str = "select token, token_expire_time, scopes, threads_user_id from accounts
                     where account_id = $1 and user_id = $2";
const TOKEN_AND_TRAIL: &str = "with noted as (
         insert into audit (app_id, account_id, user_id, caller, action, purpose, audit_time)
         values ('default', $1, $2, 'bench', 'FETCH_ACCESS_TOKEN', 'bench', now()))
     select token, token_expire_time, scopes, threads_user_id from accounts
     where account_id = $1 and user_id = $2";
const LINK: &str =
    "insert into bare_links (account_id, user_id, token, expire_time, username, name, picture_url,
                                            biography, is_verified)
                    values ($1, $2, $3, now() + $4 * interval '1 second', $5, $6, $7, $8, $9)";

#[derive(Clone)]
struct Bare(Arc<Inner>);

struct Inner {
    pool: PgPool,
    http: reqwest::Client,
    provider: String,
    app: Options,
    url: CreateAuthorizationUrlResponse,
    key: LessSafeKey,
    sealed: Vec<u8>,
}

pub(super) fn router(pool: PgPool, provider: &str) -> Router {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret::random::<32>()).unwrap());
    let mut sealed = vec![b'T'; TOKEN_LEN];
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).unwrap();
    let bare = Bare(Arc::new(Inner {
        pool,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        provider: provider.to_owned(),
        app: Options::default(),
        url: super::authorization_url(provider),
        key,
        sealed,
    }));
    Server::builder()
        .add_service(ProfileServiceServer::new(bare.clone()))
        .add_service(AuthorizationServiceServer::new(bare.clone()))
        .add_service(AccessTokenServiceServer::new(bare))
}

/// One value is sealed, ever.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn id(text: &str) -> Result<Uuid, Status> {
    Uuid::parse_str(text).map_err(failed)
}

#[tonic::async_trait]
impl ProfileService for Bare {
    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> Result<Response<GetProfileResponse>, Status> {
        let Some(By::AccountId(text)) = &request.get_ref().account else {
            return Err(Status::invalid_argument("by account_id alone"));
        };
        let query = sqlx::query_as::<_, ProfileRow>(ONE).bind(id(text)?);
        let row = query.fetch_one(&self.0.pool).await.map_err(failed)?;
        Ok(Response::new(GetProfileResponse { profile: Some(row.into()) }))
    }

    async fn batch_get_profiles(
        &self,
        request: Request<BatchGetProfilesRequest>,
    ) -> Result<Response<BatchGetProfilesResponse>, Status> {
        let ids: Result<Vec<Uuid>, Status> =
            request.get_ref().account_ids.iter().map(|text| id(text)).collect();
        let query = sqlx::query_as::<_, ProfileRow>(SEVERAL).bind(ids?);
        let rows = query.fetch_all(&self.0.pool).await.map_err(failed)?;
        let profiles = rows.into_iter().map(AccountProfile::from).collect();
        Ok(Response::new(BatchGetProfilesResponse { profiles, missing_account_ids: Vec::new() }))
    }

    async fn list_profiles(
        &self,
        _: Request<ListProfilesRequest>,
    ) -> Result<Response<ListProfilesResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}

#[tonic::async_trait]
impl AccessTokenService for Bare {
    async fn fetch_access_token(
        &self,
        request: Request<FetchAccessTokenRequest>,
    ) -> Result<Response<FetchAccessTokenResponse>, Status> {
        type Row = (Vec<u8>, OffsetDateTime, String, String);
        let Inner { pool, key, sealed, .. } = &*self.0;
        let message = request.get_ref();
        let query = if message.purpose == PURPOSE_OF_TRAIL { TOKEN_AND_TRAIL } else { TOKEN };
        let query = sqlx::query_as::<_, Row>(query).bind(id(&message.account_id)?).bind(&message.user_id);
        let (stored, expire_time, scopes, threads_user_id) = query.fetch_one(pool).await.map_err(failed)?;
        // Not what is stored, which only the service's key opens, but as long.
        assert!(stored.len() >= sealed.len(), "a token is stored");
        let mut token = sealed.clone();
        let token = key.open_in_place(nonce(), Aad::empty(), &mut token).map_err(failed)?;
        Ok(Response::new(FetchAccessTokenResponse {
            access_token: String::from_utf8(token.to_vec()).map_err(failed)?,
            expire_time: Some(timestamp(expire_time)),
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            threads_user_id,
        }))
    }

    async fn report_invalid_token(
        &self,
        _: Request<ReportInvalidTokenRequest>,
    ) -> Result<Response<ReportInvalidTokenResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: i64,
}

#[derive(Deserialize)]
struct Me {
    id: String,
    username: Option<String>,
    name: Option<String>,
    threads_profile_picture_url: Option<String>,
    threads_biography: Option<String>,
    is_verified: Option<bool>,
}

async fn ask<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Status> {
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    serde_json::from_slice(&answer.bytes().await.map_err(failed)?).map_err(failed)
}

#[tonic::async_trait]
impl AuthorizationService for Bare {
    async fn create_authorization_url(
        &self,
        _: Request<CreateAuthorizationUrlRequest>,
    ) -> Result<Response<CreateAuthorizationUrlResponse>, Status> {
        Ok(Response::new(self.0.url.clone()))
    }

    async fn complete_authorization(
        &self,
        request: Request<CompleteAuthorizationRequest>,
    ) -> Result<Response<CompleteAuthorizationResponse>, Status> {
        let Inner { pool, http, provider, app, .. } = &*self.0;
        let message = request.into_inner();
        let Some(Answer::CallbackUrl(callback)) = message.answer else {
            return Err(Status::invalid_argument("by callback_url alone"));
        };
        let callback = url::Url::parse(&callback).map_err(failed)?;
        let code = callback.query_pairs().find(|(name, _)| name == "code");
        let code = code.ok_or_else(|| Status::invalid_argument("without a code"))?.1.into_owned();
        let form = [
            ("client_id", app.client_id.as_str()),
            ("client_secret", &app.client_secret),
            ("grant_type", "authorization_code"),
            ("redirect_uri", REDIRECT_URI),
            ("code", &code),
        ];
        let short: Granted = ask(http.post(format!("{provider}/oauth/access_token")).form(&form)).await?;
        let query = [
            ("grant_type", "th_exchange_token"),
            ("client_secret", app.client_secret.as_str()),
            ("access_token", &short.access_token),
        ];
        let long: Granted = ask(http.get(format!("{provider}/access_token")).query(&query)).await?;
        let fields = "id,username,name,threads_profile_picture_url,threads_biography,is_verified";
        let me = http.get(format!("{provider}/v1.0/me")).query(&[("fields", fields)]);
        let me: Me = ask(me.bearer_auth(&long.access_token)).await?;
        let account_id = Uuid::from_bytes(secret::random());
        let user_id = message.user_id.unwrap_or_default();
        let insert = sqlx::query(LINK).bind(account_id).bind(&user_id).bind(long.access_token.as_bytes());
        let insert = insert.bind(long.expires_in).bind(&me.username).bind(&me.name);
        let insert = insert.bind(&me.threads_profile_picture_url).bind(&me.threads_biography);
        insert.bind(me.is_verified).execute(pool).await.map_err(failed)?;
        Ok(Response::new(CompleteAuthorizationResponse {
            account: Some(Account { account_id: account_id.to_string(), user_id, ..Account::default() }),
            profile: Some(ThreadsProfile {
                id: me.id,
                username: me.username,
                name: me.name,
                threads_profile_picture_url: me.threads_profile_picture_url,
                threads_biography: me.threads_biography,
                is_verified: me.is_verified,
            }),
            ..CompleteAuthorizationResponse::default()
        }))
    }

    async fn get_authorization(
        &self,
        _: Request<GetAuthorizationRequest>,
    ) -> Result<Response<GetAuthorizationResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}
