//! The edge without a connection, for tests that bring it arbitrary bytes. Not an API.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

use super::caller::Callers;
use super::outer::OuterService;
use super::page::List;
use crate::config::Config;
use crate::ids::AccountId;
use crate::sealing::LiveKeyring;
use crate::service::Service;

/// Everything between a connection's HTTP/2 and the flows: the outer layer, decoding,
/// validation.
pub struct Edge(OuterService<Routes>);

impl Edge {
    /// The edge of a service.
    ///
    /// # Errors
    /// If what answers cannot be set up.
    pub fn new(config: &Config, service: &Arc<Service>) -> Result<Self, Box<dyn std::error::Error>> {
        let callers = Callers::new(config, service)?;
        Ok(Self(super::server(service, callers, config.limits, false)?.0))
    }

    /// Makes a call as it comes from a connection.
    pub fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        self.0.clone().call(request)
    }
}

/// A list's page tokens: those that it gives, and where one leads.
pub struct Pages(List);

impl Pages {
    /// The list of a name, for a caller of an app, with a filter.
    #[must_use]
    pub fn new(name: &str, caller: &str, app_id: &str, user_id: Option<&str>) -> Self {
        Self(List::of(name, caller, app_id, user_id, &[]))
    }

    /// The token for what comes after an account.
    #[must_use]
    pub fn seal(&self, keyring: &LiveKeyring, last: AccountId) -> String {
        self.0.seal(keyring, Some(last))
    }

    /// Where a token leads; `None` for one that is not of this list.
    ///
    /// # Errors
    /// The status that a caller would get when the token's key is not there.
    pub fn open(&self, keyring: &LiveKeyring, token: &str) -> Result<Option<AccountId>, Status> {
        let mut fields = super::fields::Fields::default();
        let opened = self.0.open(keyring, &mut fields, token).map_err(super::status::from_error)?;
        assert_eq!(fields.check().is_err(), opened.is_none() && !token.is_empty());
        Ok(opened)
    }
}
