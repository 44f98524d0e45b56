//! What Threads answers, as JSON: tokens and profiles.

use threads_identity::threads::{parse_code_exchange, parse_long_lived, parse_me};

/// Answers that are read, and some that are not.
pub const EXAMPLES: [&str; 9] = [
    r#"{"access_token":"THabc","user_id":17841405793187218}"#,
    r#"{"access_token":"THabc","token_type":"bearer","user_id":"28753684917596557","x":[1,{"y":null}]}"#,
    r#"{"access_token":"THabc","token_type":"bearer","expires_in":5183944}"#,
    r#"{"access_token":"THabc","expires_in":"5184000"}"#,
    r#"{"id":"17841405793187218","username":"ada","name":"Ada \ud83d\ude00","is_verified":true}"#,
    r#"{"id":"1","threads_profile_picture_url":"https:\/\/cdn.example\/a.jpg","threads_biography":null}"#,
    r#"{"data":{"id":"1","name":""},"is_verified":false}"#,
    r#"{"access_token":"THa\u0062c","user_id":null}"#,
    r#"{"error":{"message":"x","code":190}}"#,
];

/// What matters to the format.
pub const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "1",
    "-",
    "1e3",
    ".5",
    "\\u0000",
    "\\ud800",
    " ",
    "\"id\":\"1\",",
    "\"user_id\":",
    "\"expires_in\":",
    "\"access_token\":\"x\",",
    "\"data\":{",
    "\"name\":",
    "99999999999999999999",
    "\u{0}",
    "\u{e4}",
    "\\/",
    "\"\"",
];

/// The longest token, and the longest life of one, in seconds.
const TOKEN_MAX: usize = 4096;
const LIFE_MAX: u64 = 60 * 86_400;
const DEPTH_MAX: usize = 500;

/// The property: whether the input was read as any answer, after every reading has
/// been compared with an independent one.
pub fn property() -> impl Fn(&[u8]) -> bool {
    |input| {
        // Deeper than this reader, which calls itself, would go.
        if input.iter().filter(|b| matches!(b, b'[' | b'{')).count() > DEPTH_MAX {
            return false;
        }
        let object = Reader::object(input);
        let exchanged = parse_code_exchange(input);
        let expected = object.as_ref().and_then(exchange_of);
        let read = exchanged.map(|answer| {
            (answer.token.expose().to_owned(), answer.user_id.map(|id| id.as_str().to_owned()))
        });
        assert_eq!(read, expected);

        let extended = parse_long_lived(input)
            .map(|answer| (answer.token.expose().to_owned(), answer.lifetime.as_secs()));
        assert_eq!(extended, object.as_ref().and_then(life_of));

        let me = parse_me(input).map(|me| {
            let profile = me.profile;
            let texts = [profile.username, profile.name, profile.picture_url, profile.biography];
            (profile.id.as_str().to_owned(), texts, profile.is_verified, me.dropped)
        });
        let expected = object.as_ref().and_then(|object| profile_of(object, true));
        assert_eq!(me, expected);
        read.is_some() || extended.is_some() || me.is_some()
    }
}

type Exchange = (String, Option<String>);
type Profile = (String, [Option<String>; 4], Option<bool>, u64);

fn exchange_of(object: &Object) -> Option<Exchange> {
    let token = object.token()?;
    let user_id = match object.only("user_id")? {
        None => None,
        Some(value) => value.id()?,
    };
    Some((token, user_id))
}

fn life_of(object: &Object) -> Option<(String, u64)> {
    let token = object.token()?;
    let seconds = match object.only("expires_in")? {
        None => LIFE_MAX,
        Some(value) if value.raw == "null" => LIFE_MAX,
        Some(value) => {
            let digits = match &value.kind {
                Kind::Text(text) => {
                    let text = text.as_deref()?;
                    text.strip_prefix('+').unwrap_or(text).to_owned()
                }
                Kind::Other => value.raw.clone(),
                Kind::Object(_) => return None,
            };
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            digits.parse::<u64>().ok().filter(|seconds| *seconds > 0)?
        }
    };
    Some((token, seconds.min(LIFE_MAX)))
}

fn profile_of(object: &Object, may_be_wrapped: bool) -> Option<Profile> {
    let id = match object.only("id")? {
        None => None,
        Some(value) => value.id()?,
    };
    let mut dropped = 0;
    let mut texts = [None, None, None, None];
    let names = [
        ("username", 256),
        ("name", 1024),
        ("threads_profile_picture_url", 4096),
        ("threads_biography", 8192),
    ];
    for ((name, max), text) in names.into_iter().zip(&mut texts) {
        match object.only(name)? {
            None => {}
            Some(value) if value.raw == "null" => {}
            Some(Value { kind: Kind::Text(found), .. }) => {
                let found = found.clone()?;
                if found.len() <= max && !found.contains('\0') { *text = Some(found) } else { dropped += 1 }
            }
            Some(_) => return None,
        }
    }
    let is_verified = match object.only("is_verified")?.map(|value| value.raw.as_str()) {
        None | Some("null") => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return None,
    };
    let wrapped = match object.only("data")? {
        None => None,
        // What is in it does not matter.
        Some(_) if !may_be_wrapped => None,
        Some(value) if value.raw == "null" => None,
        // Read whether it is needed or not; one without an id is still a profile's form.
        Some(Value { kind: Kind::Object(inner), .. }) => Some(inner),
        Some(_) => return None,
    };
    if let Some(inner) = wrapped
        && !is_form_of_profile(inner)
    {
        return None;
    }
    match (id, wrapped) {
        (Some(id), _) => Some((id, texts, is_verified, dropped)),
        (None, Some(inner)) => profile_of(inner, false),
        (None, None) => None,
    }
}

/// Whether an object could be a profile but for its id.
fn is_form_of_profile(object: &Object) -> bool {
    let mut with_id = Object(object.0.clone());
    match object.only("id") {
        None => return false,
        Some(Some(value)) if value.id() == Some(None) => {
            with_id.0.retain(|(name, _)| name.as_deref() != Some("id"));
        }
        Some(Some(_)) => return profile_of(object, false).is_some(),
        Some(None) => {}
    }
    let id = Value { raw: "\"1\"".to_owned(), kind: Kind::Text(Some("1".to_owned())) };
    with_id.0.push((Some("id".to_owned()), id));
    profile_of(&with_id, false).is_some()
}

/// A value, as it stands in the text and as what it is.
#[derive(Clone)]
struct Value {
    raw: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// A string; `None` if its escapes make no text.
    Text(Option<String>),
    Object(Object),
    Other,
}

/// Members in their order. A name without text (its surrogates do not pair) spoils
/// an object that is read, and no other.
#[derive(Clone)]
struct Object(Vec<(Option<String>, Value)>);

impl Object {
    /// The value of a name; the outer `None` if it stands there twice.
    fn only(&self, name: &str) -> Option<Option<&Value>> {
        if self.0.iter().any(|(own, _)| own.is_none()) {
            return None;
        }
        let mut found = self.0.iter().filter(|(own, _)| own.as_deref() == Some(name)).map(|(_, value)| value);
        let first = found.next();
        found.next().is_none().then_some(first)
    }

    fn token(&self) -> Option<String> {
        let Kind::Text(Some(text)) = &self.only("access_token")??.kind else { return None };
        let fits = (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| text.clone())
    }
}

impl Value {
    /// The digits of an id; `Some(None)` for null.
    fn id(&self) -> Option<Option<String>> {
        if self.raw == "null" {
            return Some(None);
        }
        let inner = self.raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&self.raw);
        let fits = (1..=32).contains(&inner.len()) && inner.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Some(inner.to_owned()))
    }
}

/// Reads JSON (RFC 8259) by hand.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn object(text: &'a [u8]) -> Option<Object> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value()?;
        reader.space();
        match value.kind {
            Kind::Object(object) if reader.at == text.len() => Some(object),
            _ => None,
        }
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.text.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    fn value(&mut self) -> Option<Value> {
        self.space();
        let start = self.at;
        let kind = match self.text.get(self.at)? {
            b'"' => Kind::Text(self.string()?),
            b'{' => Kind::Object(self.members()?),
            b'[' => {
                self.at += 1;
                self.space();
                if self.take(b']').is_none() {
                    loop {
                        self.value()?;
                        self.space();
                        if self.take(b',').is_none() {
                            break;
                        }
                    }
                    self.take(b']')?;
                }
                Kind::Other
            }
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        };
        let raw = String::from_utf8(self.text[start..self.at].to_vec()).ok()?;
        Some(Value { raw, kind })
    }

    fn word(&mut self, word: &str) -> Option<Kind> {
        self.text[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())?;
        Some(Kind::Other)
    }

    fn members(&mut self) -> Option<Object> {
        self.take(b'{')?;
        let mut members = Vec::new();
        self.space();
        if self.take(b'}').is_some() {
            return Some(Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.take(b':')?;
            let value = self.value()?;
            members.push((name, value));
            self.space();
            if self.take(b',').is_none() {
                break;
            }
        }
        self.take(b'}')?;
        Some(Object(members))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Kind> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _ = self.take(b'+').or_else(|| self.take(b'-'));
            self.digits()?;
        }
        Some(Kind::Other)
    }

    /// The text of a string; the inner `None` if its surrogates do not pair.
    fn string(&mut self) -> Option<Option<String>> {
        self.take(b'"')?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            match rest.first()? {
                b'"' => {
                    self.at += 1;
                    return Some(String::from_utf16(&units).ok());
                }
                b'\\' => {
                    self.at += 2;
                    units.push(match rest.get(1)? {
                        b'b' => 8,
                        b't' => 9,
                        b'n' => 10,
                        b'f' => 12,
                        b'r' => 13,
                        b'u' => {
                            let digits = std::str::from_utf8(rest.get(2..6)?).ok()?;
                            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                                return None;
                            }
                            self.at += 4;
                            u16::from_str_radix(digits, 16).ok()?
                        }
                        plain @ (b'"' | b'\\' | b'/') => u16::from(*plain),
                        _ => return None,
                    });
                }
                0..=31 => return None,
                _ => {
                    let chunk = &rest[..rest.len().min(4)];
                    let valid = match std::str::from_utf8(chunk) {
                        Ok(text) => text,
                        Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).ok()?,
                    };
                    let character = valid.chars().next()?;
                    self.at += character.len_utf8();
                    units.extend(character.encode_utf16(&mut [0; 2]).iter());
                }
            }
        }
    }
}
