//! The certificate that is served.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5280::ID_KP_SERVER_AUTH;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::time::Time;
use x509_cert::{Certificate, TbsCertificate};

use super::Report;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::listener::tls::{Application, Certified, Files};

/// How long before its end somebody should know, in days.
const DAYS_LEFT_MIN: i64 = 14;

/// Looks at `[server.tls]`, if there is one.
pub(super) async fn examine(report: &mut Report, config: &Config) {
    let Some(tls) = &config.server.tls else { return };
    let files = Files::read(tls).await;
    if let Err(error) = Certified::new(tls, &files, Application::Grpc) {
        let text = error.to_string();
        let (subject, found) = text.split_once(": ").unwrap_or(("server.tls", &text));
        report.problem(subject, found, "`serve` would not start; a service that runs keeps what it has.");
        return;
    }
    report.ok("server.tls", "the certificate and the key fit together");
    if let Some(certificate) = read(&tls.certificate_file) {
        examine_use(report, &certificate);
        examine_time(report, &certificate);
    }
    if let Some(path) = &tls.client_ca_file {
        examine_authority(report, path);
    }
}

/// Whether clients will believe it of a server.
fn examine_use(report: &mut Report, certificate: &TbsCertificate) {
    const SUBJECT: &str = "server.tls.certificate_file";
    let usage = certificate.get::<ExtendedKeyUsage>();
    if let Ok(Some((_, usage))) = usage
        && !usage.0.contains(&ID_KP_SERVER_AUTH)
    {
        let fix = "Have one made for serverAuth; this one may be a client's.";
        report.problem(SUBJECT, "is not for servers: no client will believe it", fix);
    }
    if !matches!(certificate.get::<SubjectAltName>(), Ok(Some((_, names))) if !names.0.is_empty()) {
        let fix = "Have one made with the name that callers connect to as a subject alternative name.";
        report.problem(SUBJECT, "has no name that a client could compare", fix);
    }
}

/// Whether client certificates can be signed by what is configured.
fn examine_authority(report: &mut Report, path: &Path) {
    const SUBJECT: &str = "server.tls.client_ca_file";
    let Some(certificate) = read(path) else { return };
    match certificate.get::<BasicConstraints>() {
        Ok(Some((_, constraints))) if constraints.ca => report.ok(SUBJECT, "is an authority's"),
        _ => report.problem(
            SUBJECT,
            "is no authority's certificate: no client certificate can be good by it",
            "Put the certificate of the CA there that signs those of clients.",
        ),
    }
}

fn examine_time(report: &mut Report, certificate: &TbsCertificate) {
    const SUBJECT: &str = "server.tls.certificate_file";
    const FIX: &str = "Renew it and write it over: the service takes it within server.tls.reload_interval.";
    let time = |time: Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
        OffsetDateTime::from_unix_timestamp(seconds).ok()
    };
    let validity = certificate.validity;
    let (Some(begin), Some(end)) = (time(validity.not_before), time(validity.not_after)) else { return };
    let (now, left) = (SystemClock.now(), (end - SystemClock.now()).whole_days());
    let found = format!("good until {}", end.date());
    if now < begin {
        let found = format!("is good from {} on, and not before", begin.date());
        report.problem(SUBJECT, found, "Wait, set the clock right, or have another one made.");
    } else if end < now {
        report.problem(SUBJECT, format!("was {found}, and nobody believes it now"), FIX);
    } else if left < DAYS_LEFT_MIN {
        report.warning(SUBJECT, format!("{found}, {left} days from now"), FIX);
    } else {
        report.ok(SUBJECT, found);
    }
}

/// The first certificate of a file.
fn read(path: &Path) -> Option<TbsCertificate> {
    let first = CertificateDer::from_pem_file(path).ok()?;
    Some(Certificate::from_der(&first).ok()?.tbs_certificate)
}
