//! What commands need that work beside the service, with all that it has.

use std::path::Path;
use std::sync::Arc;

use super::Variables;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::service::{App, Service};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Builds the service and finds an app: the one that is named, the only one, or the
/// default one.
pub(super) fn build(
    file: Option<&Path>,
    app: Option<&str>,
    variables: &Variables,
) -> Result<(Arc<Service>, Arc<App>), Failure> {
    let config = Config::load(file, variables.iter().cloned())?;
    let service = Service::new(&config, Arc::new(SystemClock))?;
    let Some(found) = service.app(app).cloned() else {
        let known: Vec<&str> = service.apps.keys().map(String::as_str).collect();
        let named = app.map_or_else(|| "is required".to_owned(), |app| format!("{app:?} is not configured"));
        return Err(format!("--app: {named}; there are {}", known.join(", ")).into());
    };
    Ok((Arc::new(service), found))
}
