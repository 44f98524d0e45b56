//! Cursors: how far somebody has heard of the changes, sealed for its app.
//!
//! Sealed, because the numbers tell how much happens in other apps. Not bound to
//! one user or one caller: a place in the order is the same for all.

use prost::Message as _;

use crate::proto::internal;
use crate::sealing::{LiveKeyring, OpenError, Place, Purpose};
use crate::store::events::Epoch;

/// The longest cursor that is looked at, in bytes.
pub const CURSOR_MAX: usize = 512;

/// A place in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The history that the event belongs to.
    pub(super) epoch: Epoch,
    /// The last event that is behind.
    pub(super) event_id: i64,
}

impl Cursor {
    /// The text that a caller keeps.
    pub(super) fn seal(self, keyring: &LiveKeyring, app_id: &str) -> String {
        let cursor = internal::Cursor { epoch: self.epoch.as_bytes().to_vec(), event_id: self.event_id };
        keyring.seal_text(place(app_id), &cursor.encode_to_vec())
    }

    /// Reads such a text.
    ///
    /// # Errors
    /// [`OpenError`]: the key has been retired, or it is no cursor of this app.
    pub fn open(keyring: &LiveKeyring, app_id: &str, text: &str) -> Result<Self, OpenError> {
        if text.len() > CURSOR_MAX {
            return Err(OpenError::Invalid);
        }
        let plaintext = keyring.open_text(place(app_id), text)?;
        let cursor = internal::Cursor::decode(plaintext.as_slice()).map_err(|_| OpenError::Invalid)?;
        let epoch = Epoch::from_bytes(&cursor.epoch).ok_or(OpenError::Invalid)?;
        Ok(Self { epoch, event_id: cursor.event_id })
    }
}

fn place(app_id: &str) -> Place<'_> {
    Place { purpose: Purpose::Cursor, app_id, row: b"" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_in_its_app_alone() {
        let keyring = LiveKeyring::new(crate::sealing::Keyring::generate("2026-01-01T00:00:00Z"));
        let epoch = Epoch::from_bytes(&[7; 16]).unwrap();
        let cursor = Cursor { epoch, event_id: i64::MAX };
        let text = cursor.seal(&keyring, "default");
        assert!(text.len() <= CURSOR_MAX, "{} characters", text.len());
        assert_eq!(Cursor::open(&keyring, "default", &text), Ok(cursor));
        assert_eq!(Cursor::open(&keyring, "other", &text), Err(OpenError::Invalid));
        assert_eq!(Cursor::open(&keyring, "default", &text[1..]), Err(OpenError::Invalid));
        let stranger = LiveKeyring::new(crate::sealing::Keyring::generate("2026-01-01T00:00:00Z"));
        assert_eq!(Cursor::open(&stranger, "default", &text), Err(OpenError::KeyUnknown));
    }
}
