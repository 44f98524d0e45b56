//! The certificate that is served, and those that clients bring.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use crate::config::{ClientCertificates, Tls};

/// Why TLS cannot be served: the key of the configuration, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("server.tls.{key}: {what}")]
pub struct TlsError {
    key: &'static str,
    what: String,
}

fn wrong(key: &'static str, what: impl Into<String>) -> TlsError {
    TlsError { key, what: what.into() }
}

/// What the files hold.
pub struct Files {
    certificate: io::Result<Zeroizing<Vec<u8>>>,
    key: io::Result<Zeroizing<Vec<u8>>>,
    client_ca: Option<io::Result<Zeroizing<Vec<u8>>>>,
}

impl Files {
    /// Reads them, by their paths: whatever those lead to at this moment.
    pub async fn read(tls: &Tls) -> Self {
        let read = async |path: &Path| tokio::fs::read(path).await.map(Zeroizing::new);
        Self {
            certificate: read(&tls.certificate_file).await,
            key: read(&tls.key_file).await,
            client_ca: match &tls.client_ca_file {
                Some(path) => Some(read(path).await),
                None => None,
            },
        }
    }

    /// When the server's certificate ends, in seconds since 1970; `None` if it cannot
    /// be read.
    #[must_use]
    pub fn certificate_end(&self) -> Option<i64> {
        let first = CertificateDer::from_pem_slice(self.certificate.as_ref().ok()?).ok()?;
        let certificate = Certificate::from_der(&first).ok()?.tbs_certificate;
        i64::try_from(certificate.validity.not_after.to_unix_duration().as_secs()).ok()
    }

    /// What can be compared of them, without keeping a key about.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let part = |file: &io::Result<Zeroizing<Vec<u8>>>| match file {
            Ok(bytes) => crate::secret::sha256(&[b"held", bytes]),
            Err(error) => crate::secret::sha256(&[b"unreadable", error.kind().to_string().as_bytes()]),
        };
        let client_ca = self.client_ca.as_ref().map(part).unwrap_or_default();
        crate::secret::sha256(&[&part(&self.certificate), &part(&self.key), &client_ca])
    }
}

/// What a listener negotiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// HTTP/2, and certificates of clients if they are configured.
    Grpc,
    /// HTTP/1.1; browsers and Meta have no certificates.
    Web,
}

/// What is served at the moment, to every connection that begins.
pub struct Certified(ArcSwap<ServerConfig>);

impl Certified {
    /// Takes what the files hold.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(tls: &Tls, files: &Files, application: Application) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(server_config(tls, files, application)?))))
    }

    /// What a new connection is served with.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// From here on, what these files hold. Connections that are open stay as they
    /// are.
    ///
    /// # Errors
    /// [`TlsError`], and then all is as before.
    pub fn replace(&self, tls: &Tls, files: &Files, application: Application) -> Result<(), TlsError> {
        self.0.store(Arc::new(server_config(tls, files, application)?));
        Ok(())
    }
}

/// TLS 1.2 and 1.3: rustls knows nothing older.
fn server_config(tls: &Tls, files: &Files, application: Application) -> Result<ServerConfig, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("certificate_file", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(content("key_file", &files.key)?)
        .map_err(|_| wrong("key_file", "holds no private key in PEM"))?;
    let roots = match (&files.client_ca, application) {
        (Some(file), Application::Grpc) => Some(certificates("client_ca_file", file)?),
        _ => None,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("certificate_file", format!("TLS cannot be set up: {error}")))?;
    let asks_clients = roots.is_some();
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate).map_err(|error| {
                    wrong("client_ca_file", format!("holds what cannot be trusted: {error}"))
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match tls.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier
                .build()
                .map_err(|error| wrong("client_ca_file", format!("cannot be used: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong("key_file", "does not belong to the certificate in server.tls.certificate_file")
        }
        error => wrong("certificate_file", format!("cannot be served: {error}")),
    })?;
    config.alpn_protocols = match application {
        Application::Grpc => vec![b"h2".to_vec()],
        Application::Web => vec![b"http/1.1".to_vec()],
    };
    if asks_clients {
        // A session that is taken up again is not verified again, so that a certificate
        // would count for longer than it does.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn content<'a>(key: &'static str, file: &'a io::Result<Zeroizing<Vec<u8>>>) -> Result<&'a [u8], TlsError> {
    match file {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(wrong(key, format!("cannot be read: {error}"))),
    }
}

fn certificates(
    key: &'static str,
    file: &io::Result<Zeroizing<Vec<u8>>>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content(key, file)?).collect();
    let found = found.map_err(|error| wrong(key, format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(key, "holds no certificate in PEM"));
    }
    Ok(found)
}

/// The DNS and URI names of a certificate that has been verified.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Arc::default() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
