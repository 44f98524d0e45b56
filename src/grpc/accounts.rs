//! `AccountService`.

use tonic::{Request, Response, Status};

use super::fields::Fields;
use super::page::List;
use super::{Api, answer, call, convert, watch};
use crate::accounts::{self, AccountName};
use crate::config::Role;
use crate::erasures;
use crate::error::{Error, Reason, Result};
use crate::proto::v1::account::State;
use crate::proto::v1::account_service_server::AccountService;
use crate::proto::v1::get_account_request::Account as AccountField;
use crate::proto::v1::{
    EraseUserRequest, EraseUserResponse, GetAccountRequest, GetAccountResponse, ListAccountChangesRequest,
    ListAccountChangesResponse, ListAccountsRequest, ListAccountsResponse, UnlinkAccountRequest,
    UnlinkAccountResponse, WatchAccountsRequest,
};
use crate::states::AccountState;
use crate::store::accounts::Filter;

#[tonic::async_trait]
impl AccountService for Api {
    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let account = async {
            caller.require(Role::Read)?;
            let mut fields = Fields::default();
            let name = match &message.account {
                None => fields.no_account(),
                Some(AccountField::AccountId(id)) => fields.account_id("account_id", id).map(AccountName::Id),
                Some(AccountField::ThreadsUserId(id)) => {
                    fields.threads_user_id("threads_user_id", id).map(AccountName::Threads)
                }
            };
            fields.optional_user_id("user_id", message.user_id.as_deref());
            fields.check()?;
            let name = name.ok_or_else(|| Error::new(Reason::AccountNotFound))?;
            accounts::get(&self.service, &caller.app, &name, message.user_id.as_deref()).await
        };
        answer(account.await.map(|account| GetAccountResponse { account: Some(convert::account(account)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let page = async {
            caller.require(if message.user_id.is_some() { Role::Read } else { Role::Sync })?;
            let mut fields = Fields::default();
            let user_id = message.user_id.as_deref();
            fields.optional_user_id("user_id", user_id);
            let states = read_states(&mut fields, &message.states);
            let page_size = fields.page_size("page_size", message.page_size);
            let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
            let list = List::new("ListAccounts", caller, user_id, &names);
            let after = list.open(&self.service.keyring, &mut fields, &message.page_token)?;
            fields.check()?;
            let filter = Filter { app_id: caller.app.id(), user_id, states: &states };
            let (page, next) = accounts::list(&self.service, &filter, after, page_size).await?;
            Ok(ListAccountsResponse {
                accounts: page.into_iter().map(convert::account).collect(),
                next_page_token: list.seal(&self.service.keyring, next),
            })
        };
        answer(page.await)
    }

    async fn unlink_account(
        &self,
        request: Request<UnlinkAccountRequest>,
    ) -> Result<Response<UnlinkAccountResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let account = async {
            caller.require(Role::Link)?;
            let mut fields = Fields::default();
            let id = fields.account_id("account_id", &message.account_id);
            fields.user_id("user_id", &message.user_id);
            fields.check()?;
            let id = id.ok_or_else(|| Error::new(Reason::AccountNotFound))?;
            accounts::unlink(&self.service, &caller.app, id, &message.user_id).await
        };
        answer(
            account.await.map(|account| UnlinkAccountResponse { account: Some(convert::account(account)) }),
        )
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        let caller = call(&request)?.caller;
        let message = request.get_ref();
        let erased = async {
            caller.require(Role::Erase)?;
            let mut fields = Fields::default();
            fields.user_id("user_id", &message.user_id);
            fields.check()?;
            erasures::erase_user(&self.service, &caller.app, &message.user_id, &caller.name).await
        };
        let count = |erased| i32::try_from(erased).unwrap_or(i32::MAX);
        answer(erased.await.map(|erased| EraseUserResponse { erased_count: count(erased) }))
    }

    type WatchAccountsStream = watch::Messages;

    async fn watch_accounts(
        &self,
        request: Request<WatchAccountsRequest>,
    ) -> Result<Response<watch::Messages>, Status> {
        let call = call(&request)?;
        answer(watch::watch(&self.service, &self.callers, &call, request.get_ref()).await)
    }

    async fn list_account_changes(
        &self,
        request: Request<ListAccountChangesRequest>,
    ) -> Result<Response<ListAccountChangesResponse>, Status> {
        let call = call(&request)?;
        answer(watch::list(&self.service, &call, request.get_ref()).await)
    }
}

/// The states of a filter in one order, so that one filter has one page token.
fn read_states(fields: &mut Fields, states: &[i32]) -> Vec<AccountState> {
    if states.is_empty() {
        return vec![AccountState::Active, AccountState::ReauthorizationRequired];
    }
    let mut wanted = [false; 3];
    for (i, state) in states.iter().enumerate() {
        let at = match State::try_from(*state) {
            Ok(State::Active) => 0,
            Ok(State::ReauthorizationRequired) => 1,
            Ok(State::Unlinked) => 2,
            Ok(State::Unspecified) | Err(_) => {
                fields.bad(&format!("states[{i}]"), "is not a known state");
                continue;
            }
        };
        if std::mem::replace(&mut wanted[at], true) {
            fields.bad(&format!("states[{i}]"), "stands twice");
        }
    }
    let all = [AccountState::Active, AccountState::ReauthorizationRequired, AccountState::Unlinked];
    all.into_iter().zip(wanted).filter_map(|(state, wanted)| wanted.then_some(state)).collect()
}
