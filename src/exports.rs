//! Moving out: the accounts of an app, with their tokens if that is said, in a form
//! that `import` and anybody else can read.

use std::io::{self, Write};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ids::AccountId;
use crate::secret::AccessToken;
use crate::service::{App, Service};
use crate::states::StateReason;
use crate::store::StoreError;
use crate::store::exports::{Exported, note, of_user, page, total};

/// How many accounts are read at a time.
const PAGE: i64 = 500;
/// The column of the token, where tokens are taken out.
const TOKEN: &str = "access_token";
/// The columns before it.
const COLUMNS: [&str; 17] = [
    "account_id",
    "user_id",
    "threads_user_id",
    "state",
    "state_reason",
    "scopes",
    "created_at",
    "updated_at",
    "authorized_at",
    "issued_at",
    "expires_at",
    "username",
    "name",
    "threads_profile_picture_url",
    "threads_biography",
    "is_verified",
    "profile_fetched_at",
];

/// How accounts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values; an absent value is an empty one.
    Csv,
    /// A JSON object on each line; what is absent is left out.
    JsonLines,
}

/// Why an export ended early. What it wrote is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Our own database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is written to.
    #[error("the output cannot be written: {0}")]
    Io(#[from] io::Error),
    /// What is stored of a user.
    #[error("what is stored does not read as JSON")]
    Json(#[from] serde_json::Error),
    /// What is written to, by the way of CSV.
    #[error("the output cannot be written: {0}")]
    Csv(#[from] csv::Error),
}

/// What was taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Accounts.
    pub accounts: u64,
    /// Tokens.
    pub tokens: u64,
    /// Tokens that do not open: sealed under a key that this keyring lacks, or
    /// damaged.
    pub unopened: u64,
}

/// How many accounts there are to take out.
///
/// # Errors
/// [`StoreError`].
pub async fn count(service: &Service, app: &App) -> Result<u64, StoreError> {
    total(&service.store.pool, app.id()).await
}

/// Writes every account of an app, and tells of each page how many it had. Each
/// token has its row in the trail before it leaves.
///
/// # Errors
/// [`ExportError`].
pub async fn accounts<W: Write>(
    service: &Service,
    app: &App,
    form: Form,
    with_tokens: bool,
    out: &mut W,
    mut each: impl FnMut(u64),
) -> Result<Taken, ExportError> {
    let pool = &service.store.pool;
    note(pool, app.id(), None, "ACCOUNTS_EXPORTED", service.clock.now()).await?;
    let mut lines = Lines::begin(form, with_tokens, out)?;
    let (mut sum, mut after) = (Taken::default(), None);
    loop {
        let found = page(pool, app.id(), after, PAGE, with_tokens, service.clock.now()).await?;
        let Some(last) = found.last() else { break };
        after = Some(last.account.id);
        for exported in &found {
            let token = open(service, app, exported, &mut sum);
            lines.write(exported, token.as_ref())?;
        }
        sum.accounts += found.len() as u64;
        each(found.len() as u64);
    }
    lines.end()?;
    Ok(sum)
}

/// Everything that is stored of a user, as lists by table, without what is sealed and
/// without the names of other users; none if nothing is. That it was asked for stands
/// in the trail from then on.
///
/// # Errors
/// [`StoreError`], or what is stored does not read as JSON.
pub async fn user(
    service: &Service,
    app: &App,
    user_id: &str,
) -> Result<Option<Map<String, Value>>, ExportError> {
    let Some(text) = of_user(&service.store.pool, app.id(), user_id).await? else { return Ok(None) };
    let found = serde_json::from_str(&text)?;
    note(&service.store.pool, app.id(), Some(user_id), "USER_EXPORTED", service.clock.now()).await?;
    Ok(Some(found))
}

fn open(service: &Service, app: &App, exported: &Exported, sum: &mut Taken) -> Option<AccessToken> {
    let id: AccountId = exported.account.id;
    match service.open_token(app, id, exported.sealed_token.as_ref()?) {
        Ok(token) => {
            sum.tokens += 1;
            Some(token)
        }
        Err(error) => {
            tracing::warn!(account.id = %id, "a token does not open: {error}");
            sum.unopened += 1;
            None
        }
    }
}

/// Where lines are written, each account in the same columns.
enum Lines<'w, W: Write> {
    /// And whether tokens have their column.
    Csv(Box<csv::Writer<&'w mut W>>, bool),
    JsonLines(&'w mut W),
}

impl<'w, W: Write> Lines<'w, W> {
    fn begin(form: Form, with_tokens: bool, out: &'w mut W) -> Result<Self, ExportError> {
        if form == Form::JsonLines {
            return Ok(Self::JsonLines(out));
        }
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(COLUMNS.into_iter().chain(with_tokens.then_some(TOKEN)))?;
        Ok(Self::Csv(Box::new(writer), with_tokens))
    }

    fn write(&mut self, exported: &Exported, token: Option<&AccessToken>) -> Result<(), ExportError> {
        let values = values(exported);
        let token = token.map(AccessToken::expose);
        match self {
            Self::Csv(writer, with_tokens) => {
                let fields = values.iter().map(|value| value.as_deref().unwrap_or_default());
                let token = with_tokens.then(|| token.unwrap_or_default());
                writer.write_record(fields.chain(token))?;
            }
            Self::JsonLines(out) => {
                let fields = COLUMNS.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
                let object: Map<String, Value> = fields
                    .map(|(name, value)| match name {
                        "is_verified" => (name.to_owned(), Value::Bool(value == "true")),
                        _ => (name.to_owned(), Value::String(value)),
                    })
                    .chain(token.map(|token| (TOKEN.to_owned(), Value::String(token.to_owned()))))
                    .collect();
                let mut line = Value::Object(object).to_string();
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<(), ExportError> {
        match self {
            Self::Csv(mut writer, _) => writer.flush()?,
            Self::JsonLines(out) => out.flush()?,
        }
        Ok(())
    }
}

/// The values of an account, in the order of [`COLUMNS`].
fn values(exported: &Exported) -> [Option<String>; 17] {
    let Exported { account, consent_begin_time, .. } = exported;
    let fetched = account.profile.as_ref();
    let profile = fetched.map(|fetched| &fetched.profile);
    // An import that knew of no consent has put the epoch.
    let consent = consent_begin_time.filter(|time| *time > OffsetDateTime::UNIX_EPOCH);
    [
        Some(account.id.to_string()),
        Some(account.user_id.clone()),
        Some(account.threads_user_id.as_str().to_owned()),
        Some(account.state.as_str().to_owned()),
        account.state_reason.map(|reason| StateReason::as_str(reason).to_owned()),
        Some(account.scopes.join(" ")),
        text(account.create_time),
        text(account.update_time),
        consent.and_then(text),
        account.token_refresh_time.and_then(text),
        account.token_expire_time.and_then(text),
        profile.and_then(|profile| profile.username.clone()),
        profile.and_then(|profile| profile.name.clone()),
        profile.and_then(|profile| profile.picture_url.clone()),
        profile.and_then(|profile| profile.biography.clone()),
        profile.and_then(|profile| profile.is_verified.map(|verified| verified.to_string())),
        fetched.and_then(|fetched| text(fetched.fetch_time)),
    ]
}

fn text(time: OffsetDateTime) -> Option<String> {
    time.format(&Rfc3339).ok()
}
