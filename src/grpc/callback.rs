//! What the browser brought, out of the URL that it was sent to.

use url::form_urlencoded;

use super::fields::Fields;
use crate::authorizations::{Answer, STATE_MAX};
use crate::error::{Error, Reason, Result};
use crate::proto::v1::complete_authorization_request::{Parameters, parameters};
use crate::secret::AuthorizationCode;

/// The longest callback URL, in bytes.
const URL_MAX: usize = 8 * 1024;
/// The longest code, in bytes.
const CODE_MAX: usize = 2048;
/// The longest error, in bytes.
const ERROR_MAX: usize = 256;

/// State and answer out of a URL: absolute, relative, or the query alone.
/// Scheme, host and path are not looked at: what proves anything is the state.
pub(super) fn from_url(fields: &mut Fields, url: &str) -> Result<(String, Option<Answer>)> {
    const FIELD: &str = "callback_url";
    if url.len() > URL_MAX {
        fields.bad(FIELD, "is longer than 8 KiB");
        return Ok((String::new(), None));
    }
    let (mut states, mut codes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query(url).as_bytes()) {
        match &*name {
            "state" => states.push(value.into_owned()),
            "code" => codes.push(value.into_owned()),
            "error" => errors.push(value.into_owned()),
            _ => {}
        }
    }
    let answer = match (codes.as_slice(), errors.as_slice()) {
        ([code], []) => code_answer(fields, FIELD, code),
        ([], [error]) => error_answer(fields, FIELD, error),
        ([], []) => {
            fields.bad(FIELD, "holds neither `code` nor `error`");
            None
        }
        _ => {
            fields.bad(FIELD, "must hold exactly one `code` or one `error`");
            None
        }
    };
    match states.as_mut_slice() {
        [state] if (1..=STATE_MAX).contains(&state.len()) => Ok((std::mem::take(state), answer)),
        // Absent, empty, repeated or too long: the other fields are told first.
        _ => {
            std::mem::take(fields).check()?;
            Err(Error::new(Reason::StateInvalid))
        }
    }
}

/// State and answer as the caller took them apart.
pub(super) fn from_parameters(
    fields: &mut Fields,
    parameters: Parameters,
) -> Result<(String, Option<Answer>)> {
    let state = parameters.state;
    if state.is_empty() {
        fields.bad("parameters.state", "is required");
    }
    let answer = match &parameters.result {
        None => {
            fields.bad("parameters.code", "is required, or parameters.error");
            None
        }
        Some(parameters::Result::Code(code)) => code_answer(fields, "parameters.code", code),
        Some(parameters::Result::Error(error)) => error_answer(fields, "parameters.error", error),
    };
    if state.len() > STATE_MAX {
        std::mem::take(fields).check()?;
        return Err(Error::new(Reason::StateInvalid));
    }
    Ok((state, answer))
}

fn query(url: &str) -> &str {
    let url = url.split('#').next().unwrap_or_default();
    match url.split_once('?') {
        Some((_, query)) => query,
        // No question mark: a bare query, unless it is an address without one.
        None if url.starts_with('/') || url.contains("://") => "",
        None => url,
    }
}

fn code_answer(fields: &mut Fields, field: &str, code: &str) -> Option<Answer> {
    // Threads appends `#_` to the address; some clients take it for the code's.
    let code = code.strip_suffix("#_").unwrap_or(code);
    if code.is_empty() {
        fields.bad(field, "holds an empty code");
    } else if code.len() > CODE_MAX {
        fields.bad(field, "holds a code longer than 2 KiB");
    } else if !code.bytes().all(|b| b.is_ascii_graphic()) {
        fields.bad(field, "holds a code with characters that no code has");
    } else {
        return Some(Answer::Code(AuthorizationCode::new(code.to_owned())));
    }
    None
}

fn error_answer(fields: &mut Fields, field: &str, error: &str) -> Option<Answer> {
    if error.is_empty() {
        fields.bad(field, "holds an empty error");
    } else if error.len() > ERROR_MAX || error.chars().any(char::is_control) {
        fields.bad(field, "holds an error that is longer than 256 bytes or has control characters");
    } else {
        return Some(Answer::Denied);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> std::result::Result<(String, String), String> {
        let mut fields = Fields::default();
        let (state, answer) = from_url(&mut fields, url).map_err(|e| e.reason().as_str_name().to_owned())?;
        fields.check().map_err(|e| e.reason().as_str_name().to_owned())?;
        Ok((
            state,
            match answer {
                Some(Answer::Code(code)) => code.expose().to_owned(),
                Some(Answer::Denied) => "denied".to_owned(),
                None => "none".to_owned(),
            },
        ))
    }

    #[test]
    fn every_form_of_the_address_reads_the_same() {
        for url in [
            "https://app.example/cb?code=AQx&state=s#_",
            "https://other.example:8443/elsewhere?state=s&code=AQx",
            "/cb?code=AQx&state=s",
            "cb?code=AQx&state=s&scope=a&scope=b",
            "?code=AQx&state=s",
            "code=AQx&state=s",
            "code=AQx%23_&state=s",
            "https://app.example/cb?code=AQx&state=s&error_description=x",
        ] {
            assert_eq!(read(url), Ok(("s".to_owned(), "AQx".to_owned())), "{url}");
        }
        assert_eq!(
            read("/cb?error=access_denied&error_reason=user_denied&error_description=The+user&state=s"),
            Ok(("s".to_owned(), "denied".to_owned()))
        );
    }

    #[test]
    fn absent_empty_repeated_and_wrong_are_refused() {
        for (url, reason) in [
            ("", "FIELD_INVALID"),
            ("/cb", "FIELD_INVALID"),
            ("https://app.example/code=AQx&state=s", "FIELD_INVALID"),
            ("?state=s", "FIELD_INVALID"),
            ("?code=&state=s", "FIELD_INVALID"),
            ("?code=%23_&state=s", "FIELD_INVALID"),
            ("?code=a&code=b&state=s", "FIELD_INVALID"),
            ("?code=a&error=access_denied&state=s", "FIELD_INVALID"),
            ("?error=&state=s", "FIELD_INVALID"),
            ("?error=a&error=b&state=s", "FIELD_INVALID"),
            ("?code=a%00b&state=s", "FIELD_INVALID"),
            ("?code=a%0d%0ab&state=s", "FIELD_INVALID"),
            ("?code=a+b&state=s", "FIELD_INVALID"),
            ("?code=AQx", "STATE_INVALID"),
            ("?code=AQx&state=", "STATE_INVALID"),
            ("?code=AQx&state=s&state=s", "STATE_INVALID"),
            ("?code=AQx&state[]=s", "STATE_INVALID"),
            ("?code=AQx&State=s", "STATE_INVALID"),
            ("?error=access_denied", "STATE_INVALID"),
        ] {
            assert_eq!(read(url), Err(reason.to_owned()), "{url}");
        }
        assert_eq!(read(&format!("?code=AQx&state={}", "s".repeat(1025))), Err("STATE_INVALID".to_owned()));
        assert_eq!(read(&format!("?state=s&code={}", "c".repeat(2049))), Err("FIELD_INVALID".to_owned()));
        assert_eq!(read(&format!("?state=s&code=c&x={}", "x".repeat(8192))), Err("FIELD_INVALID".to_owned()));
    }
}
