//! What the service is compared with: processes that do the same task with nothing
//! around it. Same runtime, same allocator, same messages; no callers, no limits, no
//! deadlines, no metrics, no logs.

use std::io::Read as _;
use std::net::Ipv4Addr;

use sqlx::postgres::PgPoolOptions;
use threads_identity::profile::picture_expire_time;
use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::{AccountProfile, CreateAuthorizationUrlResponse, ThreadsProfile};
use threads_identity::secret;
use threads_identity::simulator::Options;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tonic::transport::server::{Router, TcpIncoming};
use uuid::Uuid;

use crate::world::{REDIRECT_URI, timestamp};

mod bare;
mod memory;

/// As many connections as a pool has that is made for this machine.
const CONNECTIONS: u32 = 16;
/// How long the state is that the service makes for a link.
const STATE_LEN: usize = 260;

/// Which rival a process is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Kind {
    /// (a): answers from memory.
    Memory,
    /// (b): one prepared query per call, and the bare sequences.
    Bare,
}

/// Is a rival until standard input ends.
pub async fn run(kind: Kind, database_url: &str, provider: &str) {
    // No round trip that looks whether a connection lives: one query per call.
    let options = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let pool = options.connect(database_url).await.unwrap();
    let router = match kind {
        Kind::Memory => memory::router(&pool, provider).await,
        Kind::Bare => bare::router(pool, provider),
    };
    serve(router).await;
}

async fn serve(router: Router) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    end_with_parent();
    println!("{}", socket.local_addr().unwrap());
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    router.serve_with_incoming(incoming).await.unwrap();
}

/// Ends this process when standard input does: then whoever started it has gone.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// What a profile takes of a row.
#[derive(sqlx::FromRow)]
struct ProfileRow {
    account_id: Uuid,
    user_id: String,
    threads_user_id: String,
    username: Option<String>,
    name: Option<String>,
    picture_url: Option<String>,
    biography: Option<String>,
    is_verified: Option<bool>,
    profile_fetch_time: OffsetDateTime,
}

impl From<ProfileRow> for AccountProfile {
    fn from(row: ProfileRow) -> Self {
        let picture_expire_time = row.picture_url.as_deref().and_then(picture_expire_time).map(timestamp);
        Self {
            account_id: row.account_id.to_string(),
            user_id: row.user_id,
            account_state: State::Active.into(),
            profile: Some(ThreadsProfile {
                id: row.threads_user_id,
                username: row.username,
                name: row.name,
                threads_profile_picture_url: row.picture_url,
                threads_biography: row.biography,
                is_verified: row.is_verified,
            }),
            fetch_time: Some(timestamp(row.profile_fetch_time)),
            picture_expire_time,
        }
    }
}

/// An answer as the service gives it, but with the same state each time.
fn authorization_url(provider: &str) -> CreateAuthorizationUrlResponse {
    let state: String = secret::hex(&secret::random::<{ STATE_LEN / 2 }>());
    let app = Options::default();
    let query = [
        ("client_id", app.client_id.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "threads_basic"),
        ("state", &state),
    ];
    let url = url::Url::parse_with_params(&format!("{provider}/oauth/authorize"), query).unwrap();
    CreateAuthorizationUrlResponse {
        authorization_id: Uuid::from_bytes(secret::random()).to_string(),
        authorization_url: url.into(),
        state,
        expire_time: Some(timestamp(OffsetDateTime::UNIX_EPOCH)),
    }
}
