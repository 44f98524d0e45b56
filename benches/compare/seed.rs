//! Many accounts, as they look a month after they were linked.

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use threads_identity::sealing::{Keyring, Place, Purpose};
use threads_identity::secret::DatabaseUrl;
use threads_identity::store;
use uuid::Uuid;

use crate::world::TOKEN_LEN;

/// The accounts whose tokens open; the others hold as many bytes of no meaning.
pub const OPENING: u64 = 20_000;

/// Rows in one statement.
const STEP: u64 = 500_000;

/// A row as linking leaves one, with the profile of an ordinary person. The id is as
/// random as the real ones, and can be told from the number.
const ROWS: &str = "
    insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                          token_expire_time, token_refresh_time, next_refresh_time,
                          username, name, picture_url, biography, is_verified, profile_fetch_time,
                          create_time, update_time, authorize_time)
    select encode(substr(hash, 1, 16), 'hex')::uuid, 'default', (17841400000000000 + n)::text,
           'user-' || n, 'ACTIVE', 'threads_basic',
           hash || hash || hash || hash || hash || hash || hash || substr(hash, 1, 20),
           now() + interval '50 days', now() - interval '10 days',
           now() + interval '20 days' + (n % 864000) * interval '1 second',
           'somebody.' || n, 'Somebody Number ' || n,
           'https://scontent.cdninstagram.com/v/t51.2885-19/' || n || '_n.jpg?stp=dst-jpg_s640x640_tt6&_nc_cat='
               || (n % 110) || '&ccb=7-5&_nc_sid=' || substr(encode(hash, 'hex'), 1, 6) || '&_nc_ohc='
               || encode(hash, 'hex') || '&_nc_oc=' || encode(hash, 'hex') || '&oh=00_'
               || substr(encode(hash, 'hex'), 1, 30) || '&oe=7A1B2C3D',
           'Writes about number ' || n || ', the sea, and what comes after it.', n % 40 = 0,
           now() - interval '10 days', now() - interval '30 days', now() - interval '10 days',
           now() - interval '30 days'
    from (select n, sha256(convert_to(n::text, 'utf8')) as hash from generate_series($1::bigint, $2) n) numbered";

/// The id of the account with this number.
pub fn account_id(number: u64) -> Uuid {
    let hash = digest(&SHA256, number.to_string().as_bytes());
    Uuid::from_slice(&hash.as_ref()[..16]).unwrap()
}

/// The user that it is linked to.
pub fn user_id(number: u64) -> String {
    format!("user-{number}")
}

/// Makes a database with the schema and so many accounts. The server need not be
/// durable yet.
pub async fn database(server_url: &str, url: &str, name: &str, keyring: &Keyring, accounts: u64) {
    let mut server = PgConnection::connect(server_url).await.unwrap();
    execute(&mut server, format!("create database {name}")).await;
    store::migrate(&DatabaseUrl::new(url.to_owned())).await.unwrap();
    let mut connection = PgConnection::connect(url).await.unwrap();
    // Indexes are built once everything is there, and nobody in here was ever erased.
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select indexname, indexdef from pg_indexes
         where schemaname = 'public' and tablename = 'accounts' and indexname <> 'accounts_pkey'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for (name, _) in &indexes {
        execute(&mut connection, format!("drop index {name}")).await;
    }
    let unguarded =
        "alter table accounts disable trigger user; alter table accounts drop constraint accounts_pkey";
    execute(&mut connection, unguarded.to_owned()).await;
    for first in (0..accounts).step_by(usize::try_from(STEP).unwrap()) {
        let last = (first + STEP).min(accounts) - 1;
        let rows = sqlx::query(ROWS).bind(first.cast_signed()).bind(last.cast_signed());
        rows.execute(&mut connection).await.unwrap();
    }
    execute(&mut connection, "set maintenance_work_mem = '1GB'".to_owned()).await;
    execute(&mut connection, "alter table accounts add primary key (account_id)".to_owned()).await;
    for (_, definition) in indexes {
        execute(&mut connection, definition).await;
    }
    seal(&mut connection, keyring, OPENING.min(accounts)).await;
    let done = "alter table accounts enable trigger user; \
                create table bare_links (account_id uuid primary key, user_id text not null, token bytea not null, \
                expire_time timestamptz not null, username text, name text, picture_url text, biography text, \
                is_verified boolean)";
    execute(&mut connection, done.to_owned()).await;
    execute(&mut connection, "vacuum analyze".to_owned()).await;
    execute(&mut connection, "checkpoint".to_owned()).await;
}

/// Holds from the next start of the server on.
pub async fn set_shared_buffers(server_url: &str, size: &str) {
    let mut server = PgConnection::connect(server_url).await.unwrap();
    execute(&mut server, format!("alter system set shared_buffers = '{size}'")).await;
}

async fn seal(connection: &mut PgConnection, keyring: &Keyring, accounts: u64) {
    let ids: Vec<Uuid> = (0..accounts).map(account_id).collect();
    let token = "T".repeat(TOKEN_LEN);
    let seal = |id: &Uuid| {
        let place = Place { purpose: Purpose::Token, app_id: "default", row: id.as_bytes() };
        keyring.seal(place, token.as_bytes())
    };
    let tokens: Vec<Vec<u8>> = ids.iter().map(seal).collect();
    let update = sqlx::query(
        "update accounts a set token = s.token
         from unnest($1::uuid[], $2::bytea[]) as s(account_id, token) where a.account_id = s.account_id",
    );
    update.bind(ids).bind(tokens).execute(connection).await.unwrap();
}

async fn execute(connection: &mut PgConnection, statements: String) {
    for statement in statements.split(';') {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await.unwrap();
    }
}
