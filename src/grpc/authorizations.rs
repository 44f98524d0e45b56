//! `AuthorizationService`.

use tonic::{Request, Response, Status};
use url::Url;

use super::fields::Fields;
use super::{Api, answer, call, callback, convert};
use crate::authorizations::{self, Answer, Completion, Creation, Flow, Presented, TICKET_MAX};
use crate::config::{RETURN_TO_MAX, Role};
use crate::error::{Error, Reason, Result};
use crate::proto::v1::authorization_service_server::AuthorizationService;
use crate::proto::v1::complete_authorization_request::Answer as AnswerField;
use crate::proto::v1::create_authorization_url_request::{Flow as FlowField, Link, SignIn};
use crate::proto::v1::{
    CompleteAuthorizationRequest, CompleteAuthorizationResponse, CreateAuthorizationUrlRequest,
    CreateAuthorizationUrlResponse, GetAuthorizationRequest, GetAuthorizationResponse, OnConflict,
};
use crate::service::App;

#[tonic::async_trait]
impl AuthorizationService for Api {
    async fn create_authorization_url(
        &self,
        request: Request<CreateAuthorizationUrlRequest>,
    ) -> Result<Response<CreateAuthorizationUrlResponse>, Status> {
        let caller = call(&request)?.caller;
        let (app, role) = (caller.app.clone(), caller.require(Role::Link));
        let transfer_role = caller.require(Role::Transfer);
        let message = request.into_inner();
        answer(role.and_then(|()| {
            let creation = read_creation(message, &app)?;
            if matches!(creation.flow, Flow::Link { transfer: true, .. }) {
                transfer_role?;
            }
            let created = authorizations::create(&self.service, &app, creation)?;
            Ok(CreateAuthorizationUrlResponse {
                authorization_id: created.id.to_string(),
                authorization_url: created.url,
                state: created.state,
                expire_time: Some(convert::timestamp(created.expire_time)),
            })
        }))
    }

    async fn complete_authorization(
        &self,
        request: Request<CompleteAuthorizationRequest>,
    ) -> Result<Response<CompleteAuthorizationResponse>, Status> {
        let call = call(&request)?;
        let (app, caller, deadline) = (call.caller.app.clone(), call.caller.name.clone(), call.deadline);
        let role = call.caller.require(Role::Link);
        let message = request.into_inner();
        let completed = async {
            role?;
            let completion = read_completion(message, caller)?;
            authorizations::complete(&self.service, &app, completion, deadline).await
        };
        answer(completed.await.map(convert::completed))
    }

    async fn get_authorization(
        &self,
        request: Request<GetAuthorizationRequest>,
    ) -> Result<Response<GetAuthorizationResponse>, Status> {
        let caller = call(&request)?.caller;
        let found = async {
            caller.require(Role::Link)?;
            let mut fields = Fields::default();
            let id = fields.authorization_id("authorization_id", &request.get_ref().authorization_id);
            fields.check()?;
            let id = id.ok_or_else(|| Error::new(Reason::AuthorizationNotFound))?;
            authorizations::get(&self.service, &caller.app, id).await
        };
        answer(
            found
                .await
                .map(|found| GetAuthorizationResponse { authorization: Some(convert::authorization(found)) }),
        )
    }
}

fn read_creation(message: CreateAuthorizationUrlRequest, app: &App) -> Result<Creation> {
    let mut fields = Fields::default();
    let flow = match message.flow {
        None => {
            fields.bad("flow", "is required: link or sign_in");
            None
        }
        Some(FlowField::Link(link)) => Some(read_link(&mut fields, link)),
        Some(FlowField::SignIn(SignIn { session_binding })) => {
            fields.session_binding("sign_in.session_binding", &session_binding);
            Some(Flow::SignIn { session_binding })
        }
    };
    match &message.redirect_uri {
        Some(uri) if uri.is_empty() => {
            fields.bad("redirect_uri", "is present but empty: leave it out or name one of the app's");
        }
        // Byte for byte: Threads compares it so too.
        Some(uri) if !app.config.redirect_uris.contains(uri) => {
            fields.bad("redirect_uri", "must be one of the app's redirect URIs, byte for byte");
        }
        _ => {}
    }
    fields.scopes("scopes", &message.scopes);
    let return_to = message.return_to.as_deref().and_then(|url| read_return_to(&mut fields, url, app));
    fields.check()?;
    let flow = flow.ok_or_else(|| Error::field("flow", "is required: link or sign_in"))?;
    Ok(Creation { flow, redirect_uri: message.redirect_uri, scopes: message.scopes, return_to })
}

/// One of the app's addresses to return to: compared whole, part by part.
fn read_return_to(fields: &mut Fields, text: &str, app: &App) -> Option<Url> {
    const FIELD: &str = "return_to";
    if text.is_empty() {
        fields.bad(FIELD, "is present but empty: leave it out or name one of the app's");
        return None;
    }
    let url = (text.len() <= RETURN_TO_MAX).then(|| Url::parse(text).ok()).flatten();
    let known = url.filter(|url| app.config.return_to.contains(url));
    if known.is_none() {
        fields.bad(FIELD, "must be one of the app's return_to: scheme, host, port, path and query");
    }
    known
}

fn read_link(fields: &mut Fields, link: Link) -> Flow {
    fields.user_id("link.user_id", &link.user_id);
    if let Some(binding) = &link.session_binding {
        fields.session_binding("link.session_binding", binding);
    }
    let account_id = link.account_id.as_deref().and_then(|id| fields.account_id("link.account_id", id));
    let transfer = match OnConflict::try_from(link.on_conflict) {
        Ok(OnConflict::Unspecified | OnConflict::Reject) => false,
        Ok(OnConflict::Transfer) => true,
        Err(_) => {
            fields.bad("link.on_conflict", "is not a known value");
            false
        }
    };
    if transfer && link.account_id.is_some() {
        fields.bad("link.on_conflict", "cannot be TRANSFER together with account_id");
    }
    Flow::Link { user_id: link.user_id, session_binding: link.session_binding, account_id, transfer }
}

const ANSWER_REQUIRED: &str = "is required: callback_url, parameters or ticket";

fn of_state((state, answer): (String, Option<Answer>)) -> Option<Presented> {
    answer.map(|answer| Presented::State(state, answer))
}

fn read_completion(message: CompleteAuthorizationRequest, caller: String) -> Result<Completion> {
    let mut fields = Fields::default();
    fields.optional_user_id("user_id", message.user_id.as_deref());
    if let Some(binding) = &message.session_binding {
        fields.session_binding("session_binding", binding);
    }
    let read = match message.answer {
        None => {
            fields.bad("answer", ANSWER_REQUIRED);
            None
        }
        Some(AnswerField::CallbackUrl(url)) => of_state(callback::from_url(&mut fields, &url)?),
        Some(AnswerField::Parameters(parameters)) => {
            of_state(callback::from_parameters(&mut fields, parameters)?)
        }
        Some(AnswerField::Ticket(ticket)) => {
            if ticket.is_empty() {
                fields.bad("ticket", "is present but empty");
            }
            Some(Presented::Ticket(ticket))
        }
    };
    fields.check()?;
    let presented = read.ok_or_else(|| Error::field("answer", ANSWER_REQUIRED))?;
    if matches!(&presented, Presented::Ticket(ticket) if ticket.len() > TICKET_MAX) {
        return Err(Error::new(Reason::StateInvalid));
    }
    Ok(Completion { presented, user_id: message.user_id, session_binding: message.session_binding, caller })
}
