//! Profile pictures as the platform's content network serves them: under a signed address that dies.

use axum::http::Method;

use super::answer::Answer;
use super::people::{Persona, Picture};
use super::request::Received;
use super::state::State;

/// Where pictures are, below the network's host.
pub(super) const FOLDER: &str = "/v/t51.2885-19/";

/// The network's host, as far as it is made up.
const NETWORK: &str = "https://scontent-sim.cdninstagram.com";

const DAY: i64 = 86_400;
const PICTURE_DAYS: i64 = 5;

impl State {
    /// The address of a person's picture at this time. Its end (`oe`, hexadecimal) moves once a day.
    pub(super) fn picture_url(&self, persona: &Persona) -> Option<String> {
        let host = match &persona.picture {
            Picture::None => return None,
            Picture::Url(url) => return Some(url.clone()),
            Picture::Signed => NETWORK,
            Picture::Hosted => &self.base_url,
        };
        let expiry = (self.now() / DAY + PICTURE_DAYS) * DAY;
        let id = &persona.id;
        Some(format!(
            "{host}{FOLDER}{id}_n.jpg?stp=dst-jpg_s640x640&_nc_sid=7d201b&oh=00_sim{expiry:x}&oe={expiry:X}"
        ))
    }

    /// A picture, or 403 once its address has died, as has been reported of the real network.
    pub(super) fn picture(&self, request: &Received) -> Answer {
        let name = request.path.strip_prefix(FOLDER).unwrap_or_default();
        let id = name.strip_suffix("_n.jpg").unwrap_or_default();
        let hosts = |persona: &Persona| persona.id == id && persona.picture == Picture::Hosted;
        if request.method != Method::GET || !self.people.iter().any(|person| hosts(&person.persona)) {
            return Answer::new(404, "text/plain", "Not Found".to_owned());
        }
        let text = |name| request.parameters.get(name).unwrap_or_default();
        let Ok(expiry) = i64::from_str_radix(text("oe"), 16) else {
            return Answer::new(403, "text/plain", "Bad URL hash".to_owned());
        };
        if text("oh") != format!("00_sim{expiry:x}") {
            return Answer::new(403, "text/plain", "Bad URL hash".to_owned());
        }
        if self.now() >= expiry {
            return Answer::new(403, "text/plain", "URL signature expired".to_owned());
        }
        // Drawn, whatever its name ends in: another colour for another person.
        let hue = id.bytes().fold(0, |sum, byte| (sum * 7 + u32::from(byte)) % 360);
        let body = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\"><rect width=\"64\" height=\"64\" fill=\"hsl({hue} 45% 62%)\"/>\
             <circle cx=\"32\" cy=\"25\" r=\"12\" fill=\"#fff\"/><circle cx=\"32\" cy=\"66\" r=\"24\" fill=\"#fff\"/></svg>"
        );
        let mut answer = Answer::new(200, "image/svg+xml", body);
        let headers = [
            ("content-security-policy", "default-src 'none'"),
            ("cache-control", "max-age=3600"),
            ("x-content-type-options", "nosniff"),
        ];
        answer.headers.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        answer
    }
}
