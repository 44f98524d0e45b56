//! The payload: a JSON object in which no name stands twice.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What is read of it, each value as it is written. Everything else is not even
/// kept: a payload may hold a token.
pub(super) struct Payload {
    pub algorithm: Box<RawValue>,
    pub user_id: Box<RawValue>,
    pub issued_at: Option<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
        let (mut algorithm, mut user_id, mut issued_at) = (None, None, None);
        let mut seen = HashSet::new();
        // The names are compared as they read, whatever escapes they are written in.
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "algorithm" => algorithm = Some(map.next_value()?),
                "user_id" => user_id = Some(map.next_value()?),
                "issued_at" => issued_at = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            // Readers differ in which of two they take.
            if !seen.insert(name) {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Payload {
            algorithm: algorithm.ok_or_else(|| A::Error::missing_field("algorithm"))?,
            user_id: user_id.ok_or_else(|| A::Error::missing_field("user_id"))?,
            issued_at,
        })
    }
}
