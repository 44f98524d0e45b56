//! The authorization window: what it accepts, what it shows instead of redirecting, and the click.
//!
//! Meta: "Get Access Tokens and Permissions", developers.facebook.com/documentation/threads/get-started.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Refusal};
use super::knobs::MetaAppIdPage;
use super::people::Role;
use super::random;
use super::request::Parameters;
use super::state::{CANARY, Code, State};
use super::variants;

/// What the person clicks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Gives the app what it asks for.
    Allow,
    /// Does not.
    Deny,
}

/// The codes of the window's error page, none of them documented; all reported from the field.
mod page_code {
    /// Unspecified; seen with missing or malformed parameters.
    pub(super) const UNSPECIFIED: u32 = 1;
    /// The redirect URI is not registered.
    pub(super) const REDIRECT_BLOCKED: u32 = 1_349_168;
    /// The account is no tester of an app that is not published.
    pub(super) const NOT_A_TESTER: u32 = 1_349_245;
    /// No app of this id.
    pub(super) const NO_APPLICATION: u32 = 1_349_026;
    /// No app id at all, or one of Facebook's.
    pub(super) const NO_APP_ID: u32 = 4_476_002;
}

/// An authorization request that the window accepts.
pub(super) struct Window {
    pub(super) app: Arc<str>,
    pub(super) redirect_uri: String,
    pub(super) scopes: Vec<String>,
    /// The state still encoded, so that it returns byte for byte.
    state: Option<String>,
    /// The state's fingerprint.
    print: Option<random::Print>,
}

impl State {
    /// Checks what the browser brought, in the order in which mistakes are most often reported.
    pub(super) fn window(&self, query: &str) -> Result<Window, Answer> {
        use page_code::{NO_APP_ID, REDIRECT_BLOCKED, UNSPECIFIED};
        let parameters = Parameters::parse(query.as_bytes());
        let client_id = parameters
            .get("client_id")
            .ok_or_else(|| Refusal::window(NO_APP_ID, "No app ID was sent with the request."))?;
        if !client_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::window(UNSPECIFIED, "An unknown error has occurred."));
        }
        let app = self.apps.get(client_id).ok_or_else(|| self.no_application(client_id))?;
        let redirect_uri = parameters
            .get("redirect_uri")
            .ok_or_else(|| Refusal::window(UNSPECIFIED, "An unknown error has occurred."))?;
        // Exactly, down to a trailing slash.
        if !app.redirect_uris.iter().any(|registered| registered == redirect_uri) {
            let message = "URL Blocked: the redirect URI is not in the app's settings.";
            return Err(Refusal::window(REDIRECT_BLOCKED, message));
        }
        if self.knobs.strict {
            if parameters.get("response_type") != Some("code") {
                return Err(Refusal::window(UNSPECIFIED, "response_type must be code."));
            }
            if parameters.repeated().is_some() {
                return Err(Refusal::window(UNSPECIFIED, "A parameter was sent twice."));
            }
        }
        let scopes = scopes(parameters.get("scope").unwrap_or_default());
        if !scopes.iter().any(|scope| scope == "threads_basic") {
            return Err(Refusal::window(UNSPECIFIED, "threads_basic must be in scope."));
        }
        Ok(Window {
            app: Arc::clone(&app.client_id),
            redirect_uri: redirect_uri.to_owned(),
            scopes,
            state: raw_state(query).map(str::to_owned),
            print: parameters.get("state").map(random::print),
        })
    }

    /// What is shown for an id that is no Threads app id. One that an app has at Meta is told apart.
    fn no_application(&self, id: &str) -> Answer {
        let is_meta = self.apps.values().any(|app| app.meta_app_id.as_deref() == Some(id));
        match self.knobs.meta_app_id_page {
            _ if !is_meta => Refusal::window(page_code::NO_APPLICATION, "No application data."),
            MetaAppIdPage::Code => {
                Refusal::window(page_code::NO_APP_ID, "The app ID is not that of a Threads app.")
            }
            MetaAppIdPage::Text => Refusal::window_text(
                "An application of another type was found where TH__APPLICATION belongs.",
            ),
        }
    }

    /// What the click leads to: the callback URL, or the error page that never redirects.
    pub(super) fn decide(
        &mut self,
        query: &str,
        persona: &str,
        decision: Decision,
    ) -> Result<Decided, Answer> {
        let window = self.window(query)?;
        let person = self
            .people
            .find(persona)
            .ok_or_else(|| Refusal::window(page_code::UNSPECIFIED, "There is no such account here."))?;
        let somebody = self.people.get(person);
        if somebody.banned || somebody.persona.has_no_profile {
            return Err(Refusal::window(page_code::UNSPECIFIED, "An unknown error has occurred."));
        }
        if !self.knobs.published && somebody.persona.role == Role::Public {
            let message = "The user has not accepted the invite to test the app.";
            return Err(Refusal::window(page_code::NOT_A_TESTER, message));
        }
        if decision == Decision::Deny || somebody.persona.always_denies {
            return Ok(Decided { url: self.denial(&window), person, code: None });
        }
        let now = self.now();
        let until = now.saturating_add(self.knobs.grant_lifetime);
        self.people.get_mut(person).renew(&window.app, Some(now), until);
        let code: Arc<str> = format!("AQ{CANARY}{}", random::text(150)).into();
        let record = Code {
            person,
            app: Arc::clone(&window.app),
            redirect_uri: window.redirect_uri.clone(),
            scopes: window.scopes.join(",").into(),
            state: window.print,
            issued: now,
            received: 0,
            spent: false,
        };
        self.codes.insert(Arc::clone(&code), record);
        let suffix = if self.knobs.code_with_suffix { "%23_" } else { "" };
        let url = callback(&window.redirect_uri, &format!("code={code}{suffix}"), window.state.as_deref());
        Ok(Decided { url, person, code: Some(code) })
    }

    fn denial(&self, window: &Window) -> String {
        let answer = variants::denial();
        let state = window.state.as_deref().filter(|_| self.knobs.state_on_denial);
        let url = callback(&window.redirect_uri, &answer, state);
        // The fragment is documented for success alone.
        url.strip_suffix("#_").unwrap_or(&url).to_owned()
    }
}

/// A decision that led back to the app.
pub(super) struct Decided {
    pub(super) url: String,
    pub(super) person: usize,
    pub(super) code: Option<Arc<str>>,
}

/// Commas or spaces; a space arrives as `+` or `%20`.
pub(super) fn scopes(text: &str) -> Vec<String> {
    text.split([',', ' ']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

/// The state as it stands in the query, not decoded.
fn raw_state(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("state=")).filter(|state| !state.is_empty())
}

fn callback(redirect_uri: &str, answer: &str, state: Option<&str>) -> String {
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
    format!("{redirect_uri}{separator}{answer}{state}#_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callback_ends_in_the_famous_fragment() {
        assert_eq!(callback("https://a.example/cb", "code=AQ1", None), "https://a.example/cb?code=AQ1#_");
        assert_eq!(
            callback("https://a.example/cb?x=1", "code=AQ1", Some("s%2F+t")),
            "https://a.example/cb?x=1&code=AQ1&state=s%2F+t#_"
        );
    }

    #[test]
    fn scopes_are_separated_by_commas_or_spaces() {
        assert_eq!(scopes("threads_basic,threads_delete"), scopes("threads_basic threads_delete"));
    }
}
