//! Whether this process can do its work: the database answers, belongs to us and
//! is up to date, its clock agrees with ours, and no key is missing here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::service::{CLOCK_SKEW_MAX, Service};
use crate::store::deployment::{self, Unfit};
use crate::store::{StoreError, keys, self_test};

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
    /// must end the process: a database that belongs to another keyring, is older
    /// than this version, or was put back and may hold people who were erased, and
    /// a way to it that mixes up statements.
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
            // Something about the keys: no need to wait, and no look per failing call.
            let concerned = async {
                service.keyring.concern().await;
                sleep(LOOK_UNREADY).await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = concerned => {}
                () = service.stopping.cancelled() => return Ok(()),
            }
        }
    }
}

/// Looks once, before anything is served or begun, for what must end the
/// process. A database that is away is looked at again.
///
/// # Errors
/// [`Unfit`], never for a database that is merely away.
pub async fn refuse_unfit(service: &Service) -> Result<(), Unfit> {
    match check(service).await {
        Ok(()) | Err(Unfit::Store(_)) => Ok(()),
        Err(unfit) => Err(unfit),
    }
}

async fn check(service: &Service) -> Result<(), Unfit> {
    let store = &service.store;
    if !store.is_proven.load(Ordering::Relaxed) {
        self_test::run_through(&store.pool).await?;
        store.is_proven.store(true, Ordering::Relaxed);
    }
    let fingerprint = service.keyring.id_key().fingerprint();
    deployment::check(&service.store.pool, &fingerprint, service.clock.now()).await
}

/// Looks once at what is in the way of work.
///
/// # Errors
/// [`Unfit`], never for a database that is merely away.
pub async fn look(service: &Service) -> Result<Obstacle, Unfit> {
    match check(service).await {
        Ok(()) => {}
        Err(Unfit::Store(error)) => {
            // What comes back may be reached by another way.
            service.store.is_proven.store(false, Ordering::Relaxed);
            return Ok(Some(unavailable(&error)));
        }
        Err(unfit) => return Err(unfit),
    }
    let skew = match service.clock_skew().await {
        Ok(skew) => skew,
        Err(error) => return Ok(Some(unavailable(&error))),
    };
    if skew.abs() > CLOCK_SKEW_MAX && service.clock.is_real() {
        return Ok(Some("this process' clock and Postgres' are more than 5 s apart"));
    }
    Ok(look_at_keys(service).await.unwrap_or_else(|error| Some(unavailable(&error))))
}

/// Reports the key that this process seals under, and sees what others do.
async fn look_at_keys(service: &Service) -> Result<Obstacle, StoreError> {
    let keyring = service.keyring.current();
    let active = keyring.active_id();
    let known = keys::report_active(&service.store.pool, &active, service.clock.now()).await?;
    let (retired, needed): (Vec<_>, Vec<_>) = known.into_iter().partition(|key| key.retire_time.is_some());
    let is_retired = retired.iter().any(|key| key.key_id == active);
    service.keyring.set_retired(retired.into_iter().map(|key| key.key_id).collect());
    let needed = needed.into_iter().map(|key| key.key_id);
    let lacking: Vec<String> = needed.filter(|id| !keyring.has(id)).collect();
    let lacks = !lacking.is_empty();
    service.keyring.set_lacking(lacking);
    Ok(if is_retired {
        Some("this replica seals under a key that has been retired: its keyring is out of date")
    } else {
        lacks.then_some("this replica lacks a key that values are sealed under: its keyring is out of date")
    })
}

fn unavailable(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(why) => why,
        StoreError::Conflict | StoreError::Overloaded => "the database is busy",
        StoreError::Refused(_) => "the database refuses a check",
    }
}
