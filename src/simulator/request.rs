//! What arrives: which endpoint is meant, and its parameters however they were encoded.

use axum::http::{HeaderMap, Method, Uri, header};
use url::form_urlencoded;

use super::ledger::Endpoint;
use super::pictures;

/// The only version of the Threads API; paths work with and without it.
const VERSION: &str = "/v1.0";

/// Names and values in the order received.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(text: &[u8]) -> Parameters {
        Parameters(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of this name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, value)| value.as_str())
    }

    /// A name that occurs more than once.
    pub(super) fn repeated(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.names().collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    fn extend(&mut self, other: Parameters) {
        self.0.extend(other.0);
    }
}

/// One request, its body read if it has one.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// Its place in the ledger, once it has been noted there.
    pub(super) sequence: u64,
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    /// From the query and, once read, the body.
    pub(super) parameters: Parameters,
    pub(super) bearer: Option<String>,
    pub(super) user_agent: Option<String>,
    content_type: String,
}

impl Received {
    pub(super) fn new(method: &Method, uri: &Uri, headers: &HeaderMap) -> Received {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let query = uri.query().unwrap_or_default();
        let parameters = Parameters::parse(query.as_bytes());
        let path = uri.path();
        Received {
            sequence: 0,
            endpoint: endpoint(method, path, &parameters),
            method: method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            parameters,
            bearer: text(header::AUTHORIZATION).and_then(|value| bearer(&value)),
            user_agent: text(header::USER_AGENT).filter(|agent| !agent.is_empty()),
            content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
        }
    }

    /// A request that a browser would make of the authorization window.
    pub(super) fn browser(method: Method, query: &str) -> Received {
        let endpoint = if method == Method::POST { Endpoint::Consent } else { Endpoint::Authorize };
        Received {
            sequence: 0,
            endpoint,
            method,
            path: "/oauth/authorize".to_owned(),
            query: query.to_owned(),
            parameters: Parameters::parse(query.as_bytes()),
            bearer: None,
            user_agent: None,
            content_type: String::new(),
        }
    }

    /// Fills in the consent page's form.
    pub(super) fn choose(&mut self, persona: &str, decision: &str) {
        let fields = [("persona", persona), ("decision", decision)];
        self.parameters.0.extend(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    /// Adds the parameters of a form body: urlencoded as most clients send it, or multipart as in the
    /// documentation's curl sample.
    pub(super) fn read(&mut self, body: &[u8]) {
        if let Some((_, boundary)) = self.content_type.split_once("boundary=") {
            self.parameters.extend(multipart(&String::from_utf8_lossy(body), boundary.trim_matches('"')));
        } else if !body.is_empty() {
            self.parameters.extend(Parameters::parse(body));
        }
    }

    /// The token of a call to the graph host.
    pub(super) fn token(&self) -> Option<&str> {
        self.bearer.as_deref().or_else(|| self.parameters.get("access_token"))
    }

    /// The path without its version.
    pub(super) fn resource(&self) -> &str {
        resource(&self.path)
    }
}

fn resource(path: &str) -> &str {
    let path = path.strip_prefix(VERSION).unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path)
}

fn endpoint(method: &Method, path: &str, parameters: &Parameters) -> Endpoint {
    let app_token = parameters.get("grant_type") == Some("client_credentials");
    match resource(path) {
        "/oauth/authorize" if method == Method::POST => Endpoint::Consent,
        "/oauth/authorize" => Endpoint::Authorize,
        "/oauth/access_token" if app_token => Endpoint::ClientCredentials,
        "/oauth/access_token" => Endpoint::CodeExchange,
        "/access_token" => Endpoint::LongLivedExchange,
        "/refresh_access_token" => Endpoint::Refresh,
        "/debug_token" => Endpoint::DebugToken,
        "/me" => Endpoint::Me,
        other if other.starts_with(pictures::FOLDER) => Endpoint::Picture,
        other => match other.strip_prefix('/') {
            Some(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => Endpoint::Me,
            _ => Endpoint::Other,
        },
    }
}

fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The text fields of a multipart form, enough for what curl and HTTP libraries produce.
fn multipart(body: &str, boundary: &str) -> Parameters {
    let delimiter = format!("--{boundary}");
    let fields = body.split(&delimiter).filter_map(|part| {
        let (head, value) = part.split_once("\r\n\r\n")?;
        let (_, name) = head.split_once(" name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((name.to_owned(), value.strip_suffix("\r\n").unwrap_or(value).to_owned()))
    });
    Parameters(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multipart_form_is_read() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"code\"\r\n\r\nAQ1\r\n--x\r\nContent-Disposition: form-data; name=\"client_id\"\r\n\r\n12\r\n--x--\r\n";
        let parameters = multipart(body, "x");
        assert_eq!(parameters.get("code"), Some("AQ1"));
        assert_eq!(parameters.get("client_id"), Some("12"));
    }

    #[test]
    fn paths_name_endpoints_with_and_without_the_version() {
        let none = Parameters::default();
        let get = |path| endpoint(&Method::GET, path, &none);
        for (path, expected) in [
            ("/me", Endpoint::Me),
            ("/v1.0/me", Endpoint::Me),
            ("/v1.0/17841405793187219", Endpoint::Me),
            ("/v1.0/oauth/access_token", Endpoint::CodeExchange),
            ("/v2.0/me", Endpoint::Other),
            ("/v/t51.2885-19/17841405793187219_n.jpg", Endpoint::Picture),
            ("/", Endpoint::Other),
        ] {
            assert_eq!(get(path), expected, "{path}");
        }
    }
}
