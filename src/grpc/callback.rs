//! What the browser brought, out of the URL that it was sent to.

use super::fields::Fields;
use crate::authorizations::brought::{Brought, QUERY_MAX, read_code, read_error};
use crate::authorizations::{Answer, STATE_MAX};
use crate::error::{Error, Reason, Result};
use crate::proto::v1::complete_authorization_request::{Parameters, parameters};

/// State and answer out of a URL: absolute, relative, or the query alone.
/// Scheme, host and path are not looked at: what proves anything is the state.
pub(super) fn from_url(fields: &mut Fields, url: &str) -> Result<(String, Option<Answer>)> {
    const FIELD: &str = "callback_url";
    if url.len() > QUERY_MAX {
        fields.bad(FIELD, "is longer than 8 KiB");
        return Ok((String::new(), None));
    }
    let brought = Brought::read(query(url));
    let answer = noted(fields, FIELD, brought.answer);
    if let Ok(state) = brought.state {
        return Ok((state, answer));
    }
    // The other fields are told first.
    std::mem::take(fields).check()?;
    Err(Error::new(Reason::StateInvalid))
}

/// What was read, or a note of what is wrong with it.
fn noted(fields: &mut Fields, field: &str, answer: Result<Answer, &'static str>) -> Option<Answer> {
    answer.map_err(|description| fields.bad(field, description)).ok()
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
        Some(parameters::Result::Code(code)) => noted(fields, "parameters.code", read_code(code)),
        Some(parameters::Result::Error(error)) => noted(fields, "parameters.error", read_error(error)),
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
