//! Callback URLs as they should not be: what browsers, proxies, careless copying and attackers make of
//! them on the way back to the app. A duplicate callback needs no variant: visit the same URL twice.

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

/// What has become of a callback URL before the app sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Nothing.
    #[default]
    Plain,
    /// The `#_` behind it is gone, as a server sees it.
    NoFragment,
    /// The `#_` has become part of the last value.
    FragmentInValue,
    /// The `#_` has become part of the code.
    Suffix,
    /// The state comes before the code.
    Reordered,
    /// Parameters that nobody has documented are there too.
    Extra,
    /// No state.
    NoState,
    /// An empty state.
    EmptyState,
    /// One character of the state is another.
    OtherState,
    /// The state twice.
    DuplicateState,
    /// No code.
    NoCode,
    /// An empty code.
    EmptyCode,
    /// One character of the code is another.
    OtherCode,
    /// The code twice.
    DuplicateCode,
    /// The code, and another one.
    TwoCodes,
    /// The code, and a denial.
    CodeAndError,
    /// Neither code nor state: somebody typed the address.
    Nothing,
}

impl Variant {
    /// Makes it of a callback URL.
    pub(super) fn of(self, callback_url: &str) -> String {
        let (rest, fragment) = match callback_url.split_once('#') {
            Some((rest, _)) => (rest, "#_"),
            None => (callback_url, ""),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut pairs: Vec<String> = query.split('&').map(str::to_owned).collect();
        let is = |name: &'static str| move |pair: &String| pair.split('=').next() == Some(name);
        let copy = |pairs: &[String], name: &'static str| pairs.iter().find(|pair| is(name)(pair)).cloned();
        let change = |pairs: &mut Vec<String>, name: &'static str, change: fn(&str) -> String| {
            for pair in pairs.iter_mut().filter(|pair| is(name)(pair)) {
                *pair = change(pair);
            }
        };
        match self {
            Variant::Plain => {}
            Variant::NoFragment => return rest.to_owned(),
            Variant::FragmentInValue => return format!("{rest}%23_"),
            Variant::Suffix => change(&mut pairs, "code", |pair| format!("{pair}%23_")),
            Variant::Reordered => pairs.reverse(),
            Variant::Extra => pairs.extend(["utm_source=threads".to_owned(), "__coig_login=1".to_owned()]),
            Variant::NoState => pairs.retain(|pair| !is("state")(pair)),
            Variant::EmptyState => change(&mut pairs, "state", |_| "state=".to_owned()),
            Variant::OtherState => change(&mut pairs, "state", altered),
            Variant::DuplicateState => pairs.extend(copy(&pairs, "state")),
            Variant::NoCode => pairs.retain(|pair| !is("code")(pair)),
            Variant::EmptyCode => change(&mut pairs, "code", |_| "code=".to_owned()),
            Variant::OtherCode => change(&mut pairs, "code", altered),
            Variant::DuplicateCode => pairs.extend(copy(&pairs, "code")),
            Variant::TwoCodes => pairs.extend(copy(&pairs, "code").map(|pair| altered(&pair))),
            Variant::CodeAndError => pairs.extend([denial()]),
            Variant::Nothing => pairs.retain(|pair| !is("code")(pair) && !is("state")(pair)),
        }
        let query = pairs.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{path}{mark}{query}{fragment}")
    }
}

/// A denial's parameters as the documentation shows them.
pub(super) fn denial() -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("error", "access_denied")
        .append_pair("error_reason", "user_denied")
        .append_pair("error_description", "The user denied your request")
        .finish()
}

/// The pair with another last character but one: the last may hold bits that decoders ignore.
fn altered(pair: &str) -> String {
    let Some((at, character)) = pair.char_indices().rev().nth(1) else {
        return pair.to_owned();
    };
    let other = if character == 'A' { 'B' } else { 'A' };
    let mut text = pair.to_owned();
    text.replace_range(at..at + character.len_utf8(), other.encode_utf8(&mut [0; 4]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_what_its_name_says() {
        let url = "https://a.example/cb?x=1&code=AQ1234&state=s%2F123#_";
        for (variant, expected) in [
            (Variant::Plain, url),
            (Variant::NoFragment, "https://a.example/cb?x=1&code=AQ1234&state=s%2F123"),
            (Variant::FragmentInValue, "https://a.example/cb?x=1&code=AQ1234&state=s%2F123%23_"),
            (Variant::Suffix, "https://a.example/cb?x=1&code=AQ1234%23_&state=s%2F123#_"),
            (Variant::Reordered, "https://a.example/cb?state=s%2F123&code=AQ1234&x=1#_"),
            (
                Variant::Extra,
                "https://a.example/cb?x=1&code=AQ1234&state=s%2F123&utm_source=threads&__coig_login=1#_",
            ),
            (Variant::NoState, "https://a.example/cb?x=1&code=AQ1234#_"),
            (Variant::EmptyState, "https://a.example/cb?x=1&code=AQ1234&state=#_"),
            (Variant::OtherState, "https://a.example/cb?x=1&code=AQ1234&state=s%2F1A3#_"),
            (Variant::DuplicateState, "https://a.example/cb?x=1&code=AQ1234&state=s%2F123&state=s%2F123#_"),
            (Variant::NoCode, "https://a.example/cb?x=1&state=s%2F123#_"),
            (Variant::EmptyCode, "https://a.example/cb?x=1&code=&state=s%2F123#_"),
            (Variant::OtherCode, "https://a.example/cb?x=1&code=AQ12A4&state=s%2F123#_"),
            (Variant::DuplicateCode, "https://a.example/cb?x=1&code=AQ1234&state=s%2F123&code=AQ1234#_"),
            (Variant::TwoCodes, "https://a.example/cb?x=1&code=AQ1234&state=s%2F123&code=AQ12A4#_"),
            (
                Variant::CodeAndError,
                "https://a.example/cb?x=1&code=AQ1234&state=s%2F123&error=access_denied&error_reason=user_denied&error_description=The+user+denied+your+request#_",
            ),
            (Variant::Nothing, "https://a.example/cb?x=1#_"),
        ] {
            assert_eq!(variant.of(url), expected, "{variant:?}");
        }
        assert_eq!(Variant::Nothing.of("https://a.example/cb?code=AQ1&state=s"), "https://a.example/cb");
    }
}
