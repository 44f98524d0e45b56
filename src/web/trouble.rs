//! What a person reads whose way back from Threads ends here. The page stands at
//! an address of its own, without a query: the one that Threads sent the browser to
//! holds a code and a state, which nobody is to find in an address bar, a history
//! or a screenshot.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::page::Page;
use super::{Web, nothing_here, see_other};
use crate::authorizations::NoTicket;
use crate::ids::LETTERS;
use crate::secret;

/// Where these pages are, behind the public URL.
pub(super) const PATH: &str = "/threads/link-trouble";

const REFERENCE_LEN: usize = 8;
const START_AGAIN: &str = "Go back to the app where you began and start again from there.";

/// One kind of trouble: what is said of it, and how.
pub(super) struct Trouble {
    /// Its name in the address, the log and the metric.
    pub result: &'static str,
    status: StatusCode,
    heading: &'static str,
    text: &'static [&'static str],
}

const ANSWER_INVALID: Trouble = Trouble {
    result: "answer_invalid",
    status: StatusCode::BAD_REQUEST,
    heading: "This link is incomplete",
    text: &["What came with it cannot be used, so nothing was linked.", START_AGAIN],
};
const STATE_INVALID: Trouble = Trouble {
    result: "state_invalid",
    status: StatusCode::BAD_REQUEST,
    heading: "We do not know this link",
    text: &["It was not made here, or it was changed on its way. Nothing was linked.", START_AGAIN],
};
const DENIED_WITHOUT_STATE: Trouble = Trouble {
    result: "denied_without_state",
    status: StatusCode::OK,
    heading: "Nothing was linked",
    text: &["Threads says that you did not allow it. That is all: you can close this page.", START_AGAIN],
};
const EXPIRED: Trouble = Trouble {
    result: "expired",
    status: StatusCode::GONE,
    heading: "That took too long",
    text: &[
        "A link to Threads is good for 15 minutes, and this one is older. Nothing was linked.",
        START_AGAIN,
    ],
};
const NO_RETURN: Trouble = Trouble {
    result: "no_return",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    heading: "We do not know where you came from",
    text: &[
        "Threads sent you here, but the app has not told us where to send you on to. Nothing was linked.",
        "Whoever runs the app can mend this: tell them the reference below.",
    ],
};
const UNAVAILABLE: Trouble = Trouble {
    result: "unavailable",
    status: StatusCode::SERVICE_UNAVAILABLE,
    heading: "Not just now",
    text: &["Something of ours is not ready. Wait a moment and load this page again."],
};

/// Those with an address of their own. What passes by itself has none: whoever
/// loads the page again must bring what Threads gave.
const ADDRESSED: [&Trouble; 5] =
    [&ANSWER_INVALID, &STATE_INVALID, &DENIED_WITHOUT_STATE, &EXPIRED, &NO_RETURN];

impl Trouble {
    /// Which one it is.
    pub(super) fn of(why: &NoTicket) -> &'static Self {
        match why {
            NoTicket::AnswerInvalid => &ANSWER_INVALID,
            NoTicket::StateInvalid => &STATE_INVALID,
            NoTicket::DeniedWithoutState => &DENIED_WITHOUT_STATE,
            NoTicket::Expired(_) => &EXPIRED,
            NoTicket::NoReturn(_) => &NO_RETURN,
            NoTicket::Unavailable(_) => &UNAVAILABLE,
        }
    }

    /// What a browser gets that came with something in its address, or with nothing.
    pub(super) fn answer(&self, web: &Web, reference: &str, query: &str) -> Response {
        let is_addressed = ADDRESSED.iter().any(|other| other.result == self.result);
        if query.is_empty() || !is_addressed {
            return self.page(reference);
        }
        // Threads puts a `#_` behind its addresses, which a fragment of our own takes away.
        see_other(&format!("{}{PATH}/{}/{reference}#", web.public_url, self.result))
    }

    fn page(&self, reference: &str) -> Response {
        (self.status, Page::new(self.heading, self.text).referring_to(reference)).into_response()
    }
}

/// The page at such an address.
pub(super) async fn told(Path((result, reference)): Path<(String, String)>) -> Response {
    let trouble = ADDRESSED.into_iter().find(|trouble| trouble.result == result);
    match trouble {
        Some(trouble) if is_reference(&reference) => trouble.page(&reference),
        _ => nothing_here(),
    }
}

/// A new reference, short enough to be read aloud.
pub(super) fn reference() -> String {
    let bytes = secret::random::<REFERENCE_LEN>();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

fn is_reference(text: &str) -> bool {
    text.len() == REFERENCE_LEN && text.bytes().all(|byte| LETTERS.contains(&byte))
}
