//! What can be seen of a database without changing anything in it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::keys::{self, Registered};
use super::{MIGRATOR, StoreError};

/// What was seen.
#[derive(Debug)]
pub struct Diagnosis {
    /// The server and the role.
    pub server: Server,
    /// The schema, beside the one that this version knows.
    pub schema: Schema,
    /// Rights that the role lacks, such as `update on accounts`.
    pub rights_missing: Vec<String>,
    /// Whom the database belongs to; `None` if no service has used it yet.
    pub deployment: Option<Deployment>,
}

/// The server, and how we are connected to it.
#[derive(Debug)]
pub struct Server {
    /// As `server_version_num`: 170002 is 17.2.
    pub version: i32,
    /// Whether it takes writes: it follows no other, and transactions may write.
    pub is_writable: bool,
    /// The encoding of the database.
    pub encoding: String,
    /// Connections for everybody who is no superuser.
    pub connections_max: i32,
    /// How the connection is guarded.
    pub link: Link,
    /// Whether the role may do everything.
    pub is_superuser: bool,
    /// By how many seconds our clock is ahead of its.
    pub clock_skew: f64,
}

/// How a connection is guarded.
#[derive(Debug, PartialEq, Eq)]
pub enum Link {
    /// By TLS.
    Encrypted,
    /// By staying on this machine.
    Local,
    /// Not at all.
    Plain,
}

/// How the schema compares with the one that this version knows.
#[derive(Debug, PartialEq, Eq)]
pub enum Schema {
    /// There is none.
    Absent,
    /// So many migrations are missing.
    Older(usize),
    /// So many migrations are unknown here.
    Newer(usize),
    /// It is the one.
    Current,
}

/// Whom a database belongs to.
#[derive(Debug)]
pub struct Deployment {
    /// Of the id key that it was filled under.
    pub id_key_fingerprint: Vec<u8>,
    /// Whether it was put back from a backup, and nobody has said who was erased.
    pub replay_required: bool,
    /// The keys that values were sealed under.
    pub sealing_keys: Vec<Registered>,
}

/// Looks at a database. `now` is our time.
///
/// # Errors
/// [`StoreError`].
pub async fn diagnose(connection: &mut PgConnection, now: OffsetDateTime) -> Result<Diagnosis, StoreError> {
    let server = look_at_server(connection, now).await?;
    let schema = look_at_schema(connection).await?;
    let (mut rights_missing, mut deployment) = (Vec::new(), None);
    if schema != Schema::Absent {
        rights_missing = look_at_rights(connection).await?;
        if rights_missing.is_empty() {
            deployment = look_at_deployment(connection).await?;
        }
    }
    Ok(Diagnosis { server, schema, rights_missing, deployment })
}

async fn look_at_server(connection: &mut PgConnection, now: OffsetDateTime) -> Result<Server, StoreError> {
    let query = sqlx::query!(
        r#"select current_setting('server_version_num')::int as "version!",
                  pg_is_in_recovery() as "is_standby!",
                  current_setting('transaction_read_only')::bool as "is_read_only!",
                  current_setting('server_encoding') as "encoding!",
                  current_setting('max_connections')::int
                    - current_setting('superuser_reserved_connections')::int as "connections_max!",
                  coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as "is_encrypted!",
                  inet_client_addr() is null or inet_client_addr() <<= '127.0.0.0/8' or inet_client_addr() = '::1'
                    as "is_local!",
                  (select rolsuper from pg_roles where rolname = current_user) as "is_superuser!",
                  clock_timestamp() as "time!""#
    );
    let row = query.fetch_one(connection).await?;
    Ok(Server {
        version: row.version,
        is_writable: !(row.is_standby || row.is_read_only),
        encoding: row.encoding,
        connections_max: row.connections_max,
        link: match (row.is_encrypted, row.is_local) {
            (true, _) => Link::Encrypted,
            (false, true) => Link::Local,
            (false, false) => Link::Plain,
        },
        is_superuser: row.is_superuser,
        clock_skew: (now - row.time).as_seconds_f64(),
    })
}

async fn look_at_schema(connection: &mut PgConnection) -> Result<Schema, StoreError> {
    let query = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "is_there!""#);
    if !query.fetch_one(&mut *connection).await? {
        return Ok(Schema::Absent);
    }
    let query = sqlx::query_scalar!("select version from _sqlx_migrations where success");
    let applied = query.fetch_all(connection).await?;
    let missing = MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version)).count();
    let is_known = |version: &&i64| MIGRATOR.iter().any(|migration| migration.version == **version);
    let unknown = applied.len() - applied.iter().filter(is_known).count();
    Ok(match (missing, unknown) {
        (0, 0) => Schema::Current,
        (0, unknown) => Schema::Newer(unknown),
        (missing, _) => Schema::Older(missing),
    })
}

/// The rights to the tables and sequences of the schema in which the service's are.
async fn look_at_rights(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    let query = sqlx::query_scalar!(
        r#"select lower(need.privilege) || ' on ' || c.relname as "missing!"
           from pg_class c
           cross join lateral (
             select unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as privilege
             where c.relkind in ('r', 'p')
             union all
             select 'USAGE' where c.relkind = 'S'
           ) need
           where c.relnamespace = (select relnamespace from pg_class where oid = to_regclass('_sqlx_migrations'))
             and c.relkind in ('r', 'p', 'S')
             and not case c.relkind when 'S' then has_sequence_privilege(c.oid, need.privilege)
                                    else has_table_privilege(c.oid, need.privilege) end
             and (c.relname <> '_sqlx_migrations' or need.privilege = 'SELECT')
           order by c.relname, need.privilege"#
    );
    Ok(query.fetch_all(connection).await?)
}

async fn look_at_deployment(connection: &mut PgConnection) -> Result<Option<Deployment>, StoreError> {
    let query = sqlx::query!("select id_key_fingerprint, replay_required from deployment");
    let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(None) };
    Ok(Some(Deployment {
        id_key_fingerprint: row.id_key_fingerprint,
        replay_required: row.replay_required,
        sealing_keys: keys::registered(connection).await?,
    }))
}
