//! `watch`: the changes of accounts, in a terminal or for a script.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use super::serve::asked_to_stop;
use super::{CommandResult, Variables, WatchArgs, print_note};
use crate::error::Reason;
use crate::proto::v1::account_service_client::AccountServiceClient;
use crate::proto::v1::{Account, AccountChange, WatchAccountsRequest, WatchAccountsResponse};

const KEY_VARIABLE: &str = "THREADS_IDENTITY_CALLER_KEY";
/// How long to wait before the next try: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How a server that has fallen silent is found out.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(10);

/// Watches until it is asked to stop.
pub(super) async fn run(args: WatchArgs, variables: &Variables) -> CommandResult {
    let stopped = asked_to_stop();
    let key = read_key(&args, variables)?;
    let endpoint = endpoint(&args)?
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_MAX);
    let client = AccountServiceClient::new(endpoint.connect_lazy());
    let mut watcher =
        Watcher { client, key, user: args.user, cursor: args.cursor, json: args.json, heard: false };
    let ended = tokio::select! {
        () = stopped => Ok(()),
        ended = watcher.follow() => ended,
    };
    if let Some(cursor) = &watcher.cursor {
        print_note(format_args!("Go on from here with --cursor {cursor}"));
    }
    ended
}

/// Where the service is, and with whose certificates it is spoken to.
fn endpoint(args: &WatchArgs) -> Result<Endpoint, Box<dyn std::error::Error + Send + Sync>> {
    let unfit = "--server: must be an address such as http://127.0.0.1:50051 or https://id.example.com:50051";
    let endpoint = Endpoint::from_shared(args.server.clone()).map_err(|_| unfit)?;
    let files = [&args.ca_file, &args.certificate_file, &args.client_key_file];
    match endpoint.uri().scheme_str() {
        Some("http") if files.iter().all(|file| file.is_none()) => return Ok(endpoint),
        Some("http") => return Err("--server: needs https:// for certificates to be of use".into()),
        Some("https") => {}
        _ => return Err(unfit.into()),
    }
    let read = |option: &str, file: &Option<PathBuf>| match file {
        None => Ok(None),
        Some(file) => match std::fs::read(file) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) => Err(format!("{option}: {}: {error}", file.display())),
        },
    };
    let mut tls = match read("--ca-file", &args.ca_file)? {
        // Without one nobody would be believed, and the service would seem to be away.
        Some(pem) if !matches!(CertificateDer::pem_slice_iter(&pem).next(), Some(Ok(_))) => {
            return Err("--ca-file: holds no certificate in PEM".into());
        }
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem.as_slice())),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let certificate = read("--certificate-file", &args.certificate_file)?;
    let key = read("--client-key-file", &args.client_key_file)?;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        tls = tls.identity(Identity::from_pem(certificate.as_slice(), key.as_slice()));
    }
    let unusable = "a certificate or a key cannot be used: --ca-file, --certificate-file and --client-key-file \
                    must be PEM, and the key that of the certificate";
    endpoint.tls_config(tls).map_err(|_| unusable.into())
}

/// The caller's key, as it is sent.
fn read_key(
    args: &WatchArgs,
    variables: &Variables,
) -> Result<Option<MetadataValue<Ascii>>, Box<dyn std::error::Error + Send + Sync>> {
    let (text, place) = if let Some(file) = &args.key_file {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("--key-file: {shown}: {error}"))?;
        (Some(Zeroizing::new(text)), format!("--key-file: {shown}"))
    } else {
        let found = variables.iter().find(|(name, _)| name == KEY_VARIABLE);
        (found.map(|(_, value)| Zeroizing::new(value.clone())), KEY_VARIABLE.to_owned())
    };
    let Some(text) = text else { return Ok(None) };
    let value = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value = MetadataValue::try_from(value.as_str())
        .map_err(|_| format!("{place}: does not hold a key as `threads-identity callers add` prints it"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

struct Watcher {
    client: AccountServiceClient<Channel>,
    key: Option<MetadataValue<Ascii>>,
    user: Option<String>,
    /// Of the last message that was printed.
    cursor: Option<String>,
    json: bool,
    /// Whether the server has ever answered.
    heard: bool,
}

/// How one stream ended.
enum End {
    /// Nobody reads what is printed.
    Unread,
    /// With this.
    Status(Status),
}

impl Watcher {
    /// Watches, and again wherever that may help.
    async fn follow(&mut self) -> CommandResult {
        let mut pause = PAUSE_MIN;
        loop {
            let before = self.cursor.clone();
            let status = match self.watch().await {
                Ok(()) => Status::unavailable("the stream has ended"),
                Err(End::Unread) => return Ok(()),
                Err(End::Status(status)) => status,
            };
            if !self.passes(&status) {
                return Err(explain(&status).into());
            }
            if self.cursor != before {
                pause = PAUSE_MIN;
            }
            print_note(format_args!("{} Trying again.", explain(&status)));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One stream, to its end.
    async fn watch(&mut self) -> Result<(), End> {
        let message = WatchAccountsRequest { user_id: self.user.clone(), cursor: self.cursor.clone() };
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        let mut stream = self.client.watch_accounts(request).await.map_err(End::Status)?.into_inner();
        while let Some(message) = stream.message().await.map_err(End::Status)? {
            self.heard = true;
            let line =
                if self.json { Some(json_line(&message)) } else { message.change.as_ref().map(text_line) };
            if let Some(line) = line
                && let Err(error) = writeln!(io::stdout().lock(), "{line}")
            {
                return match error.kind() {
                    io::ErrorKind::BrokenPipe => Err(End::Unread),
                    _ => Err(End::Status(Status::aborted(format!("cannot print: {error}")))),
                };
            }
            self.cursor = Some(message.cursor);
        }
        Ok(())
    }

    /// Whether watching again from the last cursor may help.
    fn passes(&self, status: &Status) -> bool {
        match reason(status) {
            Some(Reason::WatchLagged) => true,
            Some(_) => status.code() == Code::Unavailable,
            // The connection's own end.
            None => {
                let is_broken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled);
                status.code() == Code::Unavailable || self.heard && is_broken
            }
        }
    }
}

fn reason(status: &Status) -> Option<Reason> {
    Reason::from_str_name(&status.get_details_error_info()?.reason)
}

/// What the server answered, with all that it says to go by.
fn explain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if !text.ends_with('.') {
        text.push('.');
    }
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return format!("The service cannot be reached: {text}");
    };
    for violation in details.bad_request().iter().flat_map(|fields| &fields.field_violations) {
        let _ = write!(text, " {}: {}.", violation.field, violation.description);
    }
    let _ = write!(text, " ({}", info.reason);
    for (key, value) in info.metadata.iter().filter(|(key, _)| *key != "cursor") {
        let _ = write!(text, ", {key}: {value}");
    }
    text.push(')');
    text
}

fn text_line(change: &AccountChange) -> String {
    let time = change.change_time.and_then(rfc3339).unwrap_or_default();
    let kind = kind(change);
    let mut line = format!("{time}  {kind:<25}  {}", change.account_id);
    if !change.user_id.is_empty() {
        let _ = write!(line, "  of {}", change.user_id);
    }
    if !change.previous_user_id.is_empty() {
        let _ = write!(line, "  from {}", change.previous_user_id);
    }
    if let Some(account) = &change.account {
        let _ = write!(line, "  now {}", state(account));
        if account.state_reason != 0 {
            let _ = write!(line, ", {}", state_reason(account));
        }
    }
    line
}

fn json_line(message: &WatchAccountsResponse) -> String {
    let mut line = Map::from_iter([("cursor".to_owned(), json!(message.cursor))]);
    if let Some(change) = &message.change {
        let mut fields = Map::new();
        put(&mut fields, "kind", kind(change));
        put(&mut fields, "account_id", &change.account_id);
        put(&mut fields, "user_id", &change.user_id);
        put(&mut fields, "previous_user_id", &change.previous_user_id);
        put(&mut fields, "change_time", &change.change_time.and_then(rfc3339).unwrap_or_default());
        if let Some(account) = &change.account {
            fields.insert("account".to_owned(), json_account(account));
        }
        line.insert("change".to_owned(), Value::Object(fields));
    }
    Value::Object(line).to_string()
}

fn json_account(account: &Account) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "account_id", &account.account_id);
    put(&mut fields, "user_id", &account.user_id);
    put(&mut fields, "threads_user_id", &account.threads_user_id);
    put(&mut fields, "state", state(account));
    if account.state_reason != 0 {
        put(&mut fields, "state_reason", state_reason(account));
    }
    fields.insert("scopes".to_owned(), json!(account.scopes));
    for (name, time) in [
        ("create_time", account.create_time),
        ("update_time", account.update_time),
        ("authorize_time", account.authorize_time),
        ("token_expire_time", account.token_expire_time),
        ("token_refresh_time", account.token_refresh_time),
        ("last_token_fetch_time", account.last_token_fetch_time),
    ] {
        put(&mut fields, name, &time.and_then(rfc3339).unwrap_or_default());
    }
    Value::Object(fields)
}

/// Adds a field, unless it is empty.
fn put(fields: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), json!(value));
    }
}

fn kind(change: &AccountChange) -> &'static str {
    change.kind().as_str_name().trim_start_matches("KIND_")
}

fn state(account: &Account) -> &'static str {
    account.state().as_str_name().trim_start_matches("STATE_")
}

fn state_reason(account: &Account) -> &'static str {
    account.state_reason().as_str_name().trim_start_matches("STATE_REASON_")
}

fn rfc3339(time: prost_types::Timestamp) -> Option<String> {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?.format(&Rfc3339).ok()
}
