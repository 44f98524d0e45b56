//! Page tokens: where a list goes on, sealed for one caller and one filter. They
//! authorise nothing.

use prost::Message as _;

use super::caller::Caller;
use super::fields::Fields;
use crate::error::Result;
use crate::ids::AccountId;
use crate::proto::internal;
use crate::sealing::{LiveKeyring, OpenError, Place, Purpose};
use crate::secret::sha256;

/// The longest page token that is looked at, in bytes.
const TOKEN_MAX: usize = 512;

/// The list that a page belongs to.
pub(super) struct List {
    digest: [u8; 32],
    app_id: String,
}

impl List {
    /// A list of this name, for this caller, with this filter.
    pub fn new(name: &str, caller: &Caller, user_id: Option<&str>, states: &[&str]) -> Self {
        Self::of(name, &caller.name, caller.app.id(), user_id, states)
    }

    /// The same, of a caller that is named.
    pub fn of(name: &str, caller: &str, app_id: &str, user_id: Option<&str>, states: &[&str]) -> Self {
        // Absent and empty differ, and so do ["a b"] and ["a", "b"].
        let user = user_id.map_or_else(|| "-".to_owned(), |user_id| format!("+{user_id}"));
        let states = states.join(",");
        let parts = [name, caller, user.as_str(), states.as_str()].map(str::as_bytes);
        Self { digest: sha256(&parts), app_id: app_id.to_owned() }
    }

    fn place(&self) -> Place<'_> {
        Place { purpose: Purpose::PageToken, app_id: &self.app_id, row: b"" }
    }

    /// Where the list goes on by this token; a wrong one is noted.
    ///
    /// # Errors
    /// `KEY_UNAVAILABLE`.
    pub fn open(&self, keyring: &LiveKeyring, fields: &mut Fields, token: &str) -> Result<Option<AccountId>> {
        if token.is_empty() {
            return Ok(None);
        }
        match self.read(keyring, token) {
            Ok(last) => Ok(Some(last)),
            // Another replica's: this one will have its key in a moment.
            Err(error @ OpenError::KeyUnknown) => Err(error.into()),
            Err(OpenError::Invalid) => {
                fields.bad(
                    "page_token",
                    "is not of this list: send it as it came, with the fields of the call before",
                );
                Ok(None)
            }
        }
    }

    fn read(&self, keyring: &LiveKeyring, token: &str) -> Result<AccountId, OpenError> {
        if token.len() > TOKEN_MAX {
            return Err(OpenError::Invalid);
        }
        let plaintext = keyring.open_text(self.place(), token)?;
        let page = internal::PageToken::decode(plaintext.as_slice()).map_err(|_| OpenError::Invalid)?;
        let last = (page.filter_digest == self.digest).then(|| AccountId::from_bytes(&page.last_account_id));
        last.flatten().ok_or(OpenError::Invalid)
    }

    /// The token for what comes after `last`; empty when nothing does.
    pub fn seal(&self, keyring: &LiveKeyring, last: Option<AccountId>) -> String {
        let Some(last) = last else { return String::new() };
        let page = internal::PageToken {
            last_account_id: last.0.as_bytes().to_vec(),
            filter_digest: self.digest.to_vec(),
        };
        keyring.seal_text(self.place(), &page.encode_to_vec())
    }
}
