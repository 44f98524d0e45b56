//! `doctor`: everything that an operator gets wrong, each thing with its fix.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use sqlx::Connection as _;
use threads_identity::grpc::new_caller_key;
use threads_identity::postgres::scratch::Database;
use threads_identity::sealing::Keyring;
use threads_identity::simulator::{Options, Simulator};

use crate::run::{Directory, command, database, empty_database, end, sha256};

const CLIENT_ID: &str = "990602627938098";
const CLIENT_SECRET: &str = "sim-threads-app-secret-0001";
const CALLBACK: &str = "https://id.example.com/api/auth/callback/threads";

/// A set-up, and what of it is written otherwise.
struct Patient {
    directory: Directory,
    simulator: Simulator,
    database_url: String,
    keyring: String,
    config: String,
    environment: Vec<(&'static str, &'static str)>,
}

/// What the doctor said.
struct Seen {
    code: Option<i32>,
    findings: Vec<Value>,
    /// All that was printed.
    text: String,
}

impl Patient {
    async fn new(name: &str, database: &Database) -> Self {
        let options = Options { redirect_uris: vec![CALLBACK.to_owned()], ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let base = simulator.base_url();
        let hash = sha256(&new_caller_key().0);
        let config = format!(
            "[server]\ngrpc_listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\n\
             public_url = \"https://id.example.com\"\n[keys]\nfile = \"keys.toml\"\n[[apps]]\nid = \"default\"\n\
             client_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\nredirect_uris = [\"{CALLBACK}\"]\n\
             return_to = [\"https://app.example.com/linked\"]\nauthorize_url = \"{base}/oauth/authorize\"\n\
             graph_url = \"{base}\"\n[[callers]]\nname = \"web\"\nroles = [\"link\", \"read\"]\n\
             key_sha256 = [\"{hash}\"]\n"
        );
        let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_toml().to_string();
        let directory = Directory::new(name);
        let database_url = database.url().to_owned();
        Self { directory, simulator, database_url, keyring, config, environment: Vec::new() }
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.directory.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Looks, with these parts of the configuration written otherwise.
    fn see(&self, changes: &[(&str, &str)], arguments: &[&str]) -> Seen {
        let mut config = self.config.clone();
        for (old, new) in changes {
            assert!(config.contains(old), "{old} in {config}");
            config = config.replace(old, new);
        }
        self.write("config.toml", &config, 0o600);
        self.write("keys.toml", &self.keyring, 0o600);
        self.look(arguments)
    }

    fn look(&self, arguments: &[&str]) -> Seen {
        let mut doctor = command(["doctor", "--json", "--config"]);
        doctor.arg(self.directory.path("config.toml")).args(arguments);
        doctor.env("DATABASE_URL", &self.database_url);
        doctor.env("THREADS_IDENTITY_PORT_50051_TCP", "tcp://10.0.0.1:50051");
        doctor.envs(self.environment.iter().copied());
        let ended = end(doctor);
        let mut findings: Vec<Value> =
            ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let counted = findings.pop().unwrap();
        let count = |level: &str| findings.iter().filter(|finding| finding["level"] == level).count();
        assert_eq!(counted["problems"], count("problem"));
        assert_eq!(counted["warnings"], count("warning"));
        let text = ended.out + &ended.err;
        assert!(
            !text.contains("canary")
                && !text.contains(CLIENT_SECRET)
                && !text.contains(self.database_url.as_str()),
            "{text}"
        );
        Seen { code: ended.code, findings, text }
    }

    async fn sql(&self, statement: &'static str) {
        let mut connection = sqlx::PgConnection::connect(&self.database_url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
}

impl Seen {
    /// There is a finding of this level on this subject that says this.
    #[track_caller]
    fn tells(&self, level: &str, subject: &str, words: &str) {
        let found = self.findings.iter().any(|finding| {
            finding["level"] == level
                && finding["subject"] == subject
                && finding["found"].as_str().unwrap().contains(words)
                && finding["fix"].is_string() == (level != "ok")
        });
        assert!(found, "no {level} on {subject} that says {words:?}: {}", self.text);
        assert_eq!(self.code, Some(i32::from(self.count("problem") > 0)), "{}", self.text);
    }

    fn count(&self, level: &str) -> usize {
        self.findings.iter().filter(|finding| finding["level"] == level).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_without_a_fault_is_told_so() {
    let database = database().await;
    let patient = Patient::new("doctor-well", &database).await;
    let seen = patient.see(&[], &[]);
    assert_eq!(seen.count("problem"), 0, "{}", seen.text);
    for (subject, words) in [
        ("the configuration", "without a problem"),
        ("server.grpc_listen", "is free"),
        ("callers.0", "web of app default may link, read, by 1 credentials"),
        ("database.url", "answer for their own statements"),
        ("keys.file", "1 keys"),
        ("keys.file", "closed to others"),
        ("--config", "closed to others"),
        ("apps.0.client_id", "has the form"),
        ("apps.0.redirect_uris.0", "byte for byte"),
        ("apps.0.return_to", "1 addresses"),
        ("database.url", "Postgres "),
        ("database.url", "stays on this machine"),
        ("the clock", "from that of Postgres"),
        ("the schema", "up to date"),
        ("the schema", "every right"),
        ("apps.0.client_secret", "takes its secret"),
        ("server.public_url", "https://id.example.com"),
    ] {
        seen.tells("ok", subject, words);
    }
    // The scratch server knows one role, and that one may do everything.
    seen.tells("warning", "database.url", "superuser");
    assert_eq!(patient.look(&["--strict"]).code, Some(1), "a warning counts if it is to");
    let controls = patient.simulator.controls();
    assert_eq!(controls.count(threads_identity::simulator::Endpoint::ClientCredentials), 2);
    patient.see(&[], &["--offline"]);
    assert_eq!(controls.count(threads_identity::simulator::Endpoint::ClientCredentials), 2, "not asked");
    assert!(controls.violations().is_empty(), "{:?}", controls.violations());

    // For people, the same in lines.
    let mut doctor = command(["doctor", "--offline", "--config"]);
    doctor.arg(patient.directory.path("config.toml")).env("DATABASE_URL", &patient.database_url);
    let told = end(doctor).good();
    assert!(told.contains("ok       the configuration: reads without a problem"), "{told}");
    assert!(told.lines().last().unwrap().contains("0 problems"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_app_is_told_with_its_fix() {
    let database = database().await;
    let patient = Patient::new("doctor-apps", &database).await;
    let uris = format!("redirect_uris = [\"{CALLBACK}\"]");
    let return_to = "return_to = [\"https://app.example.com/linked\"]\n";
    let redirect = |uris: &str| format!("redirect_uris = [{uris}]");
    for (old, new, level, subject, words) in [
        (CLIENT_ID, "1234567890".to_owned(), "problem", "apps.0.client_id", "does not know 1234567890"),
        (CLIENT_ID, "1234567890".to_owned(), "warning", "apps.0.client_id", "short"),
        (CLIENT_ID, "my-app".to_owned(), "problem", "apps.0.client_id", "digits alone"),
        (CLIENT_SECRET, "another".to_owned(), "problem", "apps.0.client_secret", "does not take it"),
        (return_to, String::new(), "problem", "apps.0.return_to", "is not set"),
        (
            &*uris,
            redirect("\"https://app.example.com/cb\""),
            "warning",
            "apps.0.return_to",
            "no redirect URI is the hosted callback",
        ),
        (&*uris, redirect("\"http://localhost/cb\""), "warning", "apps.0.redirect_uris.0", "is http"),
        (&*uris, redirect("\"http://a.example/cb\""), "problem", "apps.0.redirect_uris.0", "must be https"),
        (
            &*uris,
            redirect(&format!("\"{CALLBACK}/\"")),
            "warning",
            "apps.0.redirect_uris.0",
            "ends in a slash",
        ),
        (
            &*uris,
            redirect(&format!("\"{CALLBACK}\", \"{CALLBACK}/\"")),
            "warning",
            "apps.0.redirect_uris.0",
            "with and without a slash",
        ),
        (&*uris, redirect("\"https://app.example.com\""), "warning", "apps.0.redirect_uris.0", "no path"),
        (
            &*uris,
            redirect("\"https://id.example.com/callback\""),
            "warning",
            "apps.0.redirect_uris.0",
            "not where the hosted callback answers",
        ),
    ] {
        patient.see(&[(old, &new)], &[]).tells(level, subject, words);
    }
    let seen = patient.see(&[(&patient.simulator.base_url(), "http://127.0.0.1:1")], &[]);
    seen.tells("warning", "apps.0.graph_url", "no answer");
    assert_eq!(seen.count("problem"), 0, "an outage of Threads is no fault of the set-up: {}", seen.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_around_it_is_told_with_its_fix() {
    let database = database().await;
    let mut patient = Patient::new("doctor-around", &database).await;
    let public = "public_url = \"https://id.example.com\"\n";
    for (old, new, level, subject, words) in [
        (public, "", "warning", "server.public_url", "this machine alone"),
        (
            public,
            "public_url = \"http://127.0.0.1:8080\"\n",
            "warning",
            "server.public_url",
            "neither people nor",
        ),
        (
            "ops_listen = \"127.0.0.1:0\"",
            "ops_listen = \"0.0.0.0:0\"",
            "warning",
            "server.ops_listen",
            "asks nobody",
        ),
        (
            "grpc_listen = \"127.0.0.1:0\"",
            "grpc_listen = \"127.0.0.1:x\"",
            "problem",
            "server.grpc_listen",
            "ip:port",
        ),
        (
            "grpc_listen = \"127.0.0.1:0\"",
            "grpc_listen = \"192.0.2.1:0\"",
            "problem",
            "server.grpc_listen",
            "cannot",
        ),
        (
            "[keys]\nfile",
            "[database]\npool_size = 900\n[keys]\nfile",
            "problem",
            "database.pool_size",
            "allows",
        ),
        ("file = \"keys.toml\"", "file = \"none.toml\"", "problem", "keys.file", "cannot be read"),
        (
            "roles = [\"link\", \"read\"]",
            "roles = [\"all\"]",
            "problem",
            "callers.0.roles",
            "`all` is not one of",
        ),
        (
            "roles = [\"link\", \"read\"]",
            "roles = [\"link\", \"transfer\", \"read\", \"sync\", \"token\", \"erase\"]",
            "warning",
            "callers.0",
            "everything that there is",
        ),
    ] {
        patient.see(&[(old, new)], &["--offline"]).tells(level, subject, words);
    }
    let callers = patient.config[patient.config.find("[[callers]]").unwrap()..].to_owned();
    patient.see(&[(&callers, "")], &["--offline"]).tells("warning", "callers", "none are configured");

    for name in ["THREADS_IDENTITY_SERVER__GRPC_LISTEN", "THREADS_CLIENT_SECERT"] {
        patient.environment = vec![(name, "canary")];
        patient.see(&[], &["--offline"]).tells("warning", name, "no variable");
    }
    patient.environment.clear();
    patient.see(&[], &["--offline"]);
    patient.write("config.toml", &patient.config, 0o644);
    patient.look(&["--offline"]).tells("problem", "--config", "can be read by everybody");
    patient.see(&[], &["--offline"]);
    patient.write("keys.toml", &patient.keyring, 0o604);
    patient.look(&["--offline"]).tells("problem", "keys.file", "can be read by everybody");
    patient.write("keys.toml", "nonsense", 0o600);
    patient.look(&["--offline"]).tells("problem", "keys.file", "");
    fs::write(patient.directory.path("config.toml"), "[server\n").unwrap();
    patient.look(&[]).tells("problem", "line 1", "is not TOML");
    fs::remove_file(patient.directory.path("config.toml")).unwrap();
    assert_eq!(patient.look(&[]).count("problem"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_to_a_network_is_told_with_its_fix() {
    let database = database().await;
    let patient = Patient::new("doctor-network", &database).await;
    let local = "grpc_listen = \"127.0.0.1:0\"";
    let wide = "grpc_listen = \"0.0.0.0:0\"";
    let callers = patient.config[patient.config.find("[[callers]]").unwrap()..].to_owned();
    let offline = ["--offline"];
    patient.see(&[(local, wide)], &offline).tells("problem", "server.grpc_listen", "TLS");
    patient.see(&[(local, wide), (&callers, "")], &offline).tells(
        "problem",
        "server.grpc_listen",
        "no callers",
    );
    let allowed = format!("{wide}\ninsecure_allow_plaintext = true\ninsecure_allow_anyone = true");
    let seen = patient.see(&[(local, &allowed), (&callers, "")], &offline);
    seen.tells("warning", "server.insecure_allow_plaintext", "in plaintext");
    seen.tells("warning", "server.insecure_allow_anyone", "everything");

    let made = |days: i64, name: &str, change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["id.example.com".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        change(&mut parameters);
        parameters.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        let certificate = parameters.self_signed(&key).unwrap();
        patient.write("server.pem", &certificate.pem(), 0o644);
        patient.write(name, &key.serialize_pem(), 0o600);
    };
    let certified = |days: i64, name: &str| made(days, name, &|_| {});
    let tls = "[server.tls]\ncertificate_file = \"server.pem\"\nkey_file = \"server.key\"\n[keys]";
    let config = patient.config.replace(local, wide).replace("[keys]", tls);
    let see = || {
        patient.write("keys.toml", &patient.keyring, 0o600);
        patient.write("config.toml", &config, 0o600);
        patient.look(&offline)
    };
    see().tells("problem", "server.tls.certificate_file", "cannot be read");
    certified(400, "server.key");
    let seen = see();
    seen.tells("ok", "server.tls", "fit together");
    seen.tells("ok", "server.tls.certificate_file", "good until");
    certified(5, "server.key");
    see().tells("warning", "server.tls.certificate_file", "days from now");
    certified(-1, "server.key");
    see().tells("problem", "server.tls.certificate_file", "nobody believes it");
    made(400, "server.key", &|parameters| {
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    see().tells("problem", "server.tls.certificate_file", "not for servers");
    made(400, "server.key", &|parameters| parameters.subject_alt_names.clear());
    see().tells("problem", "server.tls.certificate_file", "no name");
    made(400, "server.key", &|parameters| parameters.not_before = rcgen::date_time_ymd(2099, 1, 1));
    see().tells("problem", "server.tls.certificate_file", "and not before");
    certified(400, "server.key");
    let with_ca = config.replace("key_file =", "client_ca_file = \"server.pem\"\nkey_file =");
    patient.write("config.toml", &with_ca, 0o600);
    patient.look(&offline).tells("problem", "server.tls.client_ca_file", "no authority");
    let port = "http_listen = \"127.0.0.1:39731\"";
    let twice = [
        ("http_listen = \"127.0.0.1:0\"", port),
        ("ops_listen = \"127.0.0.1:0\"", "ops_listen = \"127.0.0.1:39731\""),
    ];
    patient.see(&twice, &offline).tells("problem", "server.ops_listen", "another listener's");
    certified(400, "another.key");
    assert!(see().count("problem") > 0, "the key is another certificate's");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_keys_cannot_be_read_is_told_with_its_fix() {
    let database = database().await;
    let patient = Patient::new("doctor-issuers", &database).await;
    let issuer = |source: &str| {
        format!("[[issuers]]\nissuer = \"https://i.example.com\"\naudience = \"us\"\n{source}\n[[callers]]")
    };
    let at = |source: &str| patient.see(&[("[[callers]]", &issuer(source))], &[]);
    let closed = at("jwks_url = \"http://127.0.0.1:1/jwks\"");
    closed.tells("problem", "issuers.0.jwks_url", "cannot be read");
    closed.tells("warning", "issuers.0", "no caller has tokens");
    at("jwks_file = \"none.json\"").tells("problem", "issuers.0.jwks_file", "cannot be read");
    patient.write("jwks.json", "{\"keys\":[]}", 0o644);
    assert!(at("jwks_file = \"jwks.json\"").count("problem") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_database_is_told_with_its_fix() {
    let empty = empty_database().await;
    let patient = Patient::new("doctor-empty", &empty).await;
    patient.see(&[], &["--offline"]).tells("problem", "the schema", "is empty");

    let database = database().await;
    let mut patient = Patient::new("doctor-database", &database).await;
    patient.sql("insert into deployment (id_key_fingerprint, create_time) values ('\\x00', now())").await;
    patient.see(&[], &["--offline"]).tells("problem", "keys", "id_key is not the one");
    patient.sql("insert into sealing_keys (key_id) values ('0badc0de')").await;
    patient.see(&[], &["--offline"]).tells("problem", "keys", "sealed under 0badc0de");
    patient.sql("update deployment set replay_required = true").await;
    patient.see(&[], &["--offline"]).tells("problem", "the schema", "put back from a backup");
    patient
        .sql("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .await;
    patient.see(&[], &["--offline"]).tells("problem", "the schema", "1 migrations are missing");
    let direct = (
        "[keys]\nfile",
        "[database]\ndirect_url = \"postgres://nobody:canary-password@127.0.0.1:1/x\"\n[keys]\nfile",
    );
    patient.see(&[direct], &["--offline"]).tells("problem", "database.direct_url", "unavailable");
    patient.database_url = "postgres://nobody:canary-password@127.0.0.1:1/x".to_owned();
    let seen = patient.see(&[], &["--offline"]);
    seen.tells("problem", "database.url", "unavailable");
    assert!(!seen.text.contains("canary-password"), "{}", seen.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_role_lacks_is_named() {
    let database = database().await;
    let mut patient = Patient::new("doctor-rights", &database).await;
    let role = format!("clerk_{}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(&patient.database_url).await.unwrap();
    for statement in [
        format!("create role {role} login"),
        format!("grant select, insert, update on all tables in schema public to {role}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    let url = patient.database_url.clone();
    let mut other = url::Url::parse(&url).unwrap();
    other.set_username(&role).unwrap();
    patient.database_url = other.to_string();
    let seen = patient.see(&[], &["--offline"]);
    seen.tells("problem", "the schema", "delete on accounts");
    seen.tells("problem", "the schema", "usage on ");
    assert!(!seen.text.contains("superuser"), "{}", seen.text);
    let drop = format!("drop owned by {role}; drop role {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
}
