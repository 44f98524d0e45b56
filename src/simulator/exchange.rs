//! Codes into tokens, short tokens into long ones, long ones into longer ones, and app tokens.
//!
//! Meta: "Get Access Tokens and Permissions", "Long-Lived Tokens", "App Access Tokens".

use std::sync::Arc;

use axum::http::Method;

use super::answer::{Answer, Object, Refusal};
use super::knobs::{Envelope, ExpiresIn, OldToken, RefreshAnswers, UserId};
use super::request::{Parameters, Received};
use super::state::{Kind, State, Token};

impl State {
    /// `POST /oauth/access_token` with a code.
    pub(super) fn exchange_code(&mut self, request: &Received) -> Answer {
        let result = if self.knobs.strict && request.method != Method::POST {
            Err(Refusal::oauth(100, None, "Unsupported get request."))
        } else {
            self.spend_code(request)
        };
        result.unwrap_or_else(|refusal| match self.knobs.exchange_errors {
            Envelope::Flat => refusal.flat(),
            Envelope::Graph => refusal.graph(),
        })
    }

    fn spend_code(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let parameters = &request.parameters;
        let client_id = self.authenticated(parameters)?;
        self.unthrottled(request, &client_id, None)?;
        if parameters.get("grant_type") != Some("authorization_code") {
            return Err(Refusal::oauth(100, None, "grant_type must be authorization_code."));
        }
        let unknown = || Refusal::oauth(100, Some(36_009), "Matching code was not found or was already used");
        let text = parameters.get("code").ok_or_else(unknown)?;
        let now = self.clock.now();
        let code = self.codes.get_mut(text).ok_or_else(unknown)?;
        if code.app != client_id || code.spent {
            return Err(unknown());
        }
        if parameters.get("redirect_uri") != Some(code.redirect_uri.as_str()) {
            let message = "Error validating verification code. Please make sure your redirect_uri is identical to the one you used in the OAuth dialog request";
            return Err(Refusal::oauth(100, Some(36_008), message));
        }
        if now - code.issued >= self.knobs.code_lifetime {
            return Err(Refusal::oauth(100, Some(36_007), "This authorization code has expired."));
        }
        code.spent = true;
        let (person, scopes, state) = (code.person, Arc::clone(&code.scopes), code.state);
        self.exchanged_with(state);
        let token = self.issue(Kind::Short, Some(person), &client_id, &scopes);
        let id = self.knobs.exchange_user_id.as_deref();
        let id = id.unwrap_or(&self.people.get(person).persona.id);
        let mut body = Object::new().text("access_token", &token);
        body = match self.knobs.user_id {
            UserId::Number => body.raw("user_id", id),
            UserId::String => body.text("user_id", id),
            UserId::Absent => body,
        };
        if let Some(token_type) = &self.knobs.exchange_token_type {
            body = body.text("token_type", token_type);
        }
        Ok(Answer::json(body.end()))
    }

    /// The app that the request proves to be.
    fn authenticated(&self, parameters: &Parameters) -> Result<Arc<str>, Refusal> {
        let client_id = parameters.get("client_id").unwrap_or_default();
        let app = self.apps.get(client_id).ok_or_else(|| {
            Refusal::oauth(101, None, "Error validating application. Cannot get application info.")
        })?;
        if parameters.get("client_secret") != Some(app.secret.as_str()) {
            return Err(self.wrong_secret());
        }
        Ok(Arc::clone(&app.client_id))
    }

    fn wrong_secret(&self) -> Refusal {
        Refusal::oauth(self.knobs.wrong_secret_code, None, "Error validating client secret.")
    }

    /// `GET /access_token`, `th_exchange_token`.
    pub(super) fn exchange_token(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let (token, person) = self.bearer_of(request, "th_exchange_token")?;
        let secret = self.apps.get(&*token.app).map(|app| app.secret.as_str());
        if request.parameters.get("client_secret") != secret {
            return Err(self.wrong_secret());
        }
        if token.kind != Kind::Short {
            return Err(Refusal::oauth(100, None, "The token cannot be exchanged."));
        }
        self.granted(person, &token)?;
        let long = self.issue(Kind::Long, Some(person), &token.app, &token.scopes);
        Ok(self.long_lived(&long))
    }

    /// `GET /refresh_access_token`, `th_refresh_token`.
    pub(super) fn refresh(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let (token, person) = self.bearer_of(request, "th_refresh_token")?;
        if token.kind != Kind::Long {
            return Err(Refusal::oauth(100, None, "Only long-lived tokens can be refreshed."));
        }
        self.granted(person, &token)?;
        let now = self.now();
        // Documented as a condition, without an error of its own.
        if now - token.issued < self.knobs.refresh_minimum_age {
            return Err(Refusal::oauth(100, None, "The token is too young to be refreshed."));
        }
        if self.people.get(person).persona.private && !self.knobs.private_refresh {
            return Err(Refusal::threads(10, None, "Private profiles cannot be refreshed."));
        }
        let until = now.saturating_add(self.knobs.grant_lifetime);
        self.people.get_mut(person).renew(&token.app, None, until);
        let old = request.token().unwrap_or_default();
        self.refreshed(request, old, person);
        if self.knobs.refresh_answers == RefreshAnswers::Same {
            let expires = now.saturating_add(self.knobs.long_lifetime);
            if let Some(token) = self.tokens.get_mut(old) {
                (token.issued, token.expires) = (now, expires);
            }
            return Ok(self.long_lived(old));
        }
        let long = self.issue(Kind::Long, Some(person), &token.app, &token.scopes);
        if self.knobs.old_token == OldToken::Revoked
            && let Some(token) = self.tokens.get_mut(old)
        {
            token.revoked = true;
        }
        Ok(self.long_lived(&long))
    }

    /// The live user token of a request for another token.
    fn bearer_of(&mut self, request: &Received, grant_type: &str) -> Result<(Token, usize), Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::oauth(100, None, "Unsupported post request."));
        }
        if request.parameters.get("grant_type") != Some(grant_type) {
            return Err(Refusal::oauth(100, None, "Invalid grant_type."));
        }
        self.caller(request)
    }

    /// The live user token of any request, and whose it is.
    pub(super) fn caller(&mut self, request: &Received) -> Result<(Token, usize), Refusal> {
        let text = request.token().ok_or_else(|| {
            let message = "An active access token must be used to query information about the current user.";
            Refusal::oauth(2500, None, message)
        })?;
        let token = self.alive(text)?;
        self.unthrottled(request, &token.app, token.person)?;
        let Some(person) = token.person else {
            return Err(Refusal::threads(100, None, "A user token is required."));
        };
        Ok((token, person))
    }

    fn long_lived(&self, token: &str) -> Answer {
        let body = Object::new().text("access_token", token).text("token_type", "bearer");
        let body = match &self.knobs.expires_in {
            ExpiresIn::Real => body.raw("expires_in", self.knobs.long_lifetime),
            ExpiresIn::Seconds(seconds) => body.raw("expires_in", seconds),
            ExpiresIn::Text(text) => body.text("expires_in", text),
            ExpiresIn::Absent => body,
        };
        Answer::json(body.end())
    }

    /// `GET /oauth/access_token?grant_type=client_credentials`.
    pub(super) fn app_token(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let client_id = self.authenticated(&request.parameters)?;
        let token = self.issue(Kind::App, None, &client_id, &"".into());
        let body = Object::new().text("access_token", &token).text("token_type", "bearer");
        Ok(Answer::json(body.end()))
    }
}
