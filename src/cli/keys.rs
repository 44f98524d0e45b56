//! `keys`: the keyring, and the change from one key to the next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::private_file::{self, write_private};
use super::{CommandResult, Variables, examples, print};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Keys};
use crate::sealing::{ChangeError, Keyring};
use crate::secret::DatabaseUrl;
use crate::store;

mod list;
mod reseal;
mod retire;

/// Where a keyring is that no option and no configuration names.
const DEFAULT_FILE: &str = "keys.toml";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a keyring, or add a key to one (not yet active).
    #[command(after_help = examples::KEYS_GENERATE)]
    Generate {
        /// The keyring file; made readable by its owner alone.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        file: PathBuf,
        /// Print a new keyring as one line for `THREADS_IDENTITY_KEY`, and
        /// write no file.
        #[arg(long, conflicts_with = "file")]
        inline: bool,
    },
    /// List the keys of a keyring, without the keys themselves.
    ///
    /// Where a database is configured, also how many stored values each key
    /// still holds.
    #[command(after_help = examples::KEYS_LIST)]
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seal under another key of the keyring from now on.
    ///
    /// Every replica must hold the key before the first one seals under it: give
    /// the file to all of them after `keys generate`, and again after this.
    #[command(after_help = examples::KEYS_ACTIVATE)]
    Activate {
        /// The key, as `keys list` shows it.
        key_id: String,
        /// The keyring file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
    /// Seal every stored value anew under the active key.
    ///
    /// The service may run meanwhile. Whatever is interrupted goes on where it
    /// stopped when it is run again.
    #[command(after_help = examples::KEYS_RESEAL)]
    Reseal {
        #[command(flatten)]
        place: Place,
    },
    /// Take a key that holds nothing any more out of the keyring.
    #[command(after_help = examples::KEYS_RETIRE)]
    Retire {
        /// The key, as `keys list` shows it.
        key_id: String,
        #[command(flatten)]
        place: Place,
        /// Do not wait until the authorization URLs sealed under it have run out:
        /// whoever comes back with one must start again.
        #[arg(long)]
        now: bool,
    },
}

/// Where the keyring and the database are.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The keyring file. Without it, the keyring that the configuration names,
    /// or else keys.toml.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The configuration file, which names the database and the keyring. Both can
    /// also be set by environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Carries a command out.
pub(super) async fn run(command: KeysCommand, variables: &Variables) -> CommandResult {
    match command {
        KeysCommand::Generate { inline: true, .. } => {
            print(Keyring::generate(&now()?).to_inline().as_str());
            Ok(())
        }
        KeysCommand::Generate { file, .. } => {
            let _held = held(&file)?;
            generate(&file)
        }
        KeysCommand::List { place, json } => list::run(&Found::at(&place, variables)?, json).await,
        KeysCommand::Activate { key_id, file } => {
            let _held = held(&file)?;
            activate(&key_id, &file)
        }
        KeysCommand::Reseal { place } => reseal::run(&Found::at(&place, variables)?).await,
        KeysCommand::Retire { key_id, place, now } => {
            let found = Found::at(&place, variables)?;
            let _held = found.file.as_deref().map(held).transpose()?;
            // As it is now that nobody else changes it.
            retire::run(Found::at(&place, variables)?, &key_id, now).await
        }
    }
}

/// A keyring and the database that may go with it.
struct Found {
    keyring: Keyring,
    /// None for a keyring that is no file.
    file: Option<PathBuf>,
    database: Option<DatabaseUrl>,
}

impl Found {
    fn at(place: &Place, variables: &Variables) -> Result<Self, Failure> {
        let (database, keys) =
            Config::load_database_and_keys(place.config.as_deref(), variables.iter().cloned())?;
        let file = match (&place.file, keys) {
            (Some(file), _) => file.clone(),
            (None, Some(Keys::File { path, .. })) => path,
            (None, Some(Keys::Value(text))) => {
                let keyring = Keyring::parse(&text).map_err(|error| format!("keys: {error}"))?;
                return Ok(Self { keyring, file: None, database });
            }
            (None, None) => PathBuf::from(DEFAULT_FILE),
        };
        Ok(Self { keyring: read(&file)?, file: Some(file), database })
    }

    /// The keyring's name in what is told to people.
    fn shown(&self) -> String {
        self.file.as_ref().map_or_else(|| "the keyring".to_owned(), |file| file.display().to_string())
    }

    /// The database; `None` where none is configured. A keyring is never held
    /// against a database that it does not belong to: what is counted there says
    /// nothing about its keys.
    async fn open_database(&self) -> Result<Option<PgConnection>, Failure> {
        let Some(url) = &self.database else { return Ok(None) };
        let mut connection = store::keys::open(url).await?;
        let fingerprint = store::keys::id_key_fingerprint(&mut connection).await?;
        match fingerprint {
            Some(theirs) if theirs == self.keyring.id_key().fingerprint() => Ok(Some(connection)),
            Some(_) => {
                let shown = self.shown();
                Err(format!("{shown}: its id_key is not the one under which the database was filled").into())
            }
            None => Err("the database has never been used by the service: is it the right one?".into()),
        }
    }

    /// The database, for what cannot be done without.
    async fn need_database(&self) -> Result<PgConnection, Failure> {
        let database = self.open_database().await?;
        Ok(database
            .ok_or("the database must be known: name the configuration with --config, or set DATABASE_URL")?)
    }
}

/// Keeps other commands from changing a keyring meanwhile.
fn held(file: &Path) -> Result<File, Failure> {
    private_file::hold(file).map_err(|error| format!("{}: cannot be locked: {error}", file.display()).into())
}

fn now() -> Result<String, Failure> {
    Ok(SystemClock.now().replace_nanosecond(0)?.format(&Rfc3339)?)
}

/// Makes a keyring, or adds a key to the one that is there.
fn generate(file: &Path) -> CommandResult {
    let now = now()?;
    let shown = file.display();
    if file.exists() {
        let mut keyring = read(file)?;
        let id = keyring.add_key(&now);
        write(file, &keyring).map_err(|error| format!("{shown}: {error}"))?;
        print(format_args!(
            "Added key {id} to {shown}. Give the file to every replica; the active key is the same as before."
        ));
    } else {
        write(file, &Keyring::generate(&now)).map_err(|error| format!("{shown}: {error}"))?;
        print(format_args!(
            "Made {shown}. Keep a copy apart from the database's backups: without it no stored token opens."
        ));
    }
    Ok(())
}

/// Switches to another key.
fn activate(key_id: &str, file: &Path) -> CommandResult {
    let shown = file.display();
    let mut keyring = read(file)?;
    match keyring.activate(key_id) {
        Ok(()) => write(file, &keyring).map_err(|error| format!("{shown}: {error}"))?,
        Err(ChangeError::Active(_)) => {
            print(format_args!("{key_id} is the active key already; nothing was changed."));
            return Ok(());
        }
        Err(error) => {
            let keys = keyring.describe();
            let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
            return Err(format!("{shown}: {error}; its keys are {}", ids.join(", ")).into());
        }
    }
    print(format_args!(
        "New values are sealed under {key_id} wherever this file is. Give it to every replica, then re-seal \
         what is stored with `threads-identity keys reseal`."
    ));
    Ok(())
}

fn read(file: &Path) -> Result<Keyring, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|error| format!("{shown}: {error}"))?;
    Ok(Keyring::parse(&text).map_err(|error| format!("{shown}: {error}"))?)
}

/// Writes a keyring.
pub(crate) fn write(file: &Path, keyring: &Keyring) -> io::Result<()> {
    write_private(file, keyring.to_toml().as_bytes())
}
