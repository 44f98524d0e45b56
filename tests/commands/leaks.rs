//! Nothing leaks. The real process goes through a day in which everything happens
//! that can, with every library telling all it has to tell, and then what it wrote,
//! measured, exported, answered and stored is searched for each secret in each form.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sqlx::Connection as _;
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse,
    EraseUserRequest, FetchAccessTokenRequest, GetProfileRequest, ListAccountChangesRequest,
    ListAccountsRequest, ReportInvalidTokenRequest, UnlinkAccountRequest, WatchAccountsRequest,
};
use threads_identity::sealing::Keyring;
use threads_identity::simulator::{Controls, Decision, Endpoint, ExpiresIn, Fault, Persona};
use tonic::{Request, Status};

use crate::collector::Collector;
use crate::forms;
use crate::run::database;
use crate::serve::{CLIENT_SECRET, Service, Setting};

const BINDING: &[u8] = b"binding-that-must-not-be-named";
const RETURN_TO: &str = "https://app.example.com/linked";
const DATABASE_PASSWORD: &str = "database-password-canary-7261";
const WRONG_KEY: &str = "tidkey_wrong-caller-key-canary-0001";
const JWT: &str =
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImNhbmFyeSJ9.eyJzdWIiOiJjYW5hcnktc3ViamVjdCJ9.Y2FuYXJ5LXNpZ25hdHVyZQ";
/// What Threads is made to say in errors, beside real secrets.
const ECHOED: &str = "AQ-echoed-by-the-provider-0002";

/// Somebody who is linked, and what of them must not be named.
struct Victim {
    key: &'static str,
    user: String,
    persona: Persona,
}

impl Victim {
    fn new(key: &'static str, number: u64) -> Self {
        let biography = format!("Biography of canary {number}. ").repeat(12);
        let persona = Persona {
            name: Some(format!("Canary Name {number}")),
            biography: Some(biography),
            ..Persona::new(key, format!("3000000000007{number:04}"), format!("canary.handle.{number}"))
        };
        Self { key, user: format!("canary-user-{number}"), persona }
    }

    fn names(&self) -> Vec<Vec<u8>> {
        let persona = &self.persona;
        let texts = [Some(&self.user), Some(&persona.username), Some(&persona.id), persona.name.as_ref()];
        let mut names: Vec<Vec<u8>> =
            texts.into_iter().flatten().map(|text| text.as_bytes().to_vec()).collect();
        // A part of it is enough.
        names.push(persona.biography.as_ref().unwrap().as_bytes()[..24].to_vec());
        names
    }
}

/// A day of the process, and what it gave away.
struct Day {
    service: Service,
    controls: Controls,
    /// Each secret with its kind.
    secrets: Vec<(&'static str, Vec<u8>)>,
    /// Everything that refusals said.
    refusals: String,
}

impl Day {
    fn secret(&mut self, kind: &'static str, value: impl Into<Vec<u8>>) {
        self.secrets.push((kind, value.into()));
    }

    fn said<T>(&mut self, result: Result<T, Status>) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(status) => {
                let details = String::from_utf8_lossy(status.details());
                self.refusals += &format!("{status:?} {details} {:?}\n", status.metadata());
                None
            }
        }
    }

    fn authorizations(&self) -> AuthorizationServiceClient<tonic::transport::Channel> {
        AuthorizationServiceClient::new(self.service.channel.clone())
    }

    fn accounts(&self) -> AccountServiceClient<tonic::transport::Channel> {
        AccountServiceClient::new(self.service.channel.clone())
    }

    fn tokens(&self) -> AccessTokenServiceClient<tonic::transport::Channel> {
        AccessTokenServiceClient::new(self.service.channel.clone())
    }

    async fn create(&mut self, user: &str) -> CreateAuthorizationUrlResponse {
        let link =
            Link { user_id: user.to_owned(), session_binding: Some(BINDING.to_vec()), ..Link::default() };
        let message = CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..Default::default() };
        let created = self.authorizations().create_authorization_url(self.service.request(message)).await;
        let created = created.unwrap().into_inner();
        self.secret("state", created.state.clone());
        created
    }

    async fn complete(&mut self, answer: Answer, user: &str, binding: Option<&[u8]>) -> Option<String> {
        let message = CompleteAuthorizationRequest {
            answer: Some(answer),
            user_id: Some(user.to_owned()),
            session_binding: binding.map(<[u8]>::to_vec),
        };
        let completed = self.authorizations().complete_authorization(self.service.request(message)).await;
        self.said(completed).map(|completed| completed.into_inner().account.unwrap().account_id)
    }

    async fn link(&mut self, victim: &Victim) -> Option<String> {
        let created = self.create(&victim.user).await;
        let url = self.controls.consent(&created.authorization_url, victim.key, Decision::Allow).unwrap();
        self.complete(Answer::CallbackUrl(url), &victim.user, Some(BINDING)).await
    }

    async fn fetch(&mut self, account_id: &str, user: &str, minimum_lifetime: Option<i64>) {
        let message = FetchAccessTokenRequest {
            account_id: account_id.to_owned(),
            user_id: user.to_owned(),
            minimum_lifetime: minimum_lifetime.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            purpose: "leaks".to_owned(),
            ..Default::default()
        };
        let fetched = self.tokens().fetch_access_token(self.service.request(message)).await;
        self.said(fetched);
    }

    async fn read_anew(&mut self, account_id: &str) {
        use threads_identity::proto::v1::get_profile_request::Account;
        let message = GetProfileRequest {
            account: Some(Account::AccountId(account_id.to_owned())),
            max_age: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
            user_id: None,
        };
        let mut profiles = ProfileServiceClient::new(self.service.channel.clone());
        let read = profiles.get_profile(self.service.request(message)).await;
        self.said(read);
    }

    /// The browser comes to the hosted callback; what it is sent on with.
    async fn browse(&self, query: &str) -> (u16, String) {
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        let url = format!("http://{}/api/auth/callback/threads?{query}", self.service.http);
        let answer = client.unwrap().get(url).send().await.unwrap();
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location.unwrap_or_default())
    }

    /// Meta tells something; the body of the answer.
    async fn tell(&mut self, path: &str, secret: &str, person: &str) -> String {
        let issued_at = self.controls.now();
        let json = format!(r#"{{"algorithm":"HMAC-SHA256","issued_at":{issued_at},"user_id":"{person}"}}"#);
        let payload = URL_SAFE_NO_PAD.encode(json);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, payload.as_bytes()));
        self.secret("signature", signature.clone());
        let signed = format!("{signature}.{payload}");
        self.secret("signed request", signed.clone());
        let url = format!("http://{}{path}", self.service.http);
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("signed_request", &signed)
            .finish();
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        request.send().await.unwrap().text().await.unwrap()
    }
}

/// Completions that are refused, forged, denied and interrupted.
async fn failures(day: &mut Day, victim: &Victim) {
    let faults = [
        (Endpoint::CodeExchange, Fault::Html502),
        (Endpoint::CodeExchange, Fault::CutAfterRequest),
        (
            Endpoint::CodeExchange,
            Fault::Redirect(format!("https://evil.example/?client_secret={CLIENT_SECRET}")),
        ),
        (Endpoint::LongLivedExchange, Fault::GarbageJson),
        (Endpoint::LongLivedExchange, Fault::WrongTypes),
        (Endpoint::Me, Fault::Truncated),
        (Endpoint::Me, Fault::Huge),
    ];
    for (endpoint, fault) in faults {
        day.controls.fault_times(endpoint, 8, fault);
        day.link(victim).await;
        day.controls.clear_faults();
    }
    // Errors that quote what was sent.
    let tokens = day.controls.issued_tokens(victim.key);
    let quoted = format!("{ECHOED} {CLIENT_SECRET} {}", tokens.last().unwrap());
    let graph = format!(
        r#"{{"error":{{"message":"{quoted}","type":"{quoted}","code":190,"error_subcode":460,"fbtrace_id":"{quoted}\r\n"}}}}"#
    );
    let json = "application/json";
    for (endpoint, fault) in [
        (Endpoint::CodeExchange, Fault::Flat { status: 400, message: quoted.clone() }),
        (Endpoint::LongLivedExchange, status(400, json, &graph)),
        (Endpoint::LongLivedExchange, status(500, &quoted, &quoted)),
        (Endpoint::Me, status(400, json, &graph)),
        (Endpoint::Me, status(200, json, &format!(r#"{{"id":"{ECHOED}","name":{quoted}}}"#))),
        (Endpoint::Me, Fault::Headers(vec![("Retry-After".to_owned(), ECHOED.to_owned())])),
    ] {
        day.controls.fault_times(endpoint, 8, fault);
        day.link(victim).await;
        day.controls.clear_faults();
    }
    // Another's browser, another session, a denial, a code that nobody gave.
    for (user, binding) in [("another-user", Some(BINDING)), (victim.user.as_str(), None)] {
        let created = day.create(&victim.user).await;
        let url = day.controls.consent(&created.authorization_url, victim.key, Decision::Allow).unwrap();
        day.complete(Answer::CallbackUrl(url), user, binding).await;
    }
    let created = day.create(&victim.user).await;
    let url = day.controls.consent(&created.authorization_url, victim.key, Decision::Deny).unwrap();
    day.complete(Answer::CallbackUrl(url), &victim.user, Some(BINDING)).await;
    let fresh = day.create(&victim.user).await.state;
    for (state, code) in [
        (fresh, "code-nobody-gave-0003"),
        (created.state.replace(|c: char| c.is_ascii_digit(), "x"), "code-nobody-gave-0004"),
        (format!("{ECHOED}\r\n\0"), "code with\r\nlines and \0 0005"),
    ] {
        day.secret("code", code);
        day.secret("state", state.clone());
        let result = Some(parameters::Result::Code(code.to_owned()));
        day.complete(Answer::Parameters(Parameters { state, result }), &victim.user, Some(BINDING)).await;
    }
    let key = format!("Bearer {WRONG_KEY}");
    for header in [key.clone(), format!("Bearer {JWT}"), format!("Basic {}", STANDARD.encode(WRONG_KEY)), key]
    {
        let mut request = Request::new(ListAccountsRequest::default());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        let refused = day.accounts().list_accounts(request).await;
        day.said(refused);
    }
    // Secrets where none belongs.
    let token = tokens.last().unwrap().clone();
    for secret in [token, created.state, JWT.to_owned(), WRONG_KEY.to_owned()] {
        let message = ListAccountsRequest {
            user_id: Some(secret.clone()),
            page_token: secret.clone(),
            ..Default::default()
        };
        let refused = day.accounts().list_accounts(day.service.request(message)).await;
        day.said(refused);
        let message = ListAccountChangesRequest { cursor: Some(secret.clone()), ..Default::default() };
        let refused = day.accounts().list_account_changes(day.service.request(message)).await;
        day.said(refused);
        day.complete(Answer::Ticket(secret.clone()), &victim.user, Some(BINDING)).await;
        day.complete(
            Answer::CallbackUrl(format!("https://x.example/?state={secret}&code={secret}")),
            "u",
            None,
        )
        .await;
        day.fetch(&secret, &secret, None).await;
        day.browse(&format!("state={secret}&code={secret}")).await;
    }
}

fn status(status: u16, content_type: &str, body: &str) -> Fault {
    Fault::Status { status, content_type: content_type.to_owned(), body: body.to_owned() }
}

/// The hosted callback, with good and bad states; and somebody else with the ticket.
async fn through_the_browser(day: &mut Day, victim: &Victim) {
    for user in ["another-user", victim.user.as_str()] {
        let created = day.create(&victim.user).await;
        let url = day.controls.consent(&created.authorization_url, victim.key, Decision::Allow).unwrap();
        let query = url.split_once('?').unwrap().1.trim_end_matches("#_");
        let (status, location) = day.browse(query).await;
        assert_eq!(status, 303);
        let ticket = location.strip_prefix(&format!("{RETURN_TO}?ticket=")).unwrap();
        // An empty fragment takes the place of the one that browsers carry along.
        let ticket = ticket.split(['#', '&']).next().unwrap().to_owned();
        day.secret("ticket", ticket.clone());
        let (status, location) = day.browse(&query.replace("state=", "state=x")).await;
        // A page of its own, whose address anybody may see.
        assert!(status == 303 && location.contains("/threads/link-trouble/state_invalid/"), "{location}");
        day.refusals += &location;
        day.refusals.push('\n');
        let linked = day.complete(Answer::Ticket(ticket), user, Some(BINDING)).await;
        let last = day.refusals.lines().last();
        assert_eq!(linked.is_some(), user == victim.user, "{last:?}");
    }
}

/// What happens to an account that is linked.
async fn life(day: &mut Day, victim: &Victim, account_id: &str, sql: &mut sqlx::PgConnection) {
    day.fetch(account_id, &victim.user, None).await;
    // Refreshed on the spot, once it is old enough.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let tokens = day.controls.issued_tokens(victim.key).len();
    day.fetch(account_id, &victim.user, Some(86_400)).await;
    assert!(day.controls.issued_tokens(victim.key).len() > tokens, "a token was refreshed");
    day.fetch(account_id, "another-user", None).await;
    day.read_anew(account_id).await;
    day.controls.knobs(|knobs| knobs.me_id = Some(format!("{}5", victim.persona.id)));
    day.read_anew(account_id).await;
    day.controls.knobs(|knobs| knobs.me_id = None);
    day.controls.change_password(victim.key);
    day.read_anew(account_id).await;
    let newest = day.controls.newest_token(victim.key).unwrap();
    let report = ReportInvalidTokenRequest {
        account_id: account_id.to_owned(),
        user_id: victim.user.clone(),
        token_sha256: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, newest.as_bytes())
            .as_ref()
            .to_vec(),
    };
    let reported = day.tokens().report_invalid_token(day.service.request(report)).await;
    day.said(reported);
    let watch = WatchAccountsRequest { user_id: Some(victim.user.clone()), cursor: None };
    let watching = day.accounts().watch_accounts(day.service.request(watch)).await;
    drop(day.said(watching));
    // What the database refuses, it quotes.
    let refuse =
        format!("alter table accounts add constraint canary check (user_id <> '{}') not valid", victim.user);
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)).execute(&mut *sql).await.unwrap();
    day.link(victim).await;
    let unlink = UnlinkAccountRequest { account_id: account_id.to_owned(), user_id: victim.user.clone() };
    let refused = day.accounts().unlink_account(day.service.request(unlink)).await;
    day.said(refused);
    sqlx::raw_sql("alter table accounts drop constraint canary").execute(&mut *sql).await.unwrap();
    // Somebody has been at the rows.
    let spoil =
        "update accounts set token = set_byte(token, 40, get_byte(token, 40) # 1) where token is not null";
    sqlx::raw_sql(spoil).execute(&mut *sql).await.unwrap();
    day.fetch(account_id, &victim.user, None).await;
    sqlx::raw_sql(spoil).execute(&mut *sql).await.unwrap();
}

/// The texts and bytes of the keys in a keyring.
fn keys_of(keyring: &str) -> Vec<Vec<u8>> {
    let toml: toml::Table = Keyring::parse(keyring).unwrap().to_toml().parse().unwrap();
    let mut keys = vec![keyring.as_bytes().to_vec()];
    let mut take = |value: &toml::Value| {
        let text = value.as_str().unwrap();
        let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).unwrap();
        assert!(bytes.len() >= 32, "a key");
        keys.extend([text.as_bytes().to_vec(), bytes]);
    };
    take(&toml["id_key"]);
    for key in toml["keys"].as_array().unwrap() {
        take(&key["key"]);
    }
    keys
}

/// Whether there is a `pg_dump`; where there is none, says so plainly.
fn has_pg_dump() -> bool {
    let found = Command::new("pg_dump").arg("--version").output();
    if let Err(why) = &found {
        let required = std::env::var_os("THREADS_IDENTITY_PG_DUMP_REQUIRED").is_some();
        assert!(!required, "pg_dump is required here: {why}");
        // Not by the macro, whose output is only shown when a test fails.
        let _ = writeln!(std::io::stderr(), "THE SEARCH FOR LEAKS IS SKIPPED: pg_dump: {why}");
    }
    found.is_ok()
}

/// Everything in the database, as a backup has it.
fn pg_dump(database_url: &str) -> Vec<u8> {
    let dump = Command::new("pg_dump").args(["--dbname", database_url]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(holds(&dump.stdout, "COPY public.accounts "));
    dump.stdout
}

/// The log of changes of the database server, from which backups are made good;
/// `None` where the server is not on this machine.
async fn write_ahead_log(sql: &mut sqlx::PgConnection) -> Option<Vec<u8>> {
    sqlx::raw_sql("checkpoint").execute(&mut *sql).await.unwrap();
    let place: String =
        sqlx::query_scalar("select current_setting('data_directory')").fetch_one(&mut *sql).await.unwrap();
    let files = fs::read_dir(std::path::Path::new(&place).join("pg_wal")).ok()?;
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    Some(files.flat_map(|path| fs::read(path).unwrap_or_default()).collect())
}

#[track_caller]
fn nothing_of(secrets: &[(&'static str, Vec<u8>)], places: &[(&str, &[u8])]) {
    let search = forms::Search::new(secrets.iter().map(|(_, secret)| secret.as_slice()));
    for (place, text) in places {
        if let Some((which, around)) = search.first(text) {
            panic!("{place}: holds a {}: {around:?}", secrets[which].0);
        }
    }
}

fn holds(text: &[u8], what: &str) -> bool {
    aho_corasick::AhoCorasick::new([what]).unwrap().find(text).is_some()
}

async fn whole_day(format: &str) {
    if !has_pg_dump() {
        return;
    }
    let database = database().await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let (user, place) = rest.split_once('@').unwrap();
    let with_password = format!("{scheme}://{user}:{DATABASE_PASSWORD}@{place}");
    let setting = Setting::new(&format!("leaks-{format}"), &with_password).await;
    let (collector, address) = Collector::start().await;
    let mut serve = setting.serve();
    let file = setting.directory.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("authorize_url", &format!("return_to = [\"{RETURN_TO}\"]\nauthorize_url"));
    fs::write(&file, text.replace("\"token\"]", "\"token\", \"erase\"]")).unwrap();
    serve
        .env("RUST_LOG", "trace")
        .env("THREADS_IDENTITY__TELEMETRY__LOG_FORMAT", format)
        .env("THREADS_IDENTITY__TELEMETRY__OTLP_ENDPOINT", format!("http://{address}"))
        .env("THREADS_IDENTITY__TELEMETRY__TRACE_RATIO", "1")
        .env("THREADS_IDENTITY__TELEMETRY__QUEUE_MAX", "100000")
        .env("THREADS_IDENTITY__TELEMETRY__EXPORT_INTERVAL", "100ms")
        .env("THREADS_IDENTITY__REFRESH__MINIMUM_AGE", "1s")
        .env("THREADS_IDENTITY__REFRESH__STRIKE_INTERVAL", "1s");
    let service = Service::start(serve, &setting.key).await;
    let controls = setting.simulator.controls();
    controls.knobs(|knobs| {
        knobs.refresh_minimum_age = 0;
        knobs.expires_in = ExpiresIn::Seconds(7200);
    });
    let mut day = Day { service, controls, secrets: Vec::new(), refusals: String::new() };
    for key in keys_of(&setting.keyring) {
        day.secret("keyring key", key);
    }
    for (kind, secret) in [
        ("client secret", CLIENT_SECRET),
        ("caller key", setting.key.as_str()),
        ("caller key", WRONG_KEY),
        ("bearer", JWT),
        ("database password", DATABASE_PASSWORD),
        ("quoted secret", ECHOED),
    ] {
        day.secret(kind, secret);
    }
    day.secret("session binding", BINDING);

    let victims = [Victim::new("linked", 1), Victim::new("browsing", 2), Victim::new("forging", 3)];
    for victim in &victims {
        day.controls.add_persona(victim.persona.clone());
    }
    let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
    let account_id = day.link(&victims[0]).await.expect("linked");
    failures(&mut day, &victims[0]).await;
    through_the_browser(&mut day, &victims[1]).await;
    life(&mut day, &victims[0], &account_id, &mut sql).await;
    forge(&mut day, &victims[2]).await;
    for path in ["/threads/deauthorize", "/threads/data-deletion"] {
        day.tell(path, "another-secret-0006", &victims[1].persona.id).await;
    }
    day.tell("/threads/deauthorize", CLIENT_SECRET, &victims[1].persona.id).await;
    let metrics =
        reqwest::get(format!("http://{}/metrics", day.service.ops)).await.unwrap().bytes().await.unwrap();

    for victim in &victims {
        for token in day.controls.issued_tokens(victim.key) {
            day.secret("token", token);
        }
    }
    for code in day.controls.issued_codes() {
        day.secret("code", code);
    }
    let dump = pg_dump(database.url());
    let victim = &victims[0];
    assert!(
        holds(&dump, &victim.user) && holds(&dump, &victim.persona.username),
        "what is not secret is found"
    );
    nothing_of(&day.secrets, &[("dump", &dump), ("metrics", &metrics)]);
    if let Some(log) = write_ahead_log(&mut sql).await {
        assert!(holds(&log, &victim.user), "what is not secret is found");
        nothing_of(&day.secrets, &[("write-ahead log", &log)]);
    }

    // Everybody is forgotten: two by the caller, one by Meta's word.
    let answer = day.tell("/threads/data-deletion", CLIENT_SECRET, &victims[1].persona.id).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    day.secret("confirmation code", answer["confirmation_code"].as_str().unwrap());
    for victim in &victims {
        let erase = EraseUserRequest { user_id: victim.user.clone() };
        let erased = day.accounts().erase_user(day.service.request(erase)).await;
        day.said(erased).expect("erased");
    }
    let dump = pg_dump(database.url());
    day.service.running.signal("-TERM");
    let status = day.service.running.wait();
    assert_eq!(status.code(), Some(0));
    let lines = day.service.running.errors();
    for line in &lines {
        let strange = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!line.contains(strange), "a line holds a control character: {line:?}");
        if format == "json" {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        }
    }
    let (log, traces) = (lines.join("\n"), collector.everything());
    for event in ["SEALED_DATA_INVALID", "CODE_REJECTED", "TRACE", "SESSION_MISMATCH", "draining"] {
        assert!(log.contains(event), "no {event} in the log");
    }
    assert!(day.refusals.lines().count() > 40, "{}", day.refusals);
    assert!(holds(&traces, "threads code_exchange"));
    let places: [(&str, &[u8]); 5] = [
        ("log", log.as_bytes()),
        ("traces", &traces),
        ("metrics", &metrics),
        ("refusals", day.refusals.as_bytes()),
        ("dump", &dump),
    ];
    nothing_of(&day.secrets, &places);
    let names: Vec<_> = victims.iter().flat_map(Victim::names).map(|name| ("name", name)).collect();
    nothing_of(&names, &places[..4]);
    // Whoever watches is told that it is over, of whom, for as long as events are kept.
    let told = |line: &&[u8]| holds(line, "\tERASED\t");
    let dump: Vec<&[u8]> = dump.split(|byte| *byte == b'\n').collect();
    assert_eq!(dump.iter().filter(|line| told(line)).count(), 3);
    let dump = dump.into_iter().filter(|line| !told(line)).collect::<Vec<_>>().join(&b'\n');
    nothing_of(&names, &[("dump", &dump)]);
}

/// People whose names would break lines.
async fn forge(day: &mut Day, victim: &Victim) {
    let names = [
        "\u{1b}[2J\u{1b}[31mred",
        "name\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
        "line\u{2028}separator\u{2029}and \u{85} next",
        "quotes \" ' ` \\ and {braces}",
        "nul\0inside",
        &"n".repeat(8192),
    ];
    for name in names {
        let name = Some(format!("Canary Name 3 {name}"));
        day.controls.edit(victim.key, |persona| {
            persona.name.clone_from(&name);
            persona.biography.clone_from(&name);
        });
        if let Some(account_id) = day.link(victim).await {
            day.read_anew(&account_id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobody_stands_where_they_must_not_with_json_logs() {
    whole_day("json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobody_stands_where_they_must_not_with_text_logs() {
    whole_day("text").await;
}
