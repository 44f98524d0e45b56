//! What Meta signs, and whatever else comes in its place.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use threads_identity::secret::ClientSecret;
use threads_identity::signed_request::{SignedWith, verify};

/// The secrets of the app, the current one first.
const SECRETS: [&str; 2] = ["sim-threads-app-secret-0001", "the-secret-before-this-one"];

/// The first letter says what is done with the rest: `c` and `p` sign it as JSON with
/// the current and the previous secret, `x` with somebody else's, `s` signs it as a
/// payload that is encoded already, and `r` leaves it as it is. A generator would
/// never find a signature.
pub const EXAMPLES: [&str; 14] = [
    r#"c{"algorithm":"HMAC-SHA256","issued_at":1754000000,"user_id":"28753684917596556"}"#,
    r#"c{"algorithm":"HMAC-SHA256","issued_at":1754000000,"user_id":28753684917596556}"#,
    r#"p{"algorithm":"HMAC-SHA256","user_id":"1"}"#,
    r#"c{"user_id":"9007199254740993","algorithm":"hmac-sha256","issued_at":"1754000000","expires":0}"#,
    r#"p { "algorithm" : "HMAC-SHA256" , "user" : {"country":"de","age":{"min":21}}, "user_id" : 12 } "#,
    r#"c{"algorithm":"HMAC-SHA256","oauth_token":"THAAx\"y\\","issued_at":0,"user_id":"0"}"#,
    r#"c{"\u0061lgorithm":"HMAC-SHA256","x":[1,-2.5e3,null,true,false,""],"user_id":"\u0031"}"#,
    r#"c{"algorithm":"HMAC-SHA256","issued_at":1754000000,"user_id":"11111111111111111111111111111111"}"#,
    r#"x{"algorithm":"HMAC-SHA256","user_id":"1"}"#,
    "seyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsInVzZXJfaWQiOiIxIn0",
    "seyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsInVzZXJfaWQiOjF9",
    "rGicbUZqn4FNQblhZvZHTHWdmd3Ef769r5UktRIZyz3U.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6IjI4NzUzNjg0OTE3NTk2NTU2In0",
    "rZJqxbUOS5GZJ4fINq7CQL8uHq5Z2cKMkuSTw5cCdIP0.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6Mjg3NTM2ODQ5MTc1OTY1NTZ9",
    "r",
];

/// What matters to the format.
pub const PIECES: [&str; 30] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    ".",
    "=",
    "-",
    "_",
    "+",
    "/",
    "0",
    "9",
    "1.5",
    "1e3",
    "-1",
    "null",
    "\\",
    "\\u0031",
    "\\ud800",
    "\"user_id\":1,",
    "\"issued_at\":2,",
    "\"algorithm\":\"none\",",
    "\0",
    "\u{7f}",
    "é",
    " ",
    "99999999999999999999999999999999999",
];

/// The property: whether the input was taken, after a second reader, which shares
/// nothing with the first but the HMAC, has found the same in it.
pub fn property() -> impl Fn(&[u8]) -> bool {
    let [current, previous] = SECRETS.map(|secret| ClientSecret::new(secret.to_owned()));
    move |input| {
        let text = composed(input);
        let found = verify(&text, &current, Some(&previous)).ok().map(|request| {
            let time = request.issue_time.map(time::OffsetDateTime::unix_timestamp);
            (request.threads_user_id.as_str().to_owned(), time, request.signed_with)
        });
        assert_eq!(found, second_reader(&text), "{text:?}");
        found.is_some()
    }
}

fn composed(input: &[u8]) -> String {
    let Some((what, rest)) = input.split_first() else { return String::new() };
    let signed = |secret: &str, payload: &[u8]| {
        let text = [URL_SAFE_NO_PAD.encode(sign(secret, payload)).as_bytes(), b".", payload].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let encoded = URL_SAFE_NO_PAD.encode(rest);
    match what {
        b'c' => signed(SECRETS[0], encoded.as_bytes()),
        b'p' => signed(SECRETS[1], encoded.as_bytes()),
        b'x' => signed("another", encoded.as_bytes()),
        b's' => signed(SECRETS[0], rest),
        _ => String::from_utf8_lossy(rest).into_owned(),
    }
}

fn sign(secret: &str, payload: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), payload).as_ref().to_vec()
}

/// The second reader: what it finds, if it would accept the text.
fn second_reader(text: &str) -> Option<(String, Option<i64>, SignedWith)> {
    if text.len() > 8192 || !text.is_ascii() {
        return None;
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [signature, payload] = parts.as_slice() else { return None };
    let signature = bits(signature)?;
    let which = SECRETS.iter().position(|secret| sign(secret, payload.as_bytes()) == signature)?;
    let json = String::from_utf8(bits(payload)?).ok()?;
    let mut reader = Reader { rest: json.as_bytes() };
    let members = reader.object()?.into_iter().map(|(name, value)| Some((name.ok()?, value)));
    let members: Vec<(String, Value)> = members.collect::<Option<_>>()?;
    reader.blanks();
    if !reader.rest.is_empty() {
        return None;
    }
    let mut names: Vec<&String> = members.iter().map(|(name, _)| name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    let find = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let digits = |value: &Value| match value {
        Value::Text(Ok(text)) | Value::Number(text) => {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.clone())
        }
        Value::Text(Err(Half)) | Value::Other => None,
    };
    if !matches!(find("algorithm")?, Value::Text(Ok(name)) if name.to_lowercase() == "hmac-sha256") {
        return None;
    }
    let id = digits(find("user_id")?).filter(|id| id.len() <= 32)?;
    let time = match find("issued_at") {
        None => None,
        // The year 9999 is as far as times go.
        Some(value) => Some(digits(value)?.parse().ok().filter(|time| *time <= 253_402_300_799_i64)?),
    };
    Some((id, time, if which == 0 { SignedWith::Current } else { SignedWith::Previous }))
}

/// Base64url, bit by bit.
fn bits(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 || bare.len() % 4 == 1 {
        return None;
    }
    let (mut bytes, mut held, mut count) = (Vec::new(), 0_u32, 0);
    for letter in bare.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .iter()
            .position(|b| *b == letter)?;
        held = (held << 6 | u32::try_from(value).unwrap()) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((held >> count).to_le_bytes()[0]);
        }
    }
    (held & ((1 << count) - 1) == 0).then_some(bytes)
}

/// Half a character is escaped in a text, which nobody minds where nobody reads it.
struct Half;

enum Value {
    Text(Result<String, Half>),
    Number(String),
    Other,
}

/// As much JSON as is needed, by RFC 8259.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        self.blanks();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == wanted).then_some(())
    }

    fn is_next(&mut self, wanted: u8) -> bool {
        self.blanks();
        self.rest.first() == Some(&wanted)
    }

    fn object(&mut self) -> Option<Vec<(Result<String, Half>, Value)>> {
        let mut members = Vec::new();
        self.take(b'{')?;
        if self.is_next(b'}') {
            self.take(b'}')?;
            return Some(members);
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.take(b':')?;
            members.push((name, self.value()?));
            if !self.is_next(b',') {
                self.take(b'}')?;
                return Some(members);
            }
            self.take(b',')?;
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.blanks();
        match *self.rest.first()? {
            b'"' => self.text().map(Value::Text),
            b'{' => self.object().map(|_| Value::Other),
            b'[' => {
                self.take(b'[')?;
                if self.is_next(b']') {
                    self.take(b']')?;
                    return Some(Value::Other);
                }
                loop {
                    self.value()?;
                    if !self.is_next(b',') {
                        self.take(b']')?;
                        return Some(Value::Other);
                    }
                    self.take(b',')?;
                }
            }
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(Value::Number),
        }
    }

    fn word(&mut self, word: &str) -> Option<Value> {
        self.rest = self.rest.strip_prefix(word.as_bytes())?;
        Some(Value::Other)
    }

    fn digits(&mut self) -> Option<usize> {
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(count)
    }

    fn number(&mut self) -> Option<String> {
        let all = self.rest;
        self.rest = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
        let is_zero = self.rest.first() == Some(&b'0');
        if self.digits()? > 1 && is_zero {
            return None;
        }
        if let Some(rest) = self.rest.strip_prefix(b".") {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
            self.digits()?;
        }
        String::from_utf8(all[..all.len() - self.rest.len()].to_vec()).ok()
    }

    fn hex(&mut self) -> Option<u32> {
        let (four, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        let four =
            std::str::from_utf8(four).ok().filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(four, 16).ok()
    }

    /// What stands behind `\u`; some or half a character.
    fn escaped(&mut self) -> Option<Result<char, Half>> {
        let high = self.hex()?;
        if let Some(rest) = self.rest.strip_prefix(b"\\u")
            && (0xd800..0xdc00).contains(&high)
        {
            let mut ahead = Reader { rest };
            if let Some(low @ 0xdc00..0xe000) = ahead.hex() {
                self.rest = ahead.rest;
                let code = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
                return Some(char::from_u32(code).ok_or(Half));
            }
        }
        Some(char::from_u32(high).ok_or(Half))
    }

    fn text(&mut self) -> Option<Result<String, Half>> {
        self.rest = self.rest.strip_prefix(b"\"")?;
        let mut text = Vec::new();
        let mut is_whole = true;
        loop {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            match first {
                b'"' => {
                    return String::from_utf8(text)
                        .ok()
                        .map(|text| if is_whole { Ok(text) } else { Err(Half) });
                }
                b'\\' => {
                    let (kind, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    let letter = match kind {
                        b'"' | b'\\' | b'/' => char::from(*kind),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.escaped()?.unwrap_or_else(|Half| {
                            is_whole = false;
                            '?'
                        }),
                        _ => return None,
                    };
                    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return None,
                _ => text.push(*first),
            }
        }
    }
}
