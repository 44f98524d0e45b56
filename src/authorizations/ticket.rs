//! The ticket: what the hosted callback was brought, sealed for whoever completes
//! the authorization.
//!
//! Handing over writes nothing and spends nothing. The callback does not know who
//! sits at the browser; the caller, to whose page the browser goes next, does.

use std::time::Duration;

use prost::Message as _;
use url::Url;
use zeroize::Zeroizing;

use super::Answer;
use super::brought::{Brought, StateFlaw, read_code};
use super::state::{Request, return_to_digest};
use crate::clock;
use crate::error::Error;
use crate::ids::AuthorizationId;
use crate::proto::internal;
use crate::sealing::{LiveKeyring, OpenError, Place, Purpose};
use crate::service::{App, Service};

/// How long a ticket is good.
const TICKET_LIFETIME: Duration = Duration::from_mins(10);
/// The longest ticket, in characters.
pub const TICKET_MAX: usize = 4096;

/// Where a browser goes with its ticket.
pub struct Handover {
    /// The address, with the ticket in it.
    pub location: Url,
    /// The authorization.
    pub id: AuthorizationId,
    /// Whether the person said no.
    pub is_denial: bool,
}

/// Why there is no ticket.
#[derive(Debug, Clone)]
pub enum NoTicket {
    /// Neither one code nor one error, or an impossible one.
    AnswerInvalid,
    /// The state is absent, empty, repeated, forged, or of another app.
    StateInvalid,
    /// The person said no, and Threads did not say in which flow.
    DeniedWithoutState,
    /// The state is too old.
    Expired(AuthorizationId),
    /// The app has no address to return to, or no longer the one that was asked for.
    NoReturn(AuthorizationId),
    /// Nothing can be sealed just now.
    Unavailable(Error),
}

/// Seals what the browser brought into a ticket.
///
/// # Errors
/// [`NoTicket`].
pub fn hand_over(service: &Service, app: &App, query: &str) -> Result<Handover, NoTicket> {
    service.keyring.require_current().map_err(NoTicket::Unavailable)?;
    let Brought { state, answer } = Brought::read(query);
    let answer = answer.map_err(|_| NoTicket::AnswerInvalid)?;
    let state = state.map_err(|flaw| match (flaw, &answer) {
        (StateFlaw::Absent, Answer::Denied) => NoTicket::DeniedWithoutState,
        _ => NoTicket::StateInvalid,
    })?;
    let request = Request::open(&service.keyring, app.id(), &state).map_err(|error| match error {
        OpenError::KeyUnknown => NoTicket::Unavailable(error.into()),
        OpenError::Invalid => NoTicket::StateInvalid,
    })?;
    let now = service.clock.now();
    if now >= request.expire_time {
        return Err(NoTicket::Expired(request.id));
    }
    let location = return_to(app, &request).ok_or(NoTicket::NoReturn(request.id))?;
    let (id, is_denial) = (request.id, matches!(answer, Answer::Denied));
    let ticket = internal::Ticket {
        state: Some(request.message()),
        expire_time_ms: clock::unix_milliseconds(now + TICKET_LIFETIME),
        code: match &answer {
            Answer::Code(code) => code.expose().to_owned(),
            Answer::Denied => String::new(),
        },
    };
    let plaintext = Zeroizing::new(ticket.encode_to_vec());
    drop(Zeroizing::new(ticket.code));
    let ticket = service.keyring.seal_text(place(app.id()), &plaintext);
    Ok(Handover { location: with_ticket(location, &ticket, is_denial), id, is_denial })
}

/// The address to return to, as configured: what was asked for is only looked up.
fn return_to<'a>(app: &'a App, request: &Request) -> Option<&'a Url> {
    let known = &app.config.return_to;
    match request.return_to {
        None => known.first(),
        Some(digest) => known.iter().find(|url| return_to_digest(url) == digest),
    }
}

fn with_ticket(url: &Url, ticket: &str, is_denial: bool) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("ticket", ticket);
    if is_denial {
        // A hint for the page. What counts is in the ticket.
        url.query_pairs_mut().append_pair("error", "AUTHORIZATION_DENIED");
    }
    // Threads ends its address in `#_`. A browser carries a fragment on through every
    // redirect that has none of its own, down to the caller's page.
    url.set_fragment(Some(""));
    url
}

fn place(app_id: &str) -> Place<'_> {
    Place { purpose: Purpose::Ticket, app_id, row: b"" }
}

/// Opens a ticket: the request, which is as good as the ticket, and the answer.
pub(super) fn open(
    keyring: &LiveKeyring,
    app_id: &str,
    ticket: &str,
) -> Result<(Request, Answer), OpenError> {
    let plaintext = keyring.open_text(place(app_id), ticket)?;
    let ticket = internal::Ticket::decode(&**plaintext).map_err(|_| OpenError::Invalid)?;
    let request = ticket.state.and_then(Request::from_message).ok_or(OpenError::Invalid)?;
    let expire_time = clock::from_unix_milliseconds(ticket.expire_time_ms).ok_or(OpenError::Invalid)?;
    let answer = match ticket.code.as_str() {
        "" => Answer::Denied,
        code => read_code(code).map_err(|_| OpenError::Invalid)?,
    };
    Ok((Request { expire_time, ..request }, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorizations::STATE_MAX;
    use crate::authorizations::brought::CODE_MAX;
    use crate::sealing::Keyring;

    #[test]
    fn the_longest_ticket_fits() {
        // A state's characters hold three bytes in four, so this is more than any.
        let state =
            internal::State { redirect_uri: "r".repeat(STATE_MAX / 4 * 3), ..internal::State::default() };
        let ticket =
            internal::Ticket { state: Some(state), expire_time_ms: i64::MAX, code: "c".repeat(CODE_MAX) };
        let keyring = LiveKeyring::new(Keyring::generate(""));
        let length = keyring.seal_text(place(&"a".repeat(32)), &ticket.encode_to_vec()).len();
        assert!(length <= TICKET_MAX, "{length}");
    }
}
