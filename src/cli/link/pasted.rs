//! What somebody pastes: the address at which the browser has ended, or something
//! else by mistake.

use std::borrow::Cow;

use url::form_urlencoded;

/// What can be completed.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Pasted {
    /// Where Threads has sent the browser.
    Address(String),
    /// What the hosted callback has added to the address it sent the browser on to.
    Ticket(String),
}

/// The shortest that a ticket can be.
const TICKET_MIN: usize = 40;

/// Reads a line.
///
/// # Errors
/// What it is instead, and what to paste.
pub(super) fn read(line: &str) -> Result<Pasted, &'static str> {
    let text = line.trim().trim_matches(['"', '\'', '<', '>']).trim();
    if text.is_empty() {
        return Err("Nothing was pasted. Paste the address at which the browser has ended.");
    }
    let before_fragment = text.split('#').next().unwrap_or_default();
    let query = match before_fragment.split_once('?') {
        Some((_, query)) => query,
        None => before_fragment,
    };
    let values: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(query.as_bytes()).collect();
    let value = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    if let Some(ticket) = value("ticket") {
        Ok(Pasted::Ticket(ticket.clone().into_owned()))
    } else if value("code").is_some() || value("error").is_some() {
        Ok(Pasted::Address(text.to_owned()))
    } else if value("client_id").is_some() {
        Err(
            "That is the URL to open. Open it in a browser, consent, and paste the address at which the browser \
             ends.",
        )
    } else if text.contains("/threads/link-trouble/") {
        Err("The page at that address says what went wrong. Run the command again.")
    } else if text.len() >= TICKET_MIN
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        Ok(Pasted::Ticket(text.to_owned()))
    } else {
        Err(
            "That has no `code`, `error` or `ticket` in it. Paste the whole address at which the browser has ended, \
             after the person has said yes or no.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_tickets_are_told_apart() {
        let address = |text: &str| Ok(Pasted::Address(text.to_owned()));
        let ticket = |text: &str| Ok(Pasted::Ticket(text.to_owned()));
        let long = "A-_z0".repeat(20);
        for (line, expected) in [
            ("https://x.example/cb?code=AQ&state=s#_\n", address("https://x.example/cb?code=AQ&state=s#_")),
            ("  \"/cb?error=access_denied&state=s\"\r\n", address("/cb?error=access_denied&state=s")),
            ("code=AQ&state=s", address("code=AQ&state=s")),
            ("https://x.example/linked?tab=a&ticket=T1&error=AUTHORIZATION_DENIED", ticket("T1")),
            ("<https://x.example/linked?ticket=T%2D1>", ticket("T-1")),
            (long.as_str(), ticket(&long)),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn everything_else_is_told_what_it_is() {
        for (line, words) in [
            ("", "Nothing"),
            (" \n", "Nothing"),
            ("https://threads.com/oauth/authorize?client_id=1&state=s", "That is the URL to open"),
            ("https://id.example.com/threads/link-trouble/state/ABCD1234", "says what went wrong"),
            ("https://x.example/cb", "no `code`"),
            ("https://x.example/cb?state=s", "no `code`"),
            ("yes", "no `code`"),
        ] {
            let wrong = read(line).unwrap_err();
            assert!(wrong.contains(words), "{line}: {wrong}");
        }
    }
}
