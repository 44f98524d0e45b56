//! What the browser brings back from Threads: the parameters of the callback.

use url::form_urlencoded;

use super::{Answer, STATE_MAX};
use crate::secret::AuthorizationCode;

/// The longest query or address that is looked at, in bytes.
pub const QUERY_MAX: usize = 8 * 1024;
/// The longest code, in bytes.
pub const CODE_MAX: usize = 2048;
/// Threads appends it to the address; some clients take it for the last value's.
const SUFFIX: &str = "#_";
/// The longest error, in bytes.
const ERROR_MAX: usize = 256;

/// The parameters of a callback, each exactly once or not at all.
pub struct Brought {
    /// The state, or what is wrong with it.
    pub state: Result<String, StateFlaw>,
    /// The answer, or what is wrong with it.
    pub answer: Result<Answer, &'static str>,
}

/// Why a callback has no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFlaw {
    /// There is none. Meta's own sample of a denial has none.
    Absent,
    /// It is empty, repeated, or longer than any of ours.
    Wrong,
}

impl Brought {
    /// Reads a query, without the question mark. Only `state`, `code` and `error`
    /// are looked at: what else Threads adds is its own affair.
    #[must_use]
    pub fn read(query: &str) -> Self {
        let (mut states, mut codes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "state" => states.push(value.into_owned()),
                "code" => codes.push(value.into_owned()),
                "error" => errors.push(value.into_owned()),
                _ => {}
            }
        }
        let answer = match (codes.as_slice(), errors.as_slice()) {
            ([code], []) => read_code(code),
            ([], [error]) => read_error(error),
            ([], []) => Err("holds neither `code` nor `error`"),
            _ => Err("must hold exactly one `code` or one `error`"),
        };
        let state = match states.as_mut_slice() {
            [] => Err(StateFlaw::Absent),
            [state] => read_state(std::mem::take(state)).ok_or(StateFlaw::Wrong),
            _ => Err(StateFlaw::Wrong),
        };
        Self { state, answer }
    }
}

fn read_state(mut state: String) -> Option<String> {
    // It may be the last parameter, and take the address's end for its own.
    if state.ends_with(SUFFIX) {
        state.truncate(state.len() - SUFFIX.len());
    }
    (1..=STATE_MAX).contains(&state.len()).then_some(state)
}

/// Reads a code.
///
/// # Errors
/// What is wrong with it.
pub fn read_code(code: &str) -> Result<Answer, &'static str> {
    let code = code.strip_suffix(SUFFIX).unwrap_or(code);
    if code.is_empty() {
        Err("holds an empty code")
    } else if code.len() > CODE_MAX {
        Err("holds a code longer than 2 KiB")
    } else if !code.bytes().all(|b| b.is_ascii_graphic()) {
        Err("holds a code with characters that no code has")
    } else {
        Ok(Answer::Code(AuthorizationCode::new(code.to_owned())))
    }
}

/// Reads an error. Whichever it is, there is no code.
///
/// # Errors
/// What is wrong with it.
pub fn read_error(error: &str) -> Result<Answer, &'static str> {
    if error.is_empty() {
        Err("holds an empty error")
    } else if error.len() > ERROR_MAX || error.chars().any(char::is_control) {
        Err("holds an error that is longer than 256 bytes or has control characters")
    } else {
        Ok(Answer::Denied)
    }
}
