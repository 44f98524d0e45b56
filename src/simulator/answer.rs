//! Answers before they meet HTTP: JSON written by hand, in the platform's own spelling and order, and
//! the platform's error envelopes.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use super::random;

const JSON: &str = "application/json; charset=UTF-8";

/// One answer, still to be sent.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Cow<'static, str>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// Graph code and subcode, when the answer is an error that has them.
    pub(super) error: Option<(u32, Option<u32>)>,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: impl Into<Cow<'static, str>>, body: String) -> Answer {
        Answer { status, content_type: content_type.into(), headers: Vec::new(), body, error: None }
    }

    pub(super) fn json(body: String) -> Answer {
        Answer::new(200, JSON, body)
    }

    pub(super) fn html(status: u16, body: String) -> Answer {
        Answer::new(status, "text/html; charset=utf-8", body)
    }

    /// A redirect that turns a POST into a GET.
    pub(super) fn see_other(location: String) -> Answer {
        let mut answer = Answer::html(303, String::new());
        answer.headers.push(("location".to_owned(), location));
        answer
    }
}

/// One refusal, in whichever envelope it will travel.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: Cow<'static, str>,
    pub(super) code: u32,
    pub(super) subcode: Option<u32>,
    pub(super) transient: Option<bool>,
    pub(super) message: Cow<'static, str>,
}

impl Refusal {
    /// An `OAuthException`: tokens, codes, apps.
    pub(super) fn oauth(code: u32, subcode: Option<u32>, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            status: 400,
            kind: "OAuthException".into(),
            code,
            subcode,
            transient: None,
            message: message.into(),
        }
    }

    /// A `THApiException`: the type that Threads has to itself.
    pub(super) fn threads(code: u32, subcode: Option<u32>, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { kind: "THApiException".into(), ..Refusal::oauth(code, subcode, message) }
    }

    /// The Graph envelope (Meta: "Graph API, Error Handling").
    pub(super) fn graph(&self) -> Answer {
        let mut error = Object::new().text("message", &self.message).text("type", &self.kind);
        if let Some(transient) = self.transient {
            error = error.raw("is_transient", transient);
        }
        error = error.raw("code", self.code);
        if let Some(subcode) = self.subcode {
            error = error.raw("error_subcode", subcode);
        }
        let trace = format!("A{}", random::text(10));
        let error = error.text("fbtrace_id", &trace).end();
        let mut answer = Answer::new(self.status, JSON, Object::new().raw("error", error).end());
        answer.error = Some((self.code, self.subcode));
        answer
    }

    /// The flat envelope of the code exchange (Meta: "Get Access Tokens and Permissions"). Its `code`
    /// mirrors the HTTP status and is no Graph code.
    pub(super) fn flat(&self) -> Answer {
        let body = Object::new()
            .text("error_type", &self.kind)
            .raw("code", self.status)
            .text("error_message", &self.message)
            .end();
        Answer::new(self.status, JSON, body)
    }

    /// The bare document that the authorization window shows instead of redirecting.
    pub(super) fn window(code: u32, message: &str) -> Answer {
        let body = Object::new().text("error_message", message).raw("error_code", code).end();
        let mut answer = Answer::new(400, JSON, body);
        answer.error = Some((code, None));
        answer
    }

    /// The same without a code.
    pub(super) fn window_text(message: &str) -> Answer {
        Answer::new(400, JSON, Object::new().text("error_message", message).end())
    }
}

/// A JSON object under construction, in the order in which it is written.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Object {
        Object("{".to_owned())
    }

    pub(super) fn text(self, key: &str, value: &str) -> Object {
        let value = quoted(value);
        self.raw(key, value)
    }

    /// Adds a value that is JSON already: numbers keep every digit this way.
    pub(super) fn raw(mut self, key: &str, value: impl Display) -> Object {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "\"{key}\":{value}");
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The same JSON as PHP writes it: slashes and everything beyond ASCII escaped. Both occur only inside
/// strings, so the text can be treated as a whole.
pub(super) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match character {
            '/' => text.push_str("\\/"),
            ascii if ascii.is_ascii() => text.push(ascii),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_changes_the_spelling_and_nothing_else() {
        let plain = Object::new().text("a/b", "سلام 🧵 \" / \\").raw("n", 17_841_405_793_187_219_u64).end();
        let escaped = escaped(&plain);
        assert!(escaped.is_ascii());
        assert!(escaped.contains("\\/"));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&plain), value(&escaped));
        assert!(escaped.ends_with("\"n\":17841405793187219}"));
    }
}
