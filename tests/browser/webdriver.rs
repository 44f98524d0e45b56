//! As much of W3C `WebDriver` as these tests speak: JSON over HTTP to chromedriver.
//!
//! The clients that exist turn on features of crates that the service shares, and
//! then the binary under test is not the one that is shipped.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A session that does not answer for so long is gone.
const CALL_MAX: Duration = Duration::from_secs(60);
/// The name under which an element is passed (`WebDriver`, section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session: one browser. It ends with its driver.
pub struct Session {
    http: Client,
    url: String,
}

impl Session {
    /// Starts a browser with these capabilities.
    pub async fn new(driver: &str, capabilities: Value) -> Result<Self, String> {
        let http = Client::builder().timeout(CALL_MAX).build().map_err(|error| error.to_string())?;
        let starting = Self { http, url: format!("{driver}/session") };
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let started = starting.send(Method::POST, "", wanted).await?;
        let id = started["sessionId"].as_str().ok_or("no session id")?;
        Ok(Self { url: format!("{}/{id}", starting.url), http: starting.http })
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.url));
        let request = if method == Method::POST {
            request.header("content-type", "application/json").body(body.to_string())
        } else {
            request
        };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.map_err(|error| error.to_string())?);
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let value = answer["value"].take();
        let message =
            || value["message"].as_str().unwrap_or(&text).lines().next().unwrap_or_default().to_owned();
        if status.is_success() { Ok(value) } else { Err(message()) }
    }

    /// A command with this body.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, path, body).await
    }

    /// A question.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.send(Method::GET, path, Value::Null).await
    }

    /// Clicks the first element that an `XPath` finds, as a person would: what lies
    /// under something else cannot be clicked.
    pub async fn click(&self, xpath: &str) -> Result<(), String> {
        let found = self.post("/element", json!({ "using": "xpath", "value": xpath })).await?;
        let id = found[ELEMENT].as_str().ok_or("no element")?;
        self.post(&format!("/element/{id}/click"), json!({})).await.map(drop)
    }
}
