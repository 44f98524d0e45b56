//! `WatchAccounts` and `ListAccountChanges`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tonic::Status;

use super::caller::{Caller, Callers};
use super::fields::Fields;
use super::status::{self, REQUEST_ID};
use super::{Call, convert};
use crate::config::Role;
use crate::error::Result;
use crate::events::{self, Cursor, Interest, Told};
use crate::proto::v1::{
    ListAccountChangesRequest, ListAccountChangesResponse, WatchAccountsRequest, WatchAccountsResponse,
};
use crate::service::Service;

/// The messages of a watch.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<WatchAccountsResponse, Status>> + Send>>;

/// Opens a watch.
pub(super) async fn watch(
    service: &Arc<Service>,
    callers: &Callers,
    call: &Call<'_>,
    message: &WatchAccountsRequest,
) -> Result<Messages> {
    let user_id = message.user_id.as_deref();
    let role = required_role(user_id);
    call.caller.require(role)?;
    let mut fields = Fields::default();
    let (interest, cursor) = read(service, call.caller, &mut fields, user_id, message.cursor.as_deref());
    fields.check()?;
    let revoked = callers.clone().revoked(Arc::clone(call.caller), role);
    let watch = events::watch(service, interest, cursor?, call.patience, revoked).await?;
    // The stream is drained outside of the call that opened it.
    let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let messages = watch.map(move |told| match told {
        Ok(Told { cursor, change }) => {
            Ok(WatchAccountsResponse { cursor, change: change.map(convert::account_change) })
        }
        Err(error) => Err(REQUEST_ID.sync_scope(request_id.clone(), || status::from_error(error))),
    });
    Ok(Box::pin(messages))
}

/// Lists changes.
pub(super) async fn list(
    service: &Service,
    call: &Call<'_>,
    message: &ListAccountChangesRequest,
) -> Result<ListAccountChangesResponse> {
    let user_id = message.user_id.as_deref();
    call.caller.require(required_role(user_id))?;
    let mut fields = Fields::default();
    let page_size = fields.page_size("page_size", message.page_size);
    let (interest, cursor) = read(service, call.caller, &mut fields, user_id, message.cursor.as_deref());
    fields.check()?;
    let page = events::list(service, &interest, cursor?, page_size).await?;
    Ok(ListAccountChangesResponse {
        changes: page.changes.into_iter().map(convert::account_change).collect(),
        cursor: page.cursor,
        more: page.more,
    })
}

fn required_role(user_id: Option<&str>) -> Role {
    if user_id.is_some() { Role::Read } else { Role::Sync }
}

/// What is asked for, and from where. A cursor that is good in itself but no
/// longer usable is told of after the fields.
fn read(
    service: &Service,
    caller: &Caller,
    fields: &mut Fields,
    user_id: Option<&str>,
    cursor: Option<&str>,
) -> (Interest, Result<Option<Cursor>>) {
    fields.optional_user_id("user_id", user_id);
    let app_id = caller.app.id();
    let cursor = fields.cursor(&service.keyring, app_id, cursor);
    (Interest { app_id: app_id.to_owned(), user_id: user_id.map(str::to_owned) }, cursor)
}
