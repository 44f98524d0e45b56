//! Meta, as far as it tells of people: it signs and posts. It shares nothing with
//! the service but the secret.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use threads_identity::proto::v1::Account;

use crate::callback::{Page, answered};
use crate::harness::{PUBLIC_URL, World};

pub const DEAUTHORIZE: &str = "/threads/deauthorize/default";
pub const DATA_DELETION: &str = "/threads/data-deletion/default";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Signs with any algorithm.
pub fn signed_by(algorithm: hmac::Algorithm, secret: &str, json: &str) -> String {
    let payload = URL_SAFE_NO_PAD.encode(json);
    let signature = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), payload.as_bytes());
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signature))
}

/// Signs as Meta does.
pub fn signed(secret: &str, json: &str) -> String {
    signed_by(hmac::HMAC_SHA256, secret, json)
}

/// What Meta says of a person; `issued_at` as it stands in the JSON.
pub fn payload(user_id: &str, issued_at: Option<i64>) -> String {
    let time = issued_at.map_or_else(String::new, |time| format!(r#","issued_at":{time}"#));
    format!(r#"{{"algorithm":"HMAC-SHA256"{time},"user_id":"{user_id}"}}"#)
}

/// A body with the field.
pub fn form(signed: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("signed_request", signed).finish()
}

impl World {
    /// A notice of a person, signed for the first app.
    pub fn notice(&self, threads_user_id: &str, issued_at: Option<i64>) -> String {
        let secret = self.service.apps["default"].config.client_secret.expose();
        signed(secret, &payload(threads_user_id, issued_at))
    }

    /// A notice of an account's person, made at this moment.
    pub fn notice_of(&self, account: &Account) -> String {
        self.notice(&account.threads_user_id, Some(self.controls.now()))
    }

    /// Posts a body.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Page {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("http://{}{path}", self.http));
        answered(request.header("content-type", content_type).body(body)).await
    }

    /// Posts a signed request.
    pub async fn tell(&self, path: &str, signed: &str) -> Page {
        self.post(path, FORM, form(signed)).await
    }

    /// Tells that a person has removed the app, which must be taken.
    pub async fn deauthorized(&self, signed: &str) {
        let answer = self.tell(DEAUTHORIZE, signed).await;
        answer.assert_guarded();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "{}"));
    }

    /// Tells that a person wants to be forgotten, which must be taken; the code.
    pub async fn forgotten(&self, signed: &str) -> String {
        let answer = self.tell(DATA_DELETION, signed).await;
        answer.assert_guarded();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        code_of(&answer)
    }

    /// Of an endpoint, how many answers came to this.
    pub async fn told(&self, page: &str, result: &str) -> f64 {
        let name = format!("threads_identity_pages_total{{page=\"{page}\",result=\"{result}\"}}");
        self.metric(&name).await
    }
}

/// The code in an answer, which has exactly the two members that Meta asks for.
#[track_caller]
pub fn code_of(answer: &Page) -> String {
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let code = json["confirmation_code"].as_str().unwrap().to_owned();
    let expected = serde_json::json!({ "url": format!("{PUBLIC_URL}/threads/data-deletion/{code}"), "confirmation_code": code });
    assert_eq!(json, expected);
    // 128 bits need 26 letters of an alphabet of 32.
    assert!(code.len() >= 26 && code.bytes().all(|b| b.is_ascii_alphanumeric()), "{code}");
    code
}

/// The status, as a person sees it.
pub async fn status(world: &World, code: &str) -> Page {
    let page = crate::callback::get(world, &format!("/threads/data-deletion/{code}")).await;
    page.assert_guarded();
    page
}
