//! `[server.tls]`.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;

/// `[server.tls]`: the certificate that is served, and those that are asked for.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `certificate_file`: PEM, the server's own certificate first.
    pub certificate_file: PathBuf,
    /// `key_file`: PEM, the key that belongs to it.
    pub key_file: PathBuf,
    /// `client_ca_file`: PEM, whose signature makes a client's certificate good.
    /// Without it none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// `client_certificates`, default `required`: whether one can connect without.
    pub client_certificates: ClientCertificates,
    /// `reload_interval`, default 5 s: how often the files are looked at while the
    /// service runs.
    pub reload_interval: Duration,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Without a good one there is no connection.
    Required,
    /// Without one the caller is known by what it sends; with a bad one there is no
    /// connection.
    Optional,
}

impl Tls {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let certificate_file = section.path("certificate_file");
        let key_file = section.path("key_file");
        let client_ca_file = section.path("client_ca_file");
        let wish = section.string("client_certificates");
        let client_certificates = match wish.as_deref() {
            None | Some("required") => ClientCertificates::Required,
            Some("optional") => ClientCertificates::Optional,
            Some(_) => {
                section.problem("client_certificates", "must be \"required\" or \"optional\"");
                ClientCertificates::Required
            }
        };
        let reload_interval = section.duration("reload_interval", Duration::from_secs(5));
        if wish.is_some() && client_ca_file.is_none() && !section.has_problems_in("client_ca_file") {
            section
                .problem("client_certificates", "needs server.tls.client_ca_file, which says whose are good");
        }
        let wanted = certificate_file.is_some() || key_file.is_some() || client_ca_file.is_some();
        for (key, file, what) in [
            ("certificate_file", &certificate_file, "the certificate that is served"),
            ("key_file", &key_file, "the key of the certificate that is served"),
        ] {
            if wanted && file.is_none() && !section.has_problems_in(key) {
                section.problem(key, &format!("is required for TLS: {what}"));
            }
        }
        section.finish();
        Some(Self {
            certificate_file: certificate_file?,
            key_file: key_file?,
            client_ca_file,
            client_certificates,
            reload_interval,
        })
    }
}
