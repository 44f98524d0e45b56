//! Webhooks: the handshake by which an address proves that it belongs to the app, and events.
//!
//! Meta: "Webhooks, Getting Started", "Threads Webhooks". Threads' envelope is its own: no `entry`, and
//! one event in `values`.

use std::sync::Arc;

use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Object, quoted};
use super::controls::Controls;
use super::errands::{Delivery, Errand};
use super::ledger::Endpoint;
use super::random;
use super::signing::{EventSignature, hub_signature};
use super::state::State;

/// A handshake: the default is what the platform sends.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handshake {
    /// This instead of `subscribe`.
    pub mode: Option<String>,
    /// This instead of the token that the app registered.
    pub verify_token: Option<String>,
    /// This instead of a random number.
    pub challenge: Option<u32>,
}

/// How a handshake went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handshaken {
    /// Whether the app answered 200 with the challenge and nothing else.
    pub passed: bool,
    /// The answer.
    pub delivery: Delivery,
}

/// A webhook event: the default is a post that the person published.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Event {
    /// Whose, by key.
    pub persona: String,
    /// This instead of `interaction`.
    pub topic: Option<String>,
    /// This instead of `publish`.
    pub field: Option<String>,
    /// This instead of a post's id and the person's handle.
    pub value: Option<Value>,
    /// This instead of the app's secret.
    pub secret: Option<String>,
    /// How it is signed.
    pub signature: EventSignature,
}

impl State {
    fn handshake(&self, client_id: &str, handshake: &Handshake) -> Result<(Errand, String), String> {
        let app = self.apps.get(client_id).ok_or("no app has this id")?;
        let mut url = app.webhook_url.clone().ok_or("the app has not registered such a URL")?;
        let token = handshake.verify_token.as_ref().or(app.webhook_verify_token.as_ref());
        let token = token.ok_or("the app has not registered a webhook_verify_token")?;
        let challenge = handshake.challenge.unwrap_or_else(random::number).to_string();
        url.query_pairs_mut()
            .append_pair("hub.mode", handshake.mode.as_deref().unwrap_or("subscribe"))
            .append_pair("hub.challenge", &challenge)
            .append_pair("hub.verify_token", token);
        let errand = Errand {
            endpoint: Endpoint::Webhook,
            method: Method::GET,
            url,
            parameters: vec!["hub.challenge", "hub.mode", "hub.verify_token"],
            persona: None,
            headers: Vec::new(),
            body: String::new(),
        };
        Ok((errand, challenge))
    }

    fn event(&self, client_id: &str, event: &Event) -> Result<Errand, String> {
        let app = self.apps.get(client_id).ok_or("no app has this id")?;
        let url = app.webhook_url.clone().ok_or("the app has not registered such a URL")?;
        let person = self.people.find(&event.persona).ok_or("nobody has this key")?;
        let person = self.people.get(person);
        let value = event.value.as_ref().map_or_else(
            || {
                let post = Object::new().text("id", "8901234");
                post.text("username", &person.persona.username).end()
            },
            Value::to_string,
        );
        let field = quoted(event.field.as_deref().unwrap_or("publish"));
        let body = Object::new()
            .text("app_id", client_id)
            .text("topic", event.topic.as_deref().unwrap_or("interaction"))
            .text("target_id", &person.persona.id)
            .raw("time", self.now())
            .text("subscription_id", "234567")
            .raw("has_uid_field", false)
            .raw("values", Object::new().raw("value", value).raw("field", field).end())
            .end();
        let secret = event.secret.as_deref().unwrap_or(&app.secret);
        let signature = hub_signature(&body, secret, event.signature);
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(signature.map(|signature| ("x-hub-signature-256", signature)));
        let persona = Some(Arc::clone(&person.key));
        let endpoint = Endpoint::Webhook;
        Ok(Errand { endpoint, method: Method::POST, url, parameters: Vec::new(), persona, headers, body })
    }
}

/// Webhooks.
impl Controls {
    /// Shakes hands with the app's webhook URL.
    ///
    /// # Errors
    /// A sentence that says what is missing; nothing was sent then.
    pub async fn shake_hands(&self, client_id: &str, handshake: &Handshake) -> Result<Handshaken, String> {
        let (errand, challenge) = self.shared.lock().handshake(client_id, handshake)?;
        let delivery = self.shared.run(errand).await;
        let passed = delivery.status == Some(200) && delivery.error.is_none() && delivery.body == challenge;
        Ok(Handshaken { passed, delivery })
    }

    /// Sends an event to the app's webhook URL.
    ///
    /// # Errors
    /// A sentence that says what is missing; nothing was sent then.
    pub async fn send_event(&self, client_id: &str, event: &Event) -> Result<Delivery, String> {
        let errand = self.shared.lock().event(client_id, event)?;
        Ok(self.shared.run(errand).await)
    }
}
