//! The certificate that is served.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::Report;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Tls};
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
    examine_end(report, tls);
}

fn examine_end(report: &mut Report, tls: &Tls) {
    const SUBJECT: &str = "server.tls.certificate_file";
    const FIX: &str = "Renew it and write it over: the service takes it within server.tls.reload_interval.";
    let Some(end) = end(tls) else { return };
    let left = (end - SystemClock.now()).whole_days();
    let found = format!("good until {}", end.date());
    if end < SystemClock.now() {
        report.problem(SUBJECT, format!("was {found}, and nobody believes it now"), FIX);
    } else if left < DAYS_LEFT_MIN {
        report.warning(SUBJECT, format!("{found}, {left} days from now"), FIX);
    } else {
        report.ok(SUBJECT, found);
    }
}

/// When the server's own certificate ends.
fn end(tls: &Tls) -> Option<OffsetDateTime> {
    let first = CertificateDer::from_pem_file(&tls.certificate_file).ok()?;
    let certificate = Certificate::from_der(&first).ok()?;
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    OffsetDateTime::from_unix_timestamp(i64::try_from(end.as_secs()).ok()?).ok()
}
