//! Where rows come from.

use super::file::{File, FileError};
use crate::store::foreign::{Foreign, ForeignError, Row};

/// How many rows are read at a time: of a table, where each page may mean looking
/// through all of it, and of a file.
const TABLE_PAGE: i64 = 2000;
const FILE_PAGE: usize = 200;

/// Where rows come from.
pub enum Source {
    /// A table of somebody else.
    Table(Foreign),
    /// A file.
    File(File),
}

impl Source {
    /// How many rows there are.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn total(&self) -> Result<u64, SourceError> {
        match self {
            Self::Table(table) => Ok(table.total().await?),
            Self::File(file) => Ok(file.total()?),
        }
    }

    /// The next rows, or the numbers of those that cannot be taken apart; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Result<Row, u64>>, SourceError> {
        match self {
            Self::Table(table) => Ok(table.next(TABLE_PAGE).await?.into_iter().map(Ok).collect()),
            Self::File(file) => Ok(file.next(FILE_PAGE)?),
        }
    }
}

/// Why a source cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A table.
    #[error(transparent)]
    Table(#[from] ForeignError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}
