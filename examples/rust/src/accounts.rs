//! A copy of the linked accounts, and the cursor up to which it is true.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::pb::account::State;
use crate::pb::account_change::Kind;
use crate::pb::{Account, AccountChange};

/// What this backend keeps of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub account_id: String,
    pub user_id: String,
    pub threads_user_id: String,
    pub state: String,
    pub state_reason: String,
}

impl From<&Account> for Entry {
    fn from(account: &Account) -> Self {
        Self {
            account_id: account.account_id.clone(),
            user_id: account.user_id.clone(),
            threads_user_id: account.threads_user_id.clone(),
            state: account.state().as_str_name().to_owned(),
            state_reason: account.state_reason().as_str_name().to_owned(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    cursor: Option<String>,
    accounts: BTreeMap<String, Entry>,
}

/// The copy. It and its cursor change together: in your service they are two tables
/// and one transaction; here, one file.
pub struct Accounts {
    file: PathBuf,
    kept: Mutex<Kept>,
}

impl Accounts {
    /// Reads the copy, if there is one already.
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let kept = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, kept: Mutex::new(kept) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to go on from; none if there is no copy.
    pub fn cursor(&self) -> Option<String> {
        self.kept().cursor.clone()
    }

    /// A user's accounts.
    pub fn of(&self, user_id: &str) -> Vec<Entry> {
        self.kept().accounts.values().filter(|account| account.user_id == user_id).cloned().collect()
    }

    /// Puts a list in place of the copy.
    pub fn replace(&self, accounts: &[Account], cursor: &str) -> io::Result<()> {
        let mut kept = self.kept();
        kept.accounts = accounts.iter().map(|account| (account.account_id.clone(), account.into())).collect();
        self.keep(&mut kept, Some(cursor))
    }

    /// Takes in a change, if there is one: not what differs, but how the account
    /// stands now.
    pub fn apply(&self, change: Option<&AccountChange>, cursor: &str) -> io::Result<()> {
        let mut kept = self.kept();
        if let Some(change) = change {
            let unlinked = change.account.as_ref().is_some_and(|account| account.state() == State::Unlinked);
            if unlinked || change.kind() == Kind::Erased {
                kept.accounts.remove(&change.account_id);
            } else if let Some(account) = &change.account {
                kept.accounts.insert(change.account_id.clone(), account.into());
            }
        }
        self.keep(&mut kept, Some(cursor))
    }

    /// Makes the next watch begin anew.
    pub fn forget_cursor(&self) -> io::Result<()> {
        self.keep(&mut self.kept(), None)
    }

    fn keep(&self, kept: &mut Kept, cursor: Option<&str>) -> io::Result<()> {
        kept.cursor = cursor.map(str::to_owned);
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(kept)?)?;
        fs::rename(fresh, &self.file)
    }
}
