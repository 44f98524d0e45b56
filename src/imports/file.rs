//! A file of comma-separated values.

use std::io;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};

use crate::secret::AccessToken;
use crate::store::foreign::Row;

/// The columns that are read.
const COLUMNS: [&str; 9] = [
    "user_id",
    "threads_user_id",
    "access_token",
    "expires_at",
    "issued_at",
    "authorized_at",
    "scopes",
    "state",
    "state_reason",
];
/// Those without which nothing can be done.
const NEEDED: [&str; 2] = ["user_id", "threads_user_id"];
/// What `export` writes beside them. It is read anew from Threads.
const KNOWN: [&str; 9] = [
    "account_id",
    "created_at",
    "updated_at",
    "username",
    "name",
    "threads_profile_picture_url",
    "threads_biography",
    "is_verified",
    "profile_fetched_at",
];

/// How much is said of a first line.
const PROBLEMS_MAX: usize = 10;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("{0}: cannot be read: {1}")]
    Io(String, io::Error),
    /// It is a pipe or a device, of which nothing can be read twice.
    #[error("{0}: is not a regular file, and is read twice: write it to one first")]
    Passing(String),
    /// Its first line names columns that nobody knows, or not those that are needed.
    #[error("{0}: its first line must name the columns: {1}")]
    Header(String, String),
}

/// A file, and how far it has been read.
pub struct File {
    path: PathBuf,
    reader: csv::Reader<std::fs::File>,
    /// Where each of [`COLUMNS`] stands.
    places: [Option<usize>; 9],
    width: usize,
    /// How many rows have been read, with that of the names.
    rows: u64,
}

impl File {
    /// Opens a file and reads its first line.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let shown = || path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|error| FileError::Io(shown(), error))?;
        if !metadata.is_file() {
            return Err(FileError::Passing(shown()));
        }
        // A row with a field too few is told by its number, and stops no other.
        let mut builder = ReaderBuilder::new();
        let mut reader = builder.flexible(true).from_path(path).map_err(|error| io_error(path, error))?;
        let header = reader.headers().map_err(|error| io_error(path, error))?.clone();
        let names: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let missing = NEEDED.iter().filter(|needed| !names.iter().any(|name| name == *needed));
        let mut problems: Vec<String> = missing.map(|name| format!("{name} is missing")).collect();
        for (i, name) in names.iter().enumerate() {
            // A column that is spelled otherwise would count as absent, and all tokens as missing.
            // It is not quoted: where the names are missing, a token may stand there.
            if !COLUMNS.contains(&name.as_str()) && !KNOWN.contains(&name.as_str()) {
                problems.push(format!("column {} is not known", i + 1));
            } else if names[..i].contains(name) {
                problems.push(format!("{name} stands twice"));
            }
        }
        problems.truncate(PROBLEMS_MAX);
        if !problems.is_empty() {
            let known = format!("; known are {}", COLUMNS.join(", "));
            return Err(FileError::Header(shown(), problems.join(", ") + &known));
        }
        let places = COLUMNS.map(|column| names.iter().position(|name| name == column));
        Ok(Self { path: path.to_owned(), reader, places, width: names.len(), rows: 1 })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// [`FileError`].
    pub(super) fn total(&self) -> Result<u64, FileError> {
        let mut builder = ReaderBuilder::new();
        let reader = builder.flexible(true).from_path(&self.path);
        let mut reader = reader.map_err(|error| io_error(&self.path, error))?;
        let mut record = csv::ByteRecord::new();
        let mut total = 0;
        while reader.read_byte_record(&mut record).map_err(|error| io_error(&self.path, error))? {
            total += 1;
        }
        Ok(total)
    }

    /// The next rows, or the numbers of those that cannot be taken apart; none at the
    /// end.
    pub(super) fn next(&mut self, limit: usize) -> Result<Vec<Result<Row, u64>>, FileError> {
        let mut rows = Vec::new();
        let mut record = StringRecord::new();
        while rows.len() < limit {
            let number = self.rows + 1;
            match self.reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    rows.push(if record.len() == self.width {
                        Ok(self.row(number, &record))
                    } else {
                        Err(number)
                    });
                }
                // Not UTF-8.
                Err(error) if !error.is_io_error() => rows.push(Err(number)),
                Err(error) => return Err(io_error(&self.path, error)),
            }
            self.rows = number;
        }
        Ok(rows)
    }

    fn row(&self, number: u64, record: &StringRecord) -> Row {
        let mut values =
            self.places.map(|place| place.and_then(|place| record.get(place)).map(str::to_owned));
        let mut take =
            |name: &str| COLUMNS.iter().position(|column| *column == name).and_then(|i| values[i].take());
        let authorized_at = take("authorized_at");
        Row {
            number: Some(number),
            user_id: take("user_id").unwrap_or_default(),
            threads_user_id: take("threads_user_id").unwrap_or_default().trim().to_owned(),
            access_token: take("access_token").map(AccessToken::new),
            expires_at: take("expires_at"),
            issued_at: take("issued_at"),
            consent_end: authorized_at.clone(),
            consent_begin: authorized_at,
            scopes: take("scopes"),
            state: take("state"),
            state_reason: take("state_reason"),
        }
    }
}

fn io_error(path: &Path, error: csv::Error) -> FileError {
    let shown = path.display().to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => FileError::Io(shown, error),
        // The text of the others may quote a field.
        _ => FileError::Header(shown, "it is not UTF-8".to_owned()),
    }
}
