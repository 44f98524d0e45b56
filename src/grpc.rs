//! The gRPC edge: the four services, health and reflection, behind one outer
//! layer. It parses, calls a flow, and converts; it decides nothing.

use std::sync::Arc;

use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Response};
use tonic_health::server::HealthReporter;
use tower::Layer as _;

use crate::config::Limits;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::access_token_service_server::AccessTokenServiceServer;
use crate::proto::v1::account_service_server::AccountServiceServer;
use crate::proto::v1::authorization_service_server::AuthorizationServiceServer;
use crate::proto::v1::profile_service_server::ProfileServiceServer;
use crate::service::Service;

mod access_tokens;
mod accounts;
mod arrival;
mod authorizations;
mod callback;
mod caller;
mod convert;
mod deadline;
mod ending;
mod failpoint;
mod fields;
#[doc(hidden)]
pub mod fuzzing;
mod outer;
mod page;
mod profiles;
mod room;
mod status;
mod watch;

pub use caller::{CALLER_KEY_PREFIX, Callers, Refusal, Refused, new_caller_key};
pub use status::code as code_of;

use caller::Caller;
pub use outer::{OuterService, PROVIDER_METHODS};

use deadline::{Deadline, Patience};
use outer::Outer;

/// The names under which health is told.
const HEALTHY: [&str; 5] = [
    "",
    <AuthorizationServiceServer<Api> as NamedService>::NAME,
    <AccountServiceServer<Api> as NamedService>::NAME,
    <ProfileServiceServer<Api> as NamedService>::NAME,
    <AccessTokenServiceServer<Api> as NamedService>::NAME,
];

/// What answers calls.
#[derive(Clone)]
struct Api {
    service: Arc<Service>,
    callers: Callers,
}

/// Who calls, and until when an answer is of use.
struct Call<'a> {
    caller: &'a Arc<Caller>,
    deadline: tokio::time::Instant,
    /// The caller's own deadline.
    patience: Option<tokio::time::Instant>,
}

/// The call that the outer layer has let through.
fn call<T>(request: &Request<T>) -> Result<Call<'_>, tonic::Status> {
    let extensions = request.extensions();
    let (Some(caller), Some(deadline)) = (extensions.get::<Arc<Caller>>(), extensions.get::<Deadline>())
    else {
        // Only if the outer layer were left out.
        return Err(status::from_error(crate::error::Error::internal("a call without a caller")));
    };
    let patience = extensions.get::<Patience>().and_then(|patience| patience.0);
    Ok(Call { caller, deadline: deadline.0, patience })
}

/// Answers with a message, or with the status of an error.
fn answer<T>(result: crate::error::Result<T>) -> Result<Response<T>, tonic::Status> {
    result.map(Response::new).map_err(status::from_error)
}

/// What answers every call, ready to be given connections, and the switch of its
/// health.
///
/// # Errors
/// If the descriptors cannot be reflected, which a build that works rules out.
pub fn server(
    service: &Arc<Service>,
    callers: Callers,
    limits: Limits,
    reflection: bool,
) -> Result<(OuterService<Routes>, Health), tonic_reflection::server::Error> {
    let api = Api { service: Arc::clone(service), callers: callers.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that tools can show what is in an error's details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let (request_max, response_max) = (limits.request_bytes_max, limits.response_bytes_max);
    let mut routes = Routes::new(health)
        .add_service(
            AuthorizationServiceServer::new(api.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            AccountServiceServer::new(api.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            ProfileServiceServer::new(api.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            AccessTokenServiceServer::new(api)
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        );
    if reflection {
        // Python's and older tools still ask by the name it had before.
        routes = routes.add_service(describe().build_v1()?).add_service(describe().build_v1alpha()?);
    }
    let server = Outer::new(Arc::clone(service), callers, limits).layer(routes.prepare());
    Ok((server, Health(reporter)))
}

/// What `grpc.health.v1` tells.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Says for every service whether it can be used.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for name in HEALTHY {
            self.0.set_service_status(name, status).await;
        }
    }
}
