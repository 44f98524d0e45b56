//! How Postgres is reached.

use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::{Host, Url};

use crate::secret::DatabaseUrl;

/// A database URL that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("database.url is not a Postgres URL such as postgres://user:password@host/database")]
pub struct UrlError;

/// The options of every connection. Where the URL says nothing else (`sslmode`),
/// a server on another machine must prove who it is: sqlx's own default would
/// take plaintext without a word.
///
/// # Errors
/// If the URL cannot be read.
pub fn connect_options(url: &DatabaseUrl) -> Result<PgConnectOptions, UrlError> {
    Ok(foreign_options(url)?.options(LIMITS))
}

/// The same for a database that is not ours: it knows best what it allows.
///
/// # Errors
/// If the URL cannot be read.
pub(super) fn foreign_options(url: &DatabaseUrl) -> Result<PgConnectOptions, UrlError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|_| UrlError)?;
    let is_default = matches!(options.get_ssl_mode(), PgSslMode::Prefer) && !names_ssl_mode(url);
    let options =
        if is_default && !is_local(&options) { options.ssl_mode(PgSslMode::VerifyFull) } else { options };
    Ok(options
        .application_name("threads-identity")
        // Only text shows it, and PgBouncer refuses it.
        .extra_float_digits(None)
        .disable_statement_logging())
}

/// What Postgres limits in each of our sessions.
const LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "2s"),
    // Longer than Postgres' deadlock_timeout of 1 s: a circle is to end as a
    // deadlock, which is tried again, and not as a lock that was not free.
    ("lock_timeout", "1500ms"),
    ("idle_in_transaction_session_timeout", "5s"),
];

fn names_ssl_mode(url: &DatabaseUrl) -> bool {
    Url::parse(url.expose())
        .is_ok_and(|url| url.query_pairs().any(|(key, _)| matches!(&*key, "sslmode" | "ssl-mode")))
}

/// Whether nobody can listen in between.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || match Host::parse(host) {
            Ok(Host::Domain(name)) => name == "localhost",
            Ok(Host::Ipv4(address)) => address.is_loopback(),
            Ok(Host::Ipv6(address)) => address.is_loopback(),
            Err(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> String {
        let options = connect_options(&DatabaseUrl::new(url.to_owned())).unwrap();
        format!("{:?}", options.get_ssl_mode())
    }

    #[test]
    fn a_server_elsewhere_shows_its_certificate_unless_the_url_says_otherwise() {
        for elsewhere in ["db.example.com", "10.0.0.7", "localhost.example.com", "[2001:db8::1]", "::"] {
            let Ok(_) = Url::parse(&format!("postgres://u:p@{elsewhere}/d")) else { continue };
            assert_eq!(mode(&format!("postgres://u:p@{elsewhere}/d")), "VerifyFull", "{elsewhere}");
            for said in ["disable", "prefer", "require", "verify-ca"] {
                let told = mode(&format!("postgres://u:p@{elsewhere}/d?sslmode={said}"));
                assert_ne!(told, "VerifyFull", "{elsewhere} {said}");
            }
        }
        for here in ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "%2Fvar%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://u:p@{here}/d")), "Prefer", "{here}");
            assert_eq!(mode(&format!("postgres://u:p@{here}/d?sslmode=verify-full")), "VerifyFull", "{here}");
        }
        assert_eq!(mode("postgres://u:p@db/d?host=/run/postgresql"), "Prefer");
        assert_eq!(mode("postgres://u:p@localhost/d?host=db.example.com"), "VerifyFull");
    }

    #[test]
    fn every_session_has_limits() {
        let options = connect_options(&DatabaseUrl::new("postgres://u@localhost/d".to_owned())).unwrap();
        let limits = options.get_options().unwrap();
        for limit in ["statement_timeout=2s", "lock_timeout=1500ms", "idle_in_transaction_session_timeout=5s"]
        {
            assert!(limits.contains(limit), "{limits}");
        }
    }
}
