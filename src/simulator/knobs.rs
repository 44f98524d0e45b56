//! What a test or a person may turn: every place where the platform's behaviour is undocumented,
//! contradictory, or known to differ from one day to the next.

use serde::{Deserialize, Serialize};

/// The switches of one simulator; the defaults are what the platform documents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch, in any combination")]
pub struct Knobs {
    /// Refuses what the documentation forbids but the platform lets pass: no `response_type`, repeated
    /// parameters in the authorization window, a code exchange by GET.
    pub strict: bool,
    /// Whether the app is published; when it is not, only testers get through the window.
    pub published: bool,
    /// How the code exchange spells `user_id`.
    pub user_id: UserId,
    /// `token_type` in the answer to the code exchange; older documentation has none.
    pub exchange_token_type: Option<String>,
    /// The envelope of the code exchange's errors.
    pub exchange_errors: Envelope,
    /// What the long-lived exchange and refresh say in `expires_in`.
    pub expires_in: ExpiresIn,
    /// Seconds for which a code can be exchanged.
    pub code_lifetime: i64,
    /// Seconds for which a short-lived token works.
    pub short_lifetime: i64,
    /// Seconds for which a long-lived token works.
    pub long_lifetime: i64,
    /// Seconds for which a permission grant lasts unless a refresh renews it.
    pub grant_lifetime: i64,
    /// Seconds a long-lived token must have lived before it can be refreshed.
    pub refresh_minimum_age: i64,
    /// Whether a refresh answers with another token string.
    pub refresh_answers: RefreshAnswers,
    /// What becomes of the token that was refreshed.
    pub old_token: OldToken,
    /// Whether private profiles can refresh; two pages of the documentation disagree.
    pub private_refresh: bool,
    /// Escapes slashes and everything beyond ASCII, as PHP does.
    pub escaped: bool,
    /// What `/me` does with fields the profile does not have.
    pub missing_fields: MissingFields,
    /// An id to name in the code exchange instead of the persona's own.
    pub exchange_user_id: Option<String>,
    /// An id to name in `/me` instead of the persona's own.
    pub me_id: Option<String>,
    /// Wraps `/me` in `data`, which the real platform does not do.
    pub me_data_wrapper: bool,
    /// Headers added to every answer of the graph host, such as `X-App-Usage`.
    pub headers: Vec<(String, String)>,
    /// Length of tokens in characters.
    pub token_length: usize,
    /// HTTP status of answers about dead tokens: nearly always 400, sometimes reported as 401.
    pub dead_token_status: u16,
    /// The Graph code for a wrong client secret; siblings of Threads say 1 or 100.
    pub wrong_secret_code: u32,
    /// Code and subcode for calls with the token of a banned account, which nobody has documented.
    pub banned: (u32, Option<u32>),
    /// Whether `appsecret_proof` is looked at.
    pub appsecret_proof: Proof,
    /// Lets only testers of the app inspect tokens, as documented.
    pub debug_testers_only: bool,
    /// Returns `state` on denial; the documentation's sample lacks it.
    pub state_on_denial: bool,
    /// Appends the redirect's `#_` to the code itself, as careless intermediaries do.
    pub code_with_suffix: bool,
    /// What the window shows for the id that the app has at Meta, in place of its Threads app id.
    pub meta_app_id_page: MetaAppIdPage,
    /// Tells apps when a person removes them. It is best effort there; off, nobody is told.
    pub deauthorize_on_revoke: bool,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            strict: true,
            published: true,
            user_id: UserId::Number,
            exchange_token_type: None,
            exchange_errors: Envelope::Flat,
            expires_in: ExpiresIn::Real,
            code_lifetime: 3_600,
            short_lifetime: 3_600,
            // The documentation's own sample, and not a round number of days.
            long_lifetime: 5_183_944,
            grant_lifetime: 90 * 86_400,
            refresh_minimum_age: 86_400,
            refresh_answers: RefreshAnswers::New,
            old_token: OldToken::Kept,
            private_refresh: true,
            escaped: true,
            missing_fields: MissingFields::Absent,
            exchange_user_id: None,
            me_id: None,
            me_data_wrapper: false,
            headers: Vec::new(),
            token_length: 200,
            dead_token_status: 400,
            wrong_secret_code: 1,
            banned: (190, None),
            appsecret_proof: Proof::Ignore,
            debug_testers_only: false,
            state_on_denial: true,
            code_with_suffix: false,
            meta_app_id_page: MetaAppIdPage::Code,
            deauthorize_on_revoke: true,
        }
    }
}

/// How the code exchange spells `user_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserId {
    /// A JSON number beyond 2^53.
    Number,
    /// A string of digits.
    String,
    /// Not at all.
    Absent,
}

/// The two shapes in which a failed code exchange is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// `{error_type, code, error_message}`, where `code` mirrors the HTTP status.
    Flat,
    /// `{error: {message, type, code, …}}`.
    Graph,
}

/// What is said in `expires_in`; the token's real lifetime is another knob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    /// The real lifetime.
    Real,
    /// Another number of seconds.
    Seconds(i64),
    /// Nothing.
    Absent,
    /// A string.
    Text(String),
}

/// Whether a refresh answers with another token string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshAnswers {
    /// Another string.
    New,
    /// The same string, living longer.
    Same,
}

/// What becomes of the token that was refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldToken {
    /// It works until it expires.
    Kept,
    /// It is dead at once.
    Revoked,
}

/// What `/me` does with fields the profile does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingFields {
    /// Leaves the key out.
    Absent,
    /// Says null.
    Null,
    /// Says the empty string.
    Empty,
}

/// Whether `appsecret_proof` is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Never.
    Ignore,
    /// When it is sent.
    Validate,
    /// Always; a call without one is refused.
    Require,
}

/// What the window shows for a Meta app id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaAppIdPage {
    /// Code 4476002, as reported since 2025.
    Code,
    /// A sentence about a clash of types and no code, as reported in 2024.
    Text,
}
