//! The platform's two callbacks: a person has removed the app, or wants their data deleted.
//!
//! Meta: "Manual Flow, Deauthorize Callback", "Data Deletion Request Callback". Delivery is best effort
//! there; here too, nothing is sent a second time unless asked for.

use std::sync::Arc;

use axum::http::Method;
use futures_util::future::join_all;
use serde::Deserialize;
use url::form_urlencoded;

use super::controls::Controls;
use super::errands::{Delivery, Errand};
use super::ledger::Endpoint;
use super::people::Ending;
use super::signing::Callback;
use super::state::State;

/// How often the same one is sent at most.
const TIMES: u8 = 100;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackKind {
    /// A person has removed the app.
    Deauthorize,
    /// A person wants their data deleted.
    DataDeletion,
}

impl State {
    /// Signs a callback for an app.
    fn sign(&self, client_id: &str, callback: &Callback) -> Result<String, String> {
        let app = self.apps.get(client_id).ok_or("no app has this id")?;
        let id = match &callback.persona {
            Some(key) => {
                let person = self.people.find(key).ok_or("nobody has this key")?;
                Some(self.people.get(person).persona.id.as_str())
            }
            None => None,
        };
        let left_out = callback.without.iter().any(|name| name == "user_id");
        if id.is_none() && callback.user_id.is_none() && !left_out {
            return Err("persona or user_id is needed".to_owned());
        }
        Ok(callback.sign(id, self.now(), &app.secret))
    }

    fn errand(&self, kind: CallbackKind, client_id: &str, callback: &Callback) -> Result<Errand, String> {
        let signed_request = self.sign(client_id, callback)?;
        let app = self.apps.get(client_id).ok_or("no app has this id")?;
        let (endpoint, url) = match kind {
            CallbackKind::Deauthorize => (Endpoint::Deauthorize, &app.deauthorize_url),
            CallbackKind::DataDeletion => (Endpoint::DataDeletion, &app.data_deletion_url),
        };
        let url = url.clone().ok_or("the app has not registered such a URL")?;
        let person = callback.persona.as_deref().and_then(|key| self.people.find(key));
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("signed_request", &signed_request)
            .finish();
        Ok(Errand {
            endpoint,
            method: Method::POST,
            url,
            parameters: vec!["signed_request"],
            persona: person.map(|person| Arc::clone(&self.people.get(person).key)),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body: form,
        })
    }

    /// Removes all apps from a person's settings, and says who is to be told.
    fn remove_apps(&mut self, persona: &str) -> Vec<Errand> {
        let Some(index) = self.people.find(persona) else {
            self.ledger.violation(format!("controls: nobody has the key {persona}"));
            return Vec::new();
        };
        let last = self.issued;
        let person = self.people.get_mut(index);
        person.ended = Some((last, Ending::Revoked));
        let grants = std::mem::take(&mut person.grants);
        if !self.knobs.deauthorize_on_revoke {
            return Vec::new();
        }
        let callback = Callback::about(persona);
        // An app that has registered no URL is not told.
        grants
            .iter()
            .filter_map(|grant| self.errand(CallbackKind::Deauthorize, &grant.app, &callback).ok())
            .collect()
    }
}

/// What the platform sends to apps by itself.
impl Controls {
    /// Makes a `signed_request` of an app and sends it nowhere: for a test that sends it itself. A secret.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn signed_request(&self, client_id: &str, callback: &Callback) -> Result<String, String> {
        self.shared.lock().sign(client_id, callback)
    }

    /// Sends a callback to the URL that the app registered, as often as it asks, and waits for the
    /// answers.
    ///
    /// # Errors
    /// A sentence that says what is missing; nothing was sent then.
    pub async fn send_callback(
        &self,
        kind: CallbackKind,
        client_id: &str,
        callback: &Callback,
    ) -> Result<Vec<Delivery>, String> {
        let times = callback.times.unwrap_or(1);
        if !(1..=TIMES).contains(&times) {
            return Err(format!("times must be 1 to {TIMES}"));
        }
        let errand = self.shared.lock().errand(kind, client_id, callback)?;
        let runs = (0..times).map(|_| self.shared.run(errand.clone()));
        if callback.at_once {
            return Ok(join_all(runs).await);
        }
        let mut deliveries = Vec::new();
        for run in runs {
            deliveries.push(run.await);
        }
        Ok(deliveries)
    }

    /// Removes the app in the person's settings: 190/458 for every token so far. Apps that have the
    /// person's consent and a deauthorize URL are told soon after, unless the knob says otherwise; nobody
    /// learns whether that worked but the ledger.
    pub fn revoke_app(&self, persona: &str) {
        let errands = self.shared.lock().remove_apps(persona);
        for errand in errands {
            let shared = Arc::clone(&self.shared);
            self.shared.runtime.spawn(async move { shared.run(errand).await });
        }
    }

    /// The same, and waits until the apps have answered.
    pub async fn revoke_app_and_wait(&self, persona: &str) -> Vec<Delivery> {
        let errands = self.shared.lock().remove_apps(persona);
        join_all(errands.into_iter().map(|errand| self.shared.run(errand))).await
    }
}
