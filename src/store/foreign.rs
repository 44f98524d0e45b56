//! Tables of others, which accounts are imported from: those that Auth.js and
//! better-auth keep in Postgres. They are read and never written.
//!
//! These are not our tables, so nothing here can be checked when it is compiled:
//! their columns are found by name, and the text of the statement is put together
//! from names that the database itself has quoted.

use std::io;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::options::foreign_options;
use crate::secret::{AccessToken, DatabaseUrl};

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a page may take to read: there may be no index for it.
const READ_MAX: &str = "set local statement_timeout = '120s'";

/// Whose tables they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Auth.js (NextAuth), by any adapter that stores to Postgres.
    Authjs,
    /// better-auth.
    BetterAuth,
}

/// What is read of each row, and the names that its column goes by.
type Names = [(&'static str, bool, &'static [&'static str]); 9];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Authjs => "Auth.js",
            Self::BetterAuth => "better-auth",
        }
    }

    /// The columns in the order in which they are read, and whether a table without
    /// one is none of these.
    fn columns(self) -> Names {
        match self {
            Self::Authjs => [
                ("provider", true, &["provider"]),
                ("person", true, &["providerAccountId", "provider_account_id"]),
                ("owner", true, &["userId", "user_id"]),
                ("token", true, &["access_token"]),
                ("expires", true, &["expires_at"]),
                ("scopes", false, &["scope"]),
                // Of some adapters' tables alone.
                ("begun", false, &["createdAt", "created_at"]),
                ("consented", false, &["updatedAt", "updated_at"]),
                ("issued", false, &["updatedAt", "updated_at"]),
            ],
            Self::BetterAuth => [
                ("provider", true, &["providerId", "provider_id"]),
                ("person", true, &["accountId", "account_id"]),
                ("owner", true, &["userId", "user_id"]),
                ("token", true, &["accessToken", "access_token"]),
                ("expires", true, &["accessTokenExpiresAt", "access_token_expires_at"]),
                ("scopes", false, &["scope"]),
                ("begun", false, &["createdAt", "created_at"]),
                ("consented", false, &["updatedAt", "updated_at"]),
                ("issued", false, &["updatedAt", "updated_at"]),
            ],
        }
    }
}

/// A row as its source holds it: nothing in it has been looked at.
pub struct Row {
    /// Which row of a file it is, as a spreadsheet counts: that of the names is 1.
    pub number: Option<u64>,
    /// The user, as the source names it.
    pub user_id: String,
    /// The person at Threads.
    pub threads_user_id: String,
    /// The token.
    pub access_token: Option<AccessToken>,
    /// When it dies.
    pub expires_at: Option<String>,
    /// When it was obtained or refreshed.
    pub issued_at: Option<String>,
    /// The person has not consented before.
    pub consent_begin: Option<String>,
    /// The person had consented by then.
    pub consent_end: Option<String>,
    /// What was asked for.
    pub scopes: Option<String>,
    /// What another deployment of ours says of the account.
    pub state: Option<String>,
    /// Why it is not ACTIVE there.
    pub state_reason: Option<String>,
}

/// Why a source cannot be read. Holds nothing of its rows and nothing of its URL.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The URL is none.
    #[error("the source's URL is not one of Postgres, such as postgres://user:password@host/database")]
    Url,
    /// There is no connection.
    #[error("the source cannot be read: {0}")]
    Away(String),
    /// No table has the columns.
    #[error(
        "no table of the source has the columns of {kind}'s accounts ({columns}): is it the right database?"
    )]
    NoTable {
        /// Whose.
        kind: &'static str,
        /// Which are needed.
        columns: String,
    },
    /// Several tables have them.
    #[error("several tables of the source look like {kind}'s accounts: name one with --table: {tables}")]
    ManyTables {
        /// Whose.
        kind: &'static str,
        /// Which.
        tables: String,
    },
    /// The table that was named lacks columns.
    #[error("--table: {table} lacks a column of {kind}'s accounts: {column}")]
    ColumnMissing {
        /// The table.
        table: String,
        /// Whose.
        kind: &'static str,
        /// What it would be called.
        column: String,
    },
    /// The table that was named is not there.
    #[error("--table: the source has no table {0:?}")]
    TableUnknown(String),
}

impl From<sqlx::Error> for ForeignError {
    fn from(error: sqlx::Error) -> Self {
        Self::Away(match &error {
            sqlx::Error::Database(database) => match database.code().as_deref().unwrap_or_default() {
                "28P01" | "28000" => "it refuses user or password".to_owned(),
                "3D000" => "there is no such database".to_owned(),
                "42501" => "the user may not read the table: grant it select".to_owned(),
                "57014" => "a page took more than two minutes to read".to_owned(),
                // The message may quote a value.
                code => format!("it answers with error {code}"),
            },
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens where its URL points".to_owned()
            }
            sqlx::Error::Tls(_) => "TLS failed: see sslmode and sslrootcert of its URL".to_owned(),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => "the connection broke".to_owned(),
            sqlx::Error::ColumnDecode { index, .. } => format!("column {index} cannot be read as text"),
            _ => "unexpected answer".to_owned(),
        })
    }
}

/// A table of somebody else, and how far it has been read.
pub struct Foreign {
    url: DatabaseUrl,
    provider: String,
    count: String,
    select: String,
    after: Option<(String, String)>,
}

/// The name of a column, the same in quotes, and its type.
type Column = (String, String, String);

/// A table.
struct Table {
    name: String,
    /// Each as an expression that gives text, in the order of [`Kind::columns`].
    expressions: Vec<String>,
    /// The first column that it lacks.
    lacks: Option<&'static str>,
}

impl Foreign {
    /// Finds the table: the one that is named, or the only one that has the columns.
    ///
    /// # Errors
    /// [`ForeignError`].
    pub async fn open(
        url: DatabaseUrl,
        kind: Kind,
        table: Option<&str>,
        provider: &str,
    ) -> Result<Self, ForeignError> {
        let mut connection = connect(&url).await?;
        let rows = sqlx::query(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname::text,
                    quote_ident(a.attname), t.typname::text
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             join pg_type t on t.oid = a.atttypid
             where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
               and ($1::text is null or c.oid = to_regclass($1))
             order by 1, a.attnum",
        )
        .persistent(false)
        .bind(table)
        .fetch_all(&mut connection)
        .await;
        let rows = match rows {
            // What to_regclass cannot read as a name.
            Err(sqlx::Error::Database(error))
                if table.is_some() && error.code().is_some_and(|c| c.starts_with("42")) =>
            {
                Vec::new()
            }
            rows => rows?,
        };
        let tables = tables(kind, &rows)?;
        let _ = connection.close().await;
        let table = choose(kind, tables, table)?;
        let (count, select) = statements(&table);
        Ok(Self { url, provider: provider.to_owned(), count, select, after: None })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// [`ForeignError`].
    pub async fn total(&self) -> Result<u64, ForeignError> {
        let mut connection = connect(&self.url).await?;
        let mut transaction = connection.begin_with("begin read only").await?;
        sqlx::query(READ_MAX).persistent(false).execute(&mut *transaction).await?;
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(self.count.as_str()))
            .persistent(false)
            .bind(&self.provider)
            .fetch_one(&mut *transaction)
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The next rows; none at the end. Each page is a transaction and a connection of
    /// its own: the source is in use, and an old snapshot keeps it from cleaning up.
    ///
    /// # Errors
    /// [`ForeignError`].
    pub async fn next(&mut self, limit: i64) -> Result<Vec<Row>, ForeignError> {
        let mut connection = connect(&self.url).await?;
        let mut transaction = connection.begin_with("begin read only").await?;
        sqlx::query(READ_MAX).persistent(false).execute(&mut *transaction).await?;
        let rows = sqlx::query(AssertSqlSafe(self.select.as_str()))
            .persistent(false)
            .bind(&self.provider)
            .bind(self.after.as_ref().map(|(person, _)| person))
            .bind(self.after.as_ref().map(|(_, owner)| owner))
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.rollback().await?;
        let _ = connection.close().await;
        let rows: Vec<Row> = rows.iter().map(read).collect::<sqlx::Result<_>>()?;
        if let Some(last) = rows.last() {
            self.after = Some((last.threads_user_id.clone(), last.user_id.clone()));
        }
        Ok(rows)
    }
}

async fn connect(url: &DatabaseUrl) -> Result<PgConnection, ForeignError> {
    // sqlx would take any scheme.
    let is_ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
    let options = foreign_options(url).ok().filter(|_| is_ours).ok_or(ForeignError::Url)?;
    let connecting = timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
    connecting
        .map_err(|_| ForeignError::Away("connecting took too long".to_owned()))?
        .map_err(ForeignError::from)
}

/// Every table, with what it has and lacks.
fn tables(kind: Kind, rows: &[PgRow]) -> Result<Vec<Table>, ForeignError> {
    let mut columns: Vec<(String, Vec<Column>)> = Vec::new();
    for row in rows {
        let table: String = row.try_get(0)?;
        let column = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        match columns.last_mut() {
            Some((last, of_last)) if *last == table => of_last.push(column),
            _ => columns.push((table, vec![column])),
        }
    }
    let tables = columns.into_iter().map(|(name, columns)| {
        let mut lacks = None;
        let expressions = kind.columns().into_iter().map(|(_, is_needed, names)| {
            let found = names.iter().find_map(|name| columns.iter().find(|(column, ..)| column == name));
            if found.is_none() && is_needed && lacks.is_none() {
                lacks = Some(names[0]);
            }
            found.map_or_else(|| "null::text".to_owned(), |(_, quoted, kind)| as_text(quoted, kind))
        });
        let expressions = expressions.collect();
        Table { name, expressions, lacks }
    });
    Ok(tables.collect())
}

/// A column as text. A time becomes seconds, one without a zone being UTC, as both
/// libraries write it.
fn as_text(column: &str, kind: &str) -> String {
    match kind {
        "timestamptz" | "timestamp" => format!("extract(epoch from {column})::text"),
        _ => format!("{column}::text"),
    }
}

fn choose(kind: Kind, tables: Vec<Table>, named: Option<&str>) -> Result<Table, ForeignError> {
    let owner = kind.name();
    if let Some(named) = named {
        let table = tables.into_iter().next().ok_or_else(|| ForeignError::TableUnknown(named.to_owned()))?;
        return match table.lacks {
            None => Ok(table),
            Some(column) => {
                Err(ForeignError::ColumnMissing { table: table.name, kind: owner, column: column.to_owned() })
            }
        };
    }
    let mut fitting: Vec<Table> = tables.into_iter().filter(|table| table.lacks.is_none()).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(table), true) => Ok(table),
        (Some(last), false) => {
            fitting.push(last);
            let tables: Vec<&str> = fitting.iter().map(|table| table.name.as_str()).collect();
            Err(ForeignError::ManyTables { kind: owner, tables: tables.join(", ") })
        }
        (None, _) => {
            let needed = kind.columns().into_iter().filter(|(_, is_needed, _)| *is_needed);
            let columns: Vec<&str> = needed.map(|(_, _, names)| names[0]).collect();
            Err(ForeignError::NoTable { kind: owner, columns: columns.join(", ") })
        }
    }
}

/// How many rows there are, and how a page of them is read: one row for each person
/// and user, the newest, from the first that comes after the page before.
fn statements(table: &Table) -> (String, String) {
    let [provider, person, owner, rest @ ..] = table.expressions.as_slice() else {
        return (String::new(), String::new());
    };
    let key = |column: &str| format!("coalesce({column}, '') collate \"C\"");
    let (person, owner, from) = (key(person), key(owner), &table.name);
    let count = format!(
        "select count(*) from (select distinct {person}, {owner} from {from} where {provider} = $1) k"
    );
    let rest = rest.join(", ");
    let select = format!(
        "select distinct on (person, owner) * from (
             select {person}, {owner}, {rest} from {from} where {provider} = $1
         ) r (person, owner, token, expires, scopes, begun, consented, issued)
         where $2::text is null or (person, owner) > ($2 collate \"C\", $3::text collate \"C\")
         order by person, owner, issued desc nulls last, expires desc nulls last
         limit $4"
    );
    (count, select)
}

fn read(row: &PgRow) -> sqlx::Result<Row> {
    let threads_user_id: String = row.try_get("person")?;
    Ok(Row {
        number: None,
        user_id: row.try_get("owner")?,
        threads_user_id,
        access_token: row.try_get::<Option<String>, _>("token")?.map(AccessToken::new),
        expires_at: row.try_get("expires")?,
        issued_at: row.try_get("issued")?,
        consent_begin: row.try_get("begun")?,
        consent_end: row.try_get("consented")?,
        scopes: row.try_get("scopes")?,
        state: None,
        state_reason: None,
    })
}
