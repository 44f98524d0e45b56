//! `[[apps]]`.

use std::collections::BTreeMap;

use url::Url;

use super::section::Section;
use super::{
    AppConfig, BASIC_SCOPE, PROFILE_FIELDS, REDIRECT_URI_MAX, RETURN_TO_MAX, SCOPES_MAX, is_loopback,
    is_scope, with_basic_scope,
};
use crate::secret::ClientSecret;

/// Parameters of the authorization URL that only the service itself may set.
const OWN_PARAMETERS: [&str; 6] =
    ["client_id", "client_secret", "redirect_uri", "response_type", "scope", "state"];

impl AppConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let id = section.required("id").filter(|id| check_id(&section, id));
        let client_id = section.required("client_id").filter(|id| check_client_id(&section, id));
        let client_secret = section.secret("client_secret").map(ClientSecret::new);
        if client_secret.is_none() && !section.has_problems_in("client_secret") {
            section
                .problem("client_secret", "is required, here or in the file that client_secret_file names");
        }
        let client_secret_previous = section.secret("client_secret_previous").map(ClientSecret::new);
        let redirect_uris = read_redirect_uris(&mut section);
        let return_to = read_return_to(&mut section);
        let scopes = read_scopes(&mut section);
        let authorize_url = read_url(&mut section, "authorize_url", "https://threads.com/oauth/authorize");
        let authorize_parameters = read_parameters(&mut section);
        let graph_url = read_url(&mut section, "graph_url", "https://graph.threads.com");
        let token_default = graph_url.as_ref().map(|base| endpoint(base, "oauth/access_token").to_string());
        let token_url =
            read_url(&mut section, "token_url", token_default.as_deref().unwrap_or("https://invalid"));
        let api_version = section.string_or_empty("api_version").unwrap_or_else(|| "v1.0".to_owned());
        if !api_version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') {
            section.problem("api_version", "must look like \"v1.0\", or be empty for none");
        }
        let profile_fields = read_profile_fields(&mut section);
        section.finish();
        Some(Self {
            id: id?,
            client_id: client_id?,
            client_secret: client_secret?,
            client_secret_previous,
            redirect_uris: redirect_uris?,
            return_to,
            scopes: scopes?,
            authorize_url: authorize_url?,
            authorize_parameters,
            token_url: token_url?,
            graph_url: graph_url?,
            api_version,
            profile_fields: profile_fields?,
        })
    }
}

/// `base` with `path` behind it, whatever slashes `base` ends in.
pub(crate) fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// The app that the environment describes, and that is meant where there are several
/// and none is named.
pub const DEFAULT_APP: &str = "default";

/// The app that a name means; without one the only app of these, or the default one.
#[must_use]
pub fn meant_app<'a>(named: Option<&'a str>, mut ids: impl ExactSizeIterator<Item = &'a str>) -> &'a str {
    let only = if ids.len() == 1 { ids.next() } else { None };
    named.or(only).unwrap_or(DEFAULT_APP)
}

/// Whether an app can have this id.
#[must_use]
pub fn is_app_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn check_id(section: &Section<'_>, id: &str) -> bool {
    let fits = is_app_id(id);
    if !fits {
        section.problem("id", "must be 1 to 32 of a-z, 0-9, - and _");
    }
    fits
}

fn check_client_id(section: &Section<'_>, id: &str) -> bool {
    // Facebook's app id is numeric too; Threads answers 4476002 for that one.
    let fits = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        section.problem("client_id", "must be the Threads app id, digits alone (not the Meta app id)");
    }
    fits
}

fn read_redirect_uris(section: &mut Section<'_>) -> Option<Vec<String>> {
    const KEY: &str = "redirect_uris";
    let uris = section.strings(KEY).unwrap_or_default();
    if uris.is_empty() {
        section.problem(KEY, "at least one is required");
        return None;
    }
    for (i, uri) in uris.iter().enumerate() {
        let key = format!("{KEY}.{i}");
        match Url::parse(uri) {
            _ if uri.len() > REDIRECT_URI_MAX => section.problem(&key, "is longer than 256 bytes"),
            Err(_) => section.problem(&key, "must be an absolute URL"),
            Ok(url) if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) => {
                section.problem(&key, "must be https, except on loopback");
            }
            Ok(url) if url.fragment().is_some() => section.problem(&key, "must have no fragment (#)"),
            Ok(_) if uris[..i].contains(uri) => section.problem(&key, "stands twice"),
            Ok(_) => {}
        }
    }
    (!section.has_problems_in(KEY)).then_some(uris)
}

fn read_return_to(section: &mut Section<'_>) -> Vec<Url> {
    const KEY: &str = "return_to";
    let texts = section.strings(KEY).unwrap_or_default();
    let mut urls: Vec<Url> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let key = format!("{KEY}.{i}");
        let Some(url) = section.web_url(&key, text) else { continue };
        if text.len() > RETURN_TO_MAX {
            section.problem(&key, "is longer than 1,024 bytes");
        } else if url.fragment().is_some() {
            section.problem(&key, "must have no fragment (#)");
        } else if url.query_pairs().any(|(name, _)| name == "ticket" || name == "error") {
            section.problem(&key, "must have no parameter `ticket` or `error`: the callback adds those");
        } else if urls.contains(&url) {
            section.problem(&key, "stands twice");
        } else {
            urls.push(url);
        }
    }
    urls
}

fn read_scopes(section: &mut Section<'_>) -> Option<Vec<String>> {
    let scopes = section.strings("scopes").unwrap_or_else(|| vec![BASIC_SCOPE.to_owned()]);
    if scopes.len() > SCOPES_MAX || !scopes.iter().all(|scope| is_scope(scope)) {
        section.problem("scopes", "must be at most 32 permissions such as \"threads_basic\"");
        return None;
    }
    Some(with_basic_scope(&scopes))
}

fn read_url(section: &mut Section<'_>, key: &str, default: &str) -> Option<Url> {
    let text = section.string(key).unwrap_or_else(|| default.to_owned());
    let url = section.web_url(key, &text)?;
    if url.fragment().is_some() {
        section.problem(key, "must have no fragment (#)");
        return None;
    }
    Some(url)
}

fn read_parameters(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let parameters = section.string_table("authorize_parameters");
    for (name, _) in &parameters {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            section.problem(&format!("authorize_parameters.{name}"), "is set by the service itself");
        }
        if name.starts_with("code_challenge") {
            section.problem(&format!("authorize_parameters.{name}"), "Threads has no PKCE");
        }
    }
    parameters.into_iter().collect()
}

fn read_profile_fields(section: &mut Section<'_>) -> Option<Vec<String>> {
    let Some(fields) = section.strings("profile_fields") else {
        return Some(PROFILE_FIELDS.map(str::to_owned).to_vec());
    };
    if let Some(unknown) = fields.iter().find(|field| !PROFILE_FIELDS.contains(&field.as_str())) {
        section.problem(
            "profile_fields",
            &format!("`{unknown}` is not one of the six that can be dropped: {}", PROFILE_FIELDS.join(", ")),
        );
        return None;
    }
    let wanted = |field: &&str| *field == "id" || fields.iter().any(|wanted| wanted == field);
    Some(PROFILE_FIELDS.iter().filter(|field| wanted(field)).map(|field| (*field).to_owned()).collect())
}
