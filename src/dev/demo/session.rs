//! The browser's session, in a signed cookie, so that this backend needs no table
//! and a restart signs nobody out.
//!
//! A session has an id that changes whenever somebody else takes the browser over.
//! From it comes what only this session knows: what an authorization is bound to,
//! and what stands in every form.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use axum::extract::{Extension, Form, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::Failure;
use super::Demo;
use super::pages::trouble;
use crate::cli::write_private;
use crate::secret;

/// The field of every form that no other site can know.
const FORM_TOKEN: &str = "form_token";

/// Knows sessions by the key that they are signed with.
pub(super) struct Sessions {
    key: hmac::Key,
    /// The cookie's name. Cookies do not tell ports apart, so each data folder has
    /// its own: two demos in one browser leave each other alone.
    cookie: String,
}

/// Who sits at the browser.
#[derive(Clone)]
pub(super) struct Session {
    id: String,
    /// The browser, whoever sits at it.
    visitor: String,
    /// The user's key in this backend.
    pub(super) user_id: String,
    is_new: bool,
    binding: Vec<u8>,
    pub(super) form_token: String,
}

/// The two people who share each browser of this demo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Person {
    Ada,
    Ben,
}

impl Person {
    fn user_id(self, visitor: &str) -> String {
        format!("{}-{visitor}", if self == Self::Ada { "ada" } else { "ben" })
    }
}

impl Sessions {
    /// Reads the key of the folder, or makes it.
    pub(super) fn load(data_dir: &Path) -> Result<Self, Failure> {
        let file = data_dir.join("demo.key");
        if !file.exists() {
            write_private(&file, secret::hex(&secret::random::<32>()).as_bytes())?;
        }
        let text = std::fs::read_to_string(&file)?;
        if text.trim().len() < 64 {
            return Err(format!("{}: is no key; remove it, and another is made", file.display()).into());
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, text.trim().as_bytes());
        let suffix = secret::hex(&hmac::sign(&key, b"cookie").as_ref()[..4]);
        Ok(Self { key, cookie: format!("demo_session_{suffix}") })
    }

    /// A session of the same browser, for another user.
    fn begin(&self, visitor: &str, user_id: String) -> Session {
        let id = secret::hex(&secret::random::<16>());
        Session { is_new: true, ..self.session(id, visitor.to_owned(), user_id) }
    }

    fn session(&self, id: String, visitor: String, user_id: String) -> Session {
        let binding = self.sign(&["binding", &id, &visitor, &user_id]);
        let form_token = URL_SAFE_NO_PAD.encode(self.sign(&["form", &id, &visitor, &user_id]));
        Session { id, visitor, user_id, is_new: false, binding, form_token }
    }

    fn sign(&self, parts: &[&str]) -> Vec<u8> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        hmac::sign(&self.key, &secret::sha256(&parts)).as_ref().to_vec()
    }

    /// The session of a request; a new one if it has none, or one that was not
    /// signed here.
    fn of(&self, headers: &HeaderMap) -> Session {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let known = pairs.find_map(|(name, value)| (name == self.cookie).then(|| self.read(value)).flatten());
        known.unwrap_or_else(|| {
            let visitor = secret::hex(&secret::random::<8>());
            self.begin(&visitor, Person::Ada.user_id(&visitor))
        })
    }

    fn read(&self, cookie: &str) -> Option<Session> {
        let mut parts = cookie.split('.');
        let (id, visitor, user_id, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let user_id = String::from_utf8(URL_SAFE_NO_PAD.decode(user_id).ok()?).ok()?;
        let expected = self.sign(&["session", id, visitor, &user_id]);
        verify_slices_are_equal(&URL_SAFE_NO_PAD.decode(mac).ok()?, &expected).ok()?;
        Some(self.session(id.to_owned(), visitor.to_owned(), user_id))
    }

    /// Lax, because Threads sends the browser back from another site. A backend on
    /// https adds `Secure` and begins the name with `__Host-`, so that no
    /// neighbouring domain can set it; on plain http, even on loopback, not every
    /// browser would keep such a cookie.
    fn cookie(&self, session: &Session) -> Option<HeaderValue> {
        let Session { id, visitor, user_id, .. } = session;
        let mac = URL_SAFE_NO_PAD.encode(self.sign(&["session", id, visitor, user_id]));
        let user_id = URL_SAFE_NO_PAD.encode(user_id);
        let value = format!("{}={id}.{visitor}.{user_id}.{mac}; Path=/; HttpOnly; SameSite=Lax", self.cookie);
        HeaderValue::from_str(&value).ok()
    }

    /// Lets the browser go on in another session. The old one's id, and with it
    /// what was bound to it, is forgotten.
    pub(super) fn change(&self, session: &Session, mut response: Response) -> Response {
        if let Some(cookie) = self.cookie(session) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// A session for the other of the two.
    pub(super) fn other(&self, session: &Session) -> Session {
        let person = if session.person() == Some(Person::Ada) { Person::Ben } else { Person::Ada };
        self.begin(&session.visitor, person.user_id(&session.visitor))
    }

    /// A session for whoever has signed in with Threads.
    pub(super) fn signed_in(&self, session: &Session, user_id: String) -> Session {
        self.begin(&session.visitor, user_id)
    }
}

impl Session {
    /// What only this browser session knows.
    pub(super) fn binding(&self) -> Vec<u8> {
        self.binding.clone()
    }

    /// Which of the two it is; none for somebody who signed in with Threads.
    pub(super) fn person(&self) -> Option<Person> {
        [Person::Ada, Person::Ben].into_iter().find(|person| person.user_id(&self.visitor) == self.user_id)
    }
}

/// Gives every request its session, and every new session its cookie.
pub(super) async fn attach(State(demo): State<Arc<Demo>>, mut request: Request, next: Next) -> Response {
    let session = demo.sessions.of(request.headers());
    request.extensions_mut().insert(session.clone());
    let response = next.run(request).await;
    if session.is_new && !response.headers().contains_key(header::SET_COOKIE) {
        return demo.sessions.change(&session, response);
    }
    response
}

/// A form that a page of this session sent.
///
/// `SameSite` keeps the cookie from other sites, but everything on this machine is
/// one site whatever its port. And `Origin` is `null` where a page sends no referrer.
/// So each form carries what only this session knows.
pub(super) struct Posted {
    pub(super) session: Session,
    fields: BTreeMap<String, String>,
}

impl FromRequest<Arc<Demo>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<Demo>) -> Result<Self, Response> {
        let session = request.extensions().get::<Session>().cloned();
        let Some(session) = session else { return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()) };
        let from_elsewhere =
            request.headers().get("sec-fetch-site").is_some_and(|site| site.as_bytes() != b"same-origin");
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Ok(Form(pairs)) = form else { return Err(trouble(StatusCode::BAD_REQUEST)) };
        let count = pairs.len();
        let fields: BTreeMap<_, _> = pairs.into_iter().collect();
        let token = fields.get(FORM_TOKEN).map(String::as_bytes).unwrap_or_default();
        let is_ours = verify_slices_are_equal(token, session.form_token.as_bytes()).is_ok();
        if from_elsewhere || !is_ours || fields.len() != count {
            return Err(trouble(StatusCode::FORBIDDEN));
        }
        Ok(Self { session, fields })
    }
}

impl Posted {
    /// A field; empty if there is none.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// What a handler of a page takes.
pub(super) type Here = Extension<Session>;
