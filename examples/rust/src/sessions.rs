//! In place of the sessions that you have. They are lost with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};

const COOKIE: &str = "session";

/// What the backend knows of a browser that is logged in.
#[derive(Clone)]
pub struct Session {
    pub user_id: String,
    /// What only this browser's session knows.
    pub binding: [u8; 16],
    /// The account that was linked in it.
    pub account_id: Option<String>,
}

#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a browser in.
    pub fn begin(&self, jar: CookieJar, user_id: String) -> CookieJar {
        let id = format!("{:032x}", rand::random::<u128>());
        self.by_id().insert(id.clone(), Session { user_id, binding: rand::random(), account_id: None });
        // Lax: no other site's form is sent with our cookie, and the way back from Threads
        // is. Behind https, also `secure`.
        jar.add(Cookie::build((COOKIE, id)).path("/").http_only(true).same_site(SameSite::Lax))
    }

    /// The session of a browser.
    pub fn of(&self, jar: &CookieJar) -> Option<Session> {
        self.by_id().get(jar.get(COOKIE)?.value()).cloned()
    }

    /// Remembers which account was linked in a session; none any more once it is unlinked.
    pub fn linked(&self, jar: &CookieJar, account_id: Option<String>) {
        let id = jar.get(COOKIE).map(Cookie::value).unwrap_or_default();
        if let Some(session) = self.by_id().get_mut(id) {
            session.account_id = account_id;
        }
    }
}
