//! Rival (a): a bare service that has every answer in memory.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::PgPool;
use threads_identity::proto::v1::authorization_service_server::{
    AuthorizationService, AuthorizationServiceServer,
};
use threads_identity::proto::v1::get_profile_request::Account;
use threads_identity::proto::v1::profile_service_server::{ProfileService, ProfileServiceServer};
use threads_identity::proto::v1::{
    AccountProfile, BatchGetProfilesRequest, BatchGetProfilesResponse, CompleteAuthorizationRequest,
    CompleteAuthorizationResponse, CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse,
    GetAuthorizationRequest, GetAuthorizationResponse, GetProfileRequest, GetProfileResponse,
    ListProfilesRequest, ListProfilesResponse,
};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use super::ProfileRow;

#[derive(Clone)]
struct Memory {
    profiles: Arc<HashMap<String, AccountProfile>>,
    url: CreateAuthorizationUrlResponse,
}

pub(super) async fn router(pool: &PgPool, provider: &str) -> Router {
    let rows = sqlx::query_as::<_, ProfileRow>(
        "select account_id, user_id, threads_user_id, username, name, picture_url, biography, is_verified,
                profile_fetch_time
         from accounts",
    );
    let profiles = rows.fetch(pool).map_ok(AccountProfile::from);
    let profiles = profiles.map_ok(|profile| (profile.account_id.clone(), profile)).try_collect().await;
    let memory = Memory { profiles: Arc::new(profiles.unwrap()), url: super::authorization_url(provider) };
    Server::builder()
        .add_service(ProfileServiceServer::new(memory.clone()))
        .add_service(AuthorizationServiceServer::new(memory))
}

#[tonic::async_trait]
impl ProfileService for Memory {
    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> Result<Response<GetProfileResponse>, Status> {
        let Some(Account::AccountId(id)) = &request.get_ref().account else {
            return Err(Status::invalid_argument("by account_id alone"));
        };
        let profile = self.profiles.get(id).cloned().ok_or_else(|| Status::not_found("nobody"))?;
        Ok(Response::new(GetProfileResponse { profile: Some(profile) }))
    }

    async fn batch_get_profiles(
        &self,
        request: Request<BatchGetProfilesRequest>,
    ) -> Result<Response<BatchGetProfilesResponse>, Status> {
        let mut response = BatchGetProfilesResponse::default();
        for id in request.into_inner().account_ids {
            match self.profiles.get(&id) {
                Some(profile) => response.profiles.push(profile.clone()),
                None => response.missing_account_ids.push(id),
            }
        }
        Ok(Response::new(response))
    }

    async fn list_profiles(
        &self,
        _: Request<ListProfilesRequest>,
    ) -> Result<Response<ListProfilesResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}

#[tonic::async_trait]
impl AuthorizationService for Memory {
    async fn create_authorization_url(
        &self,
        _: Request<CreateAuthorizationUrlRequest>,
    ) -> Result<Response<CreateAuthorizationUrlResponse>, Status> {
        Ok(Response::new(self.url.clone()))
    }

    async fn complete_authorization(
        &self,
        _: Request<CompleteAuthorizationRequest>,
    ) -> Result<Response<CompleteAuthorizationResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }

    async fn get_authorization(
        &self,
        _: Request<GetAuthorizationRequest>,
    ) -> Result<Response<GetAuthorizationResponse>, Status> {
        Err(Status::unimplemented("not compared"))
    }
}
