//! The simulator's controls, over HTTP as any team's tests would use them, and the
//! one call of Threads' own API that the demo backend makes.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;

/// How long a call may take.
const CALL_MAX: Duration = Duration::from_secs(10);

/// A client of the simulator.
#[derive(Clone)]
pub(super) struct Threads {
    base_url: String,
    client_id: String,
    http: reqwest::Client,
}

/// One of the simulator's people, as far as the demo needs to know.
#[derive(Deserialize)]
pub(super) struct Person {
    pub(super) key: String,
    id: String,
}

/// What Threads says to a token.
pub(super) enum Greeting {
    /// It takes the token, and answers with the owner.
    Taken,
    /// It does not take the token.
    Refused,
}

impl Threads {
    pub(super) fn new(base_url: String, client_id: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .user_agent("threads-identity-demo")
            .timeout(CALL_MAX)
            .redirect(Policy::none())
            .build()?;
        Ok(Self { base_url, client_id, http })
    }

    /// Moves its clock.
    pub(super) async fn advance(&self, time: Duration) -> Result<(), Failure> {
        self.control("advance", &json!({ "seconds": time.as_secs() })).await.map(drop)
    }

    /// Does to somebody what can be done to people there.
    pub(super) async fn act(&self, person: &Person, action: &str, details: &Value) -> Result<Value, Failure> {
        self.control(&format!("personas/{}/{action}", person.key), details).await
    }

    /// Removes the app in somebody's settings; loudly, so that the app is told. Answers
    /// whether it was: who has removed it before removes nothing.
    pub(super) async fn revoke(&self, person: &Person, loudly: bool) -> Result<bool, Failure> {
        self.control("knobs", &json!({ "deauthorize_on_revoke": loudly })).await?;
        let revoked = self.act(person, "revoke", &json!({})).await?;
        if revoked["deliveries"].as_array().is_none_or(Vec::is_empty) {
            return Ok(false);
        }
        delivered(&revoked).map(|_| true)
    }

    /// Asks for somebody's data to be deleted, by way of Threads. Answers with the
    /// confirmation code that the service gave.
    pub(super) async fn ask_for_deletion(&self, person: &Person) -> Result<String, Failure> {
        let path = format!("apps/{}/data-deletion", self.client_id);
        let answer = self.control(&path, &json!({ "persona": person.key })).await?;
        let told: Value = serde_json::from_str(delivered(&answer)?)?;
        let code = told["confirmation_code"].as_str().ok_or("the service gave no confirmation code")?;
        Ok(code.to_owned())
    }

    /// Lets somebody click, as if in a browser. Answers with where that leads.
    pub(super) async fn consent(
        &self,
        authorization_url: &str,
        persona: &str,
        decision: &str,
    ) -> Result<String, Failure> {
        let click =
            json!({ "authorization_url": authorization_url, "persona": persona, "decision": decision });
        let answer = self.control("consent", &click).await?;
        let callback_url = answer["callback_url"].as_str().ok_or("the simulator names no callback URL")?;
        Ok(callback_url.to_owned())
    }

    /// Who has this Threads id.
    pub(super) async fn person(&self, threads_user_id: &str) -> Result<Person, Failure> {
        #[derive(Deserialize)]
        struct People {
            personas: Vec<Person>,
        }
        let request = self.http.get(format!("{}/_simulator/personas", self.base_url));
        let text = request.send().await?.error_for_status()?.text().await?;
        let people: People = serde_json::from_str(&text)?;
        let person = people.personas.into_iter().find(|person| person.id == threads_user_id);
        person.ok_or_else(|| "the simulator knows nobody of this id".into())
    }

    /// Asks Threads with a token who its owner is, as a backend does with what it
    /// fetched: in a header, because an address ends up in logs.
    pub(super) async fn greet(&self, access_token: &str) -> Result<Greeting, Failure> {
        let request = self.http.get(format!("{}/v1.0/me", self.base_url));
        let request = request.query(&[("fields", "username")]).bearer_auth(access_token);
        // Errors would quote the address, which holds no secret here.
        let answer = request.send().await?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) {
            return Ok(Greeting::Refused);
        }
        answer.error_for_status()?;
        Ok(Greeting::Taken)
    }

    /// Posts to a control.
    async fn control(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.http.post(format!("{}/_simulator/{path}", self.base_url));
        let answer = request.header(CONTENT_TYPE, "application/json").body(body.to_string()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            return Err(format!("the simulator answers {status} to {path}: {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}

/// What the service answered to the callback that Threads made.
fn delivered(answer: &Value) -> Result<&str, Failure> {
    let delivery = &answer["deliveries"][0];
    if delivery["status"] != 200 {
        return Err(format!("the callback of Threads was not taken: {delivery}").into());
    }
    delivery["body"].as_str().ok_or_else(|| "the callback of Threads was answered with nothing".into())
}
