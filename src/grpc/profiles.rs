//! `ProfileService`.

use std::collections::HashSet;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::fields::Fields;
use super::page::List;
use super::{Api, answer, call, convert};
use crate::accounts::{self, AccountName};
use crate::config::Role;
use crate::error::{Error, Reason, Result};
use crate::ids::AccountId;
use crate::profiles;
use crate::proto::v1::get_profile_request::Account as AccountField;
use crate::proto::v1::profile_service_server::ProfileService;
use crate::proto::v1::{
    BatchGetProfilesRequest, BatchGetProfilesResponse, GetProfileRequest, GetProfileResponse,
    ListProfilesRequest, ListProfilesResponse,
};
use crate::states::AccountState;
use crate::store::accounts::Filter;

/// The most profiles in one call.
const BATCH_MAX: usize = 200;
/// The longest `max_age` that can be meant: some ten thousand years.
const MAX_AGE_MAX: Duration = Duration::from_secs(315_576_000_000);

#[tonic::async_trait]
impl ProfileService for Api {
    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> Result<Response<GetProfileResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let profile = async {
            caller.require(Role::Read)?;
            let mut fields = Fields::default();
            let name = match &message.account {
                None => fields.no_account(),
                Some(AccountField::AccountId(id)) => fields.account_id("account_id", id).map(AccountName::Id),
                Some(AccountField::ThreadsUserId(id)) => {
                    fields.threads_user_id("threads_user_id", id).map(AccountName::Threads)
                }
            };
            let user_id = message.user_id.as_deref();
            fields.optional_user_id("user_id", user_id);
            let max_age = fields.duration("max_age", message.max_age, MAX_AGE_MAX);
            fields.check()?;
            let name = name.ok_or_else(|| Error::new(Reason::AccountNotFound))?;
            profiles::get(&self.service, &caller.app, &name, user_id, max_age).await
        };
        answer(profile.await.map(|account| GetProfileResponse { profile: convert::account_profile(account) }))
    }

    async fn batch_get_profiles(
        &self,
        request: Request<BatchGetProfilesRequest>,
    ) -> Result<Response<BatchGetProfilesResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let profiles = async {
            caller.require(Role::Read)?;
            let mut fields = Fields::default();
            let ids = read_ids(&mut fields, &message.account_ids);
            fields.optional_user_id("user_id", message.user_id.as_deref());
            fields.check()?;
            let found =
                accounts::get_all(&self.service, &caller.app, ids, message.user_id.as_deref()).await?;
            let mut response = BatchGetProfilesResponse::default();
            for (id, account) in message.account_ids.iter().zip(found) {
                match account.and_then(convert::account_profile) {
                    Some(profile) => response.profiles.push(profile),
                    None => response.missing_account_ids.push(id.clone()),
                }
            }
            Ok(response)
        };
        answer(profiles.await)
    }

    async fn list_profiles(
        &self,
        request: Request<ListProfilesRequest>,
    ) -> Result<Response<ListProfilesResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let page = async {
            caller.require(Role::Read)?;
            let mut fields = Fields::default();
            fields.user_id("user_id", &message.user_id);
            let page_size = fields.page_size("page_size", message.page_size);
            let list = List::new("ListProfiles", caller, Some(&message.user_id), &[]);
            let after = list.open(&self.service.keyring, &mut fields, &message.page_token)?;
            fields.check()?;
            let states = [AccountState::Active, AccountState::ReauthorizationRequired];
            let filter = Filter { app_id: caller.app.id(), user_id: Some(&message.user_id), states: &states };
            let (page, next) = accounts::list(&self.service, &filter, after, page_size).await?;
            Ok(ListProfilesResponse {
                profiles: page.into_iter().filter_map(convert::account_profile).collect(),
                next_page_token: list.seal(&self.service.keyring, next),
            })
        };
        answer(page.await)
    }
}

fn read_ids(fields: &mut Fields, texts: &[String]) -> Vec<AccountId> {
    if texts.is_empty() {
        fields.bad("account_ids", "is required: 1 to 200 account ids");
    } else if texts.len() > BATCH_MAX {
        fields.bad("account_ids", "are more than 200");
        return Vec::new();
    }
    let mut seen = HashSet::with_capacity(texts.len());
    let mut ids = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let Some(id) = AccountId::parse(text) else {
            fields.bad(&format!("account_ids[{i}]"), "is not an account id: send it as this service gave it");
            continue;
        };
        if !seen.insert(id) {
            fields.bad(&format!("account_ids[{i}]"), "stands twice");
        }
        ids.push(id);
    }
    ids
}
