//! The graph host's reads: `/me`, `/{id}` and `debug_token`.
//!
//! Meta: "Threads Profiles" and "Debug Access Token".

use aws_lc_rs::hmac;
use axum::http::Method;

use super::answer::{Answer, Object, Refusal, quoted};
use super::knobs::{MissingFields, Proof};
use super::people::{Person, Role};
use super::random;
use super::request::Received;
use super::state::{Kind, State, Token};

impl State {
    /// `GET /me` and `GET /{id}`.
    pub(super) fn me(&mut self, request: &Received) -> Result<Answer, Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::threads(100, Some(33), "Unsupported post request."));
        }
        let (token, person) = self.caller(request)?;
        self.proven(request, &token)?;
        self.granted(person, &token)?;
        let person = self.people.get(person);
        let id = self.knobs.me_id.as_deref().unwrap_or(&person.persona.id);
        let asked = request.resource().trim_start_matches('/');
        if asked != "me" && asked != id {
            let message = "Unsupported get request. Object with this ID does not exist or cannot be loaded.";
            return Err(Refusal::threads(100, Some(33), message));
        }
        let consented = person.grant(&token.app).map_or(0, |grant| grant.consented);
        let mut body = Object::new();
        let mut seen: Vec<&str> = Vec::new();
        // The documented default is the id alone; the id comes whether asked for or not.
        let fields = request.parameters.get("fields").unwrap_or("id");
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            if seen.contains(&field) {
                continue;
            }
            seen.push(field);
            body = match (self.field(person, id, field, consented)?, self.knobs.missing_fields) {
                (Some(value), _) => body.raw(field, value),
                (None, MissingFields::Absent) => body,
                (None, MissingFields::Null) => body.raw(field, "null"),
                (None, MissingFields::Empty) => body.text(field, ""),
            };
        }
        if !seen.contains(&"id") {
            body = body.text("id", id);
        }
        let body = body.end();
        let wrapped = self.knobs.me_data_wrapper;
        Ok(Answer::json(if wrapped { Object::new().raw("data", body).end() } else { body }))
    }

    /// One field of a profile as JSON, or nothing when the profile lacks it.
    fn field(
        &self,
        person: &Person,
        id: &str,
        field: &str,
        consented: i64,
    ) -> Result<Option<String>, Refusal> {
        let now = self.now();
        let persona = &person.persona;
        Ok(match field {
            "id" => Some(quoted(id)),
            "username" => Some(quoted(persona.username_at(now, consented))),
            "name" => persona.name.as_deref().map(quoted),
            "threads_profile_picture_url" => self.picture_url(persona).as_deref().map(quoted),
            "threads_biography" => persona.biography.as_deref().map(quoted),
            "is_verified" => persona.is_verified.map(|verified| verified.to_string()),
            "is_eligible_for_geo_gating" => persona.is_eligible_for_geo_gating.map(|is| is.to_string()),
            "recently_searched_keywords" => {
                let searches = persona.recently_searched.iter().map(|(query, timestamp)| {
                    Object::new().text("query", query).raw("timestamp", timestamp).end()
                });
                Some(format!("[{}]", searches.collect::<Vec<_>>().join(",")))
            }
            other => {
                let message = format!("Tried accessing nonexisting field ({other})");
                return Err(Refusal::threads(100, None, message));
            }
        })
    }

    /// Checks `appsecret_proof` as far as the knob says (Meta: "Secure Graph API Calls"; the pages of
    /// Threads never mention it).
    fn proven(&self, request: &Received, token: &Token) -> Result<(), Refusal> {
        let sent = request.parameters.get("appsecret_proof");
        let needed = match self.knobs.appsecret_proof {
            Proof::Ignore => false,
            Proof::Validate => sent.is_some(),
            Proof::Require => true,
        };
        if !needed {
            return Ok(());
        }
        let secret = self.apps.get(&*token.app).map_or("", |app| app.secret.as_str());
        let text = request.token().unwrap_or_default();
        if sent == Some(appsecret_proof(secret, text).as_str()) {
            return Ok(());
        }
        Err(Refusal::oauth(100, None, "Invalid appsecret_proof provided in the API argument"))
    }

    /// `GET /debug_token`.
    pub(super) fn debug_token(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let text =
            request.token().ok_or_else(|| Refusal::oauth(2500, None, "An access token is required."))?;
        let caller = self.alive(text)?;
        self.unthrottled(request, &caller.app, caller.person)?;
        if let Some(person) = caller.person {
            self.granted(person, &caller)?;
        }
        let tester = |person| self.people.get(person).persona.role == Role::Tester;
        if self.knobs.debug_testers_only && !caller.person.is_some_and(tester) {
            return Err(Refusal::threads(10, None, "Only testers of the app may inspect tokens."));
        }
        let input = request.parameters.get("input_token").unwrap_or_default();
        let alive = self.alive(input);
        let Some(token) = self.tokens.get(input).filter(|token| token.app == caller.app) else {
            let error = Object::new().raw("code", 190).text("message", "Cannot parse access token").end();
            let data = Object::new().raw("error", error).raw("is_valid", false).raw("scopes", "[]");
            return Ok(Answer::json(Object::new().raw("data", data.end()).end()));
        };
        let scopes: Vec<String> =
            token.scopes.split(',').filter(|scope| !scope.is_empty()).map(quoted).collect();
        let person = token.person.map(|person| self.people.get(person));
        let grant = person.and_then(|person| person.grant(&token.app));
        let mut data = Object::new()
            .text("type", if token.kind == Kind::App { "APP" } else { "USER" })
            .text("application", "Simulated app")
            .raw("data_access_expires_at", grant.map_or(0, |grant| grant.until))
            .raw("expires_at", token.expires)
            .raw("is_valid", alive.is_ok())
            .raw("issued_at", token.issued)
            .raw("scopes", format!("[{}]", scopes.join(",")));
        if let Some(person) = person {
            data = data.text("user_id", &person.persona.id);
        }
        Ok(Answer::json(Object::new().raw("data", data.end()).end()))
    }
}

/// Hexadecimal HMAC-SHA-256 of the token under the app's secret.
fn appsecret_proof(secret: &str, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, token.as_bytes());
    random::hex(tag.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_known_one() {
        assert_eq!(
            appsecret_proof("sim-threads-app-secret-0001", "THAAsimulated-short-lived-token"),
            "8bf94980f8d7e761dce630d088156da6d21bc2439183eeb311c6d022b67a6eee"
        );
    }
}
