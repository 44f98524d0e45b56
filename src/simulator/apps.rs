//! The apps that are registered with the platform, as their owners enter them in its settings.

use std::sync::Arc;

use serde::Deserialize;
use url::{Host, Url};

use super::controls::Controls;
use super::people::Throttle;
use super::state::State;

/// What an app's owner enters in the platform's settings. An address must be https, or http on loopback.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The Threads app id: digits.
    pub client_id: String,
    /// The Threads app secret.
    pub client_secret: String,
    /// The redirect URIs, compared exactly.
    pub redirect_uris: Vec<String>,
    /// The id that the same app has at Meta, which people take for the Threads app id.
    #[serde(default)]
    pub meta_app_id: Option<String>,
    /// The uninstall callback URL: told when a person removes the app.
    #[serde(default)]
    pub deauthorize_url: Option<String>,
    /// The delete callback URL: told when a person wants their data deleted.
    #[serde(default)]
    pub data_deletion_url: Option<String>,
    /// Where webhook events go.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// What a webhook handshake must bring.
    #[serde(default)]
    pub webhook_verify_token: Option<String>,
}

/// One registered app.
pub(super) struct App {
    pub(super) client_id: Arc<str>,
    pub(super) secret: String,
    pub(super) redirect_uris: Vec<String>,
    pub(super) meta_app_id: Option<String>,
    pub(super) deauthorize_url: Option<Url>,
    pub(super) data_deletion_url: Option<Url>,
    pub(super) webhook_url: Option<Url>,
    pub(super) webhook_verify_token: Option<String>,
    pub(super) throttle: Option<Throttle>,
}

impl App {
    /// # Errors
    /// A sentence that names what cannot be registered.
    fn new(registration: Registration) -> Result<App, String> {
        let digits = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(&registration.client_id) {
            return Err("client_id must be digits".to_owned());
        }
        if registration.meta_app_id.as_deref().is_some_and(|id| !digits(id) || id == registration.client_id) {
            return Err("meta_app_id must be digits, and not the client_id".to_owned());
        }
        if registration.client_secret.is_empty() {
            return Err("client_secret must not be empty".to_owned());
        }
        Ok(App {
            client_id: registration.client_id.into(),
            secret: registration.client_secret,
            redirect_uris: registration.redirect_uris,
            meta_app_id: registration.meta_app_id,
            deauthorize_url: address("deauthorize_url", registration.deauthorize_url.as_deref())?,
            data_deletion_url: address("data_deletion_url", registration.data_deletion_url.as_deref())?,
            webhook_url: address("webhook_url", registration.webhook_url.as_deref())?,
            webhook_verify_token: registration.webhook_verify_token,
            throttle: None,
        })
    }
}

/// An address that the simulator may be made to call. It calls nothing else, so that whoever can reach
/// the controls cannot send it into a network.
fn address(name: &str, text: Option<&str>) -> Result<Option<Url>, String> {
    let Some(text) = text else { return Ok(None) };
    let loopback = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && loopback(&url)) => {
            if plain(&url) {
                return Ok(Some(url));
            }
            Err(format!("{name} must have no fragment, user or password"))
        }
        _ => Err(format!("{name} must be an absolute https URL (http on loopback alone)")),
    }
}

impl State {
    /// Registers an app; the same client id again replaces all that was registered.
    pub(super) fn register(&mut self, registration: Registration) -> Result<(), String> {
        let app = App::new(registration)?;
        self.apps.insert(app.client_id.to_string(), app);
        Ok(())
    }
}

/// Apps.
impl Controls {
    /// Registers an app; the same client id again replaces all that was registered.
    ///
    /// # Errors
    /// A sentence that names what cannot be registered.
    pub fn register(&self, registration: Registration) -> Result<(), String> {
        self.shared.lock().register(registration)
    }

    /// Registers an app that is never called back. What cannot be registered is a violation, so that a
    /// test's mistake shows.
    pub fn add_app(
        &self,
        client_id: &str,
        client_secret: &str,
        redirect_uris: impl IntoIterator<Item = impl Into<String>>,
    ) {
        let mut state = self.shared.lock();
        let registration = Registration {
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            redirect_uris: redirect_uris.into_iter().map(Into::into).collect(),
            ..Registration::default()
        };
        if let Err(error) = state.register(registration) {
            state.ledger.violation(format!("controls: {error}"));
        }
    }

    /// Enters an app's two callback URLs, or takes them out: for an app whose addresses are known only
    /// once it runs. Everything else that was registered stays.
    ///
    /// # Errors
    /// A sentence that says what is wrong; nothing has changed then.
    pub fn set_callback_urls(
        &self,
        client_id: &str,
        deauthorize_url: Option<&str>,
        data_deletion_url: Option<&str>,
    ) -> Result<(), String> {
        let deauthorize_url = address("deauthorize_url", deauthorize_url)?;
        let data_deletion_url = address("data_deletion_url", data_deletion_url)?;
        let mut state = self.shared.lock();
        let app = state.apps.get_mut(client_id).ok_or("no app has this id")?;
        (app.deauthorize_url, app.data_deletion_url) = (deauthorize_url, data_deletion_url);
        Ok(())
    }

    /// Throttles a whole app for so many seconds: code 4 for everybody.
    pub fn throttle_app(&self, client_id: &str, seconds: i64) {
        let mut state = self.shared.lock();
        let until = state.now().saturating_add(seconds);
        match state.apps.get_mut(client_id) {
            Some(app) => app.throttle = Some(Throttle::until(until)),
            None => state.ledger.violation(format!("controls: no app has the id {client_id}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_ever_called() {
        for good in ["https://a.example/x", "http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost/x"] {
            assert!(address("x", Some(good)).unwrap().is_some(), "{good}");
        }
        for bad in [
            "http://a.example/x",
            "http://169.254.169.254/latest",
            "http://localhost.example/",
            "http://127.0.0.1@a.example/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "file:///etc/passwd",
            "/relative",
            "",
        ] {
            assert!(address("x", Some(bad)).is_err(), "{bad}");
        }
    }
}
