//! A person's profile as Threads last returned it.

use time::OffsetDateTime;
use url::form_urlencoded;

use crate::ids::ThreadsUserId;

/// A profile. Absent, empty and present are three things.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// The only stable name of the person.
    pub id: ThreadsUserId,
    /// The handle; it changes and is reassigned.
    pub username: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// Where the picture is, for as long as its signature lasts.
    pub picture_url: Option<String>,
    /// The biography.
    pub biography: Option<String>,
    /// Whether Threads shows the account as verified.
    pub is_verified: Option<bool>,
}

/// When the picture at `url` stops being served, if the address says so: Meta's
/// CDN writes it as `oe=<hexadecimal unix seconds>`, which is observed and not
/// documented.
#[must_use]
pub fn picture_expire_time(url: &str) -> Option<OffsetDateTime> {
    // Only the query is read: to parse all of the address takes longer than everything
    // else about an answer.
    let (address, query) = url.split('#').next()?.split_once('?')?;
    if !["https://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
        return None;
    }
    // And of it only what may be the parameter, which somebody may have encoded.
    let candidates =
        query.split('&').filter(|pair| ["oe", "o%", "%"].iter().any(|name| pair.starts_with(name)));
    let (_, value) = candidates
        .filter_map(|pair| form_urlencoded::parse(pair.as_bytes()).next())
        .find(|(name, _)| name == "oe")?;
    if !(1..=10).contains(&value.len()) {
        return None;
    }
    let seconds = i64::from_str_radix(&value, 16).ok().filter(|seconds| *seconds > 0)?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_picture_is_read_only_where_it_is_well_formed() {
        let end = |query: &str| {
            picture_expire_time(&format!("https://scontent.cdninstagram.com/v/x.jpg?{query}"))
                .map(OffsetDateTime::unix_timestamp)
        };
        assert_eq!(end("stp=dst&oe=68A1B2C3&oh=x"), Some(0x68A1_B2C3));
        for bad in ["", "oe=", "oe=zz", "oe=-1", "oe=0", "oe=FFFFFFFFFFFFFFFFFF", "OE=68A1B2C3"] {
            assert_eq!(end(bad), None, "{bad}");
        }
        assert_eq!(end("a=1&%6fe=68%41%31B2C3"), Some(0x68A1_B2C3));
        assert_eq!(end("oe2=1&o%65=68A1B2C3&oe=1"), Some(0x68A1_B2C3));
        assert_eq!(end("oe&oe=68A1B2C3"), None, "the first counts");
        assert_eq!(end("oe=68A1B2C3#oe=1"), Some(0x68A1_B2C3));
        for bad in ["not a url", "x.jpg?oe=68A1B2C3", "https://a.example/x.jpg#?oe=68A1B2C3"] {
            assert_eq!(picture_expire_time(bad), None, "{bad}");
        }
    }
}
