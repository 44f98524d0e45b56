//! Short ways to say what many tests say.

use std::fmt::Display;
use std::time::Duration;

use threads_identity::proto::v1::{
    Account, AccountProfile, FetchAccessTokenRequest, FetchAccessTokenResponse, GetAccountRequest,
    GetProfileRequest, UnlinkAccountRequest, get_account_request, get_profile_request,
};
use tonic::Status;

use crate::harness::World;
use crate::raw;

/// A well-formed account id that no account has.
pub const NOBODY: &str = "00000000-0000-8000-8000-000000000000";

/// A Threads id that nobody has linked.
pub const STRANGER: &str = "30000000000099999";

/// What to ask for an account by its id.
pub fn account(id: &str, user_id: Option<&str>) -> GetAccountRequest {
    GetAccountRequest {
        account: Some(get_account_request::Account::AccountId(id.to_owned())),
        user_id: user_id.map(str::to_owned),
    }
}

/// What to ask for an account by its Threads id.
pub fn account_of_person(id: &str, user_id: Option<&str>) -> GetAccountRequest {
    GetAccountRequest {
        account: Some(get_account_request::Account::ThreadsUserId(id.to_owned())),
        user_id: user_id.map(str::to_owned),
    }
}

/// What to ask for a profile by account id.
pub fn profile(id: &str, user_id: Option<&str>) -> GetProfileRequest {
    GetProfileRequest {
        account: Some(get_profile_request::Account::AccountId(id.to_owned())),
        user_id: user_id.map(str::to_owned),
        max_age: None,
    }
}

/// What to ask for a profile no older than so many seconds.
pub fn fresh_profile(id: &str, max_age: i64) -> GetProfileRequest {
    let max_age = Some(prost_types::Duration { seconds: max_age, nanos: 0 });
    GetProfileRequest { max_age, ..profile(id, None) }
}

/// What to ask for a token.
pub fn token(id: &str, user_id: &str) -> FetchAccessTokenRequest {
    FetchAccessTokenRequest {
        account_id: id.to_owned(),
        user_id: user_id.to_owned(),
        ..FetchAccessTokenRequest::default()
    }
}

/// What to ask for to unlink an account.
pub fn unlink(id: &str, user_id: &str) -> UnlinkAccountRequest {
    UnlinkAccountRequest { account_id: id.to_owned(), user_id: user_id.to_owned() }
}

impl World {
    /// Links a persona's account to a user.
    pub async fn linked(&self, user_id: &str, persona: &str) -> Account {
        self.link(user_id, persona).await.unwrap().account.unwrap()
    }

    /// Reads an account, as caller `web`.
    pub async fn account(&self, id: &str) -> Result<Account, Status> {
        let read = self.accounts("web").get_account(account(id, None)).await;
        read.map(|response| response.into_inner().account.unwrap())
    }

    /// Reads a profile as caller `web`.
    pub async fn profile(&self, request: GetProfileRequest) -> Result<AccountProfile, Status> {
        let read = self.profiles("web").get_profile(request).await;
        read.map(|response| response.into_inner().profile.unwrap())
    }

    /// Fetches a token as caller `web`.
    pub async fn token(&self, request: FetchAccessTokenRequest) -> Result<FetchAccessTokenResponse, Status> {
        self.tokens("web").fetch_access_token(request).await.map(tonic::Response::into_inner)
    }

    /// Puts accounts of a user straight into the table, without a link; their
    /// tokens do not open. Answers their ids in order.
    pub async fn fill(&self, app: &str, user_id: &str, count: i64) -> Vec<String> {
        let mut sql = self.sql().await;
        let ids = sqlx::query_scalar::<_, String>(
            "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                                   token_expire_time, token_refresh_time, username, profile_fetch_time,
                                   create_time, update_time, authorize_time, next_refresh_time)
             select gen_random_uuid(), $1, (random() * 1e15)::bigint::text, $2, 'ACTIVE', 'threads_basic', '\\x00',
                    t + interval '60 days', t, 'person ' || n, t, t, t, t, t + interval '30 days'
             from generate_series(1, $3) n, (select '2026-03-01 12:00:00Z'::timestamptz as t) t
             returning account_id::text",
        );
        let ids = ids.bind(app).bind(user_id).bind(count).fetch_all(&mut sql).await;
        let mut ids = ids.unwrap();
        ids.sort();
        ids
    }

    /// Changes the database behind the service's back.
    pub async fn meddle(&self, statement: impl Display) {
        let statement = sqlx::AssertSqlSafe(statement.to_string());
        sqlx::raw_sql(statement).execute(&mut self.sql().await).await.unwrap();
    }

    /// Makes an account one whose person must consent again.
    pub async fn revoked(&self, account_id: &str) {
        let ending =
            "state = 'REAUTHORIZATION_REQUIRED', state_reason = 'ACCESS_REVOKED', next_refresh_time = null";
        self.meddle(format!("update accounts set {ending} where account_id = '{account_id}'")).await;
    }

    /// One value out of the database, as text.
    pub async fn look_up(&self, query: impl Display) -> String {
        let query = format!("select ({query})::text");
        let value = sqlx::query_scalar::<_, Option<String>>(sqlx::AssertSqlSafe(query));
        value.fetch_one(&mut self.sql().await).await.unwrap().unwrap_or_else(|| "null".to_owned())
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(90), waiting).await;
    waited.unwrap_or_else(|_| panic!("never came to be: {what}"));
}

/// Two refusals are the same to the last byte, but for the ids that they name.
#[track_caller]
pub fn same_refusal<A, B>(one: Result<A, Status>, one_id: &str, other: Result<B, Status>, other_id: &str) {
    let [one, other] = [one.map(drop), other.map(drop)].map(Result::unwrap_err);
    let text = |status: &Status, id: &str| {
        let details = String::from_utf8_lossy(status.details()).replace(id, "ID");
        let mut headers: Vec<_> = status.metadata().keys().map(|key| format!("{key:?}")).collect();
        headers.sort();
        format!("{:?} {} {details:?} {headers:?}", status.code(), status.message().replace(id, "ID"))
    };
    assert_eq!(text(&one, one_id), text(&other, other_id));
}

impl World {
    /// Makes one call with a caller's key.
    pub async fn raw(
        &self,
        caller: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> raw::Answer {
        let key = format!("Bearer {}", self.key(caller));
        let mut all = vec![("authorization", key.as_str())];
        all.extend_from_slice(headers);
        raw::call(self.grpc, path, &all, body).await
    }
}
