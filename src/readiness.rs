//! Whether this process can do its work: the database answers, belongs to us and
//! is up to date, and its clock agrees with ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::service::{CLOCK_SKEW_MAX, Service};
use crate::store::StoreError;
use crate::store::deployment::{self, Unfit};

/// How often it is looked at while all is well, and while it is not.
const LOOK_READY: Duration = Duration::from_secs(30);
const LOOK_UNREADY: Duration = Duration::from_secs(1);

/// What is in the way of readiness; `None` when nothing is.
pub type Obstacle = Option<&'static str>;

/// The answer to `/readyz`, and who wants to hear of changes.
#[derive(Clone)]
pub struct Readiness(watch::Sender<Obstacle>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Some("the database has not been looked at yet")))
    }
}

impl Readiness {
    /// What is in the way now.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        *self.0.borrow()
    }

    /// Follows changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Obstacle> {
        self.0.subscribe()
    }

    /// Says that the process is about to stop.
    pub fn set_stopping(&self) {
        self.0.send_replace(Some("this replica is about to stop"));
    }

    fn set(&self, obstacle: Obstacle) {
        self.0.send_if_modified(|current| {
            let changed = *current != obstacle;
            if changed {
                match obstacle {
                    None => tracing::info!("ready"),
                    Some(why) => tracing::warn!(why, "not ready"),
                }
                *current = obstacle;
            }
            changed
        });
    }

    /// Looks again and again until the service stops. Ends early only for what
    /// must end the process: a database that belongs to another keyring, or is
    /// older than this version.
    ///
    /// # Errors
    /// [`Unfit`], never for a database that is merely away.
    pub async fn watch(&self, service: &Arc<Service>) -> Result<(), Unfit> {
        loop {
            let obstacle = look(service).await?;
            if service.stopping.is_cancelled() {
                return Ok(());
            }
            self.set(obstacle);
            let pause = if obstacle.is_none() { LOOK_READY } else { LOOK_UNREADY };
            tokio::select! {
                () = sleep(pause) => {}
                () = service.stopping.cancelled() => return Ok(()),
            }
        }
    }
}

async fn look(service: &Service) -> Result<Obstacle, Unfit> {
    let pool = &service.store.pool;
    let fingerprint = service.keyring.id_key().fingerprint();
    match deployment::check(pool, &fingerprint, service.clock.now()).await {
        Ok(()) => {}
        Err(Unfit::Store(error)) => return Ok(Some(unavailable(&error))),
        Err(unfit) => return Err(unfit),
    }
    let skew = match service.clock_skew().await {
        Ok(skew) => skew,
        Err(error) => return Ok(Some(unavailable(&error))),
    };
    let is_apart = skew.abs() > CLOCK_SKEW_MAX && service.clock.is_real();
    Ok(is_apart.then_some("this process' clock and Postgres' are more than 5 s apart"))
}

fn unavailable(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(why) => why,
        StoreError::Conflict | StoreError::Overloaded => "the database is busy",
        StoreError::Refused(_) => "the database refuses a check",
    }
}
