//! The files of TLS, taken anew when they have changed, so that a certificate is
//! renewed without a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::config::{Config, Tls};
use crate::listener::tls::{Application, Certified, Files, TlsError};
use crate::metrics::ReloadLabels;
use crate::service::Service;

/// How long changed files must stay as they are before they count: a certificate may
/// have been written and its key not yet.
const SETTLE: Duration = Duration::from_millis(200);

/// What the listeners serve with; nothing without `[server.tls]`.
#[derive(Default)]
pub(super) struct Certificates {
    seen: [u8; 32],
    /// When the one that was read first ends.
    end: Option<i64>,
    served: Vec<(Application, Arc<Certified>)>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the key of the configuration.
    pub async fn load(config: &Config) -> Result<Self, TlsError> {
        let Some(tls) = &config.server.tls else { return Ok(Self::default()) };
        let files = Files::read(tls).await;
        let mut served = vec![(Application::Grpc, Certified::new(tls, &files, Application::Grpc)?)];
        if config.server.http_tls {
            served.push((Application::Web, Certified::new(tls, &files, Application::Web)?));
        }
        Ok(Self { seen: files.digest(), end: files.certificate_end(), served })
    }

    pub fn grpc(&self) -> Option<Arc<Certified>> {
        self.of(Application::Grpc)
    }

    pub fn http(&self) -> Option<Arc<Certified>> {
        self.of(Application::Web)
    }

    fn of(&self, application: Application) -> Option<Arc<Certified>> {
        let mut served = self.served.iter();
        served.find(|(of, _)| *of == application).map(|(_, certified)| Arc::clone(certified))
    }

    /// Looks at the files again and again, by their paths, whatever those lead to.
    /// Never ends.
    pub async fn keep_current(&self, config: &Config, service: &Service) {
        let Some(tls) = &config.server.tls else { return std::future::pending().await };
        let count = |result| service.metrics.tls_reloads.get_or_create(&ReloadLabels { result }).inc();
        let note_end = |end: Option<i64>| service.metrics.tls_certificate_end.set(end.unwrap_or_default());
        note_end(self.end);
        let (mut seen, mut refused) = (self.seen, false);
        loop {
            sleep(tls.reload_interval).await;
            let found = Files::read(tls).await.digest();
            if found != seen {
                sleep(SETTLE.min(tls.reload_interval)).await;
                let files = Files::read(tls).await;
                if files.digest() != found {
                    continue;
                }
                seen = found;
                match self.take(tls, &files) {
                    Ok(()) => {
                        tracing::info!("took the certificate and the key anew");
                        count("taken");
                        note_end(files.certificate_end());
                        refused = false;
                    }
                    Err(error) => {
                        tracing::error!("the files of TLS cannot be used, all stays as it is: {error}");
                        refused = true;
                    }
                }
            }
            if refused {
                count("refused");
            }
        }
    }

    /// Takes them for all listeners or for none: what one can be served with, the
    /// other can, but for the clients' CA, and that is the first one's.
    fn take(&self, tls: &Tls, files: &Files) -> Result<(), TlsError> {
        self.served
            .iter()
            .try_for_each(|(application, certified)| certified.replace(tls, files, *application))
    }
}
