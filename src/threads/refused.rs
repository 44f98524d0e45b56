//! What a failure tells of the app's own configuration.

use super::failure::{Class, Failure};

/// Why an app cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Threads does not know the app: its id is most likely another product's.
    #[error(transparent)]
    App(Failure),
    /// Threads knows the app and does not take the secret.
    #[error(transparent)]
    Secret(Failure),
    /// Nothing that was answered tells.
    #[error(transparent)]
    Unanswered(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        match (failure.class, failure.code) {
            // no such application; the id of a Meta app of another kind
            (Class::Configuration, Some(101 | 1_349_026 | 4_476_002)) => Self::App(failure),
            (Class::Configuration, _) => Self::Secret(failure),
            _ => Self::Unanswered(failure),
        }
    }
}
