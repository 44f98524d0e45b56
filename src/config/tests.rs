use super::*;

const GOOD: &str = r#"
[[apps]]
id = "default"
client_id = "990602627938098"
client_secret = "canary-secret"
redirect_uris = ["https://id.example.com/api/auth/callback/threads"]

[[callers]]
name = "web"
roles = ["link", "read"]
key_sha256 = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
"#;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, Path::new(""), environment)
}

fn problems(text: &str, environment: &[(&str, &str)]) -> String {
    let error = parse(text, environment).unwrap_err().to_string();
    assert!(!error.contains("canary"), "a secret is shown: {error}");
    error
}

#[test]
fn a_small_file_is_enough() {
    let config = parse(GOOD, &[]).unwrap();
    let app = &config.apps[0];
    assert_eq!(app.authorize_url.as_str(), "https://threads.com/oauth/authorize");
    assert_eq!(app.token_url.as_str(), "https://graph.threads.com/oauth/access_token");
    assert_eq!(app.api_version, "v1.0");
    assert_eq!(app.scopes, ["threads_basic"]);
    assert_eq!(config.callers[0].app, "default");
    assert_eq!(config.server.grpc_listen.port(), 50051);
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn the_environment_alone_is_enough_for_one_app() {
    let hash = "ab".repeat(32);
    let config = parse(
        "",
        &[
            ("DATABASE_URL", "postgres://u:canary@db/x"),
            ("THREADS_CLIENT_ID", "1"),
            ("THREADS_CLIENT_SECRET", "canary"),
            ("THREADS_REDIRECT_URIS", "https://a.example/cb,https://b.example/cb"),
            ("THREADS_IDENTITY_KEY", "tik1.canary"),
            ("THREADS_IDENTITY_CALLER_KEY_SHA256", &hash),
            ("THREADS_IDENTITY__SERVER__GRPC_LISTEN", "0.0.0.0:1"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.apps[0].redirect_uris.len(), 2);
    assert_eq!(config.apps[0].id, "default");
    assert_eq!(config.callers[0].name, "default");
    let roles: Vec<&str> = config.callers[0].roles.iter().map(|role| role.name()).collect();
    assert_eq!(roles, ["link", "read", "sync", "token"]);
    assert_eq!(config.server.grpc_listen.port(), 1);
    assert!(matches!(config.keys, Some(Keys::Value(_))));
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn the_long_names_win_over_the_file_and_the_short_ones_do_not() {
    let text = format!("[database]\nurl = \"postgres://file\"\n[server]\nreflection = true\n{GOOD}");
    let url = |environment: &[(&str, &str)]| {
        parse(&text, environment).unwrap().database.url.unwrap().expose().to_owned()
    };
    assert_eq!(url(&[("DATABASE_URL", "postgres://short")]), "postgres://file");
    assert_eq!(url(&[("THREADS_IDENTITY__DATABASE__URL", "postgres://long")]), "postgres://long");
    let config = parse(&text, &[("THREADS_IDENTITY__SERVER__REFLECTION", "false")]).unwrap();
    assert!(!config.server.reflection);
}

#[test]
fn every_problem_is_reported_at_once_with_its_key() {
    let text = r#"
        nonsense = 1
        [server]
        grpc_listen = "nowhere"
        drain_timeout = "soon"
        [database]
        url = "mysql://canary"
        [[apps]]
        id = "Not An Id"
        client_id = "abc"
        redirect_uris = ["http://example.com/cb", "/relative", "https://ok.example/#x"]
        graph_url = "http://graph.example.com"
        profile_fields = ["email"]
        authorize_parameters = { state = "x", code_challenge = "y" }
        [[callers]]
        name = "web"
        roles = ["admin"]
        key_sha256 = ["canary"]
        app = "other"
    "#;
    let error = problems(text, &[]);
    for expected in [
        "nonsense: is not a known key",
        "server.grpc_listen: must be",
        "server.drain_timeout: must be a duration",
        "database.url: must start with postgres://",
        "apps.0.id: must be",
        "apps.0.client_id: must be the Threads app id",
        "apps.0.client_secret: is required",
        "apps.0.redirect_uris.0: must be https",
        "apps.0.redirect_uris.1: must be an absolute URL",
        "apps.0.redirect_uris.2: must have no fragment",
        "apps.0.graph_url: must be an absolute https URL",
        "apps.0.profile_fields: `email` is not one of the six",
        "apps.0.authorize_parameters.state: is set by the service",
        "apps.0.authorize_parameters.code_challenge: Threads has no PKCE",
        "callers.0.roles: `admin` is not one of",
        "callers.0.key_sha256.0: must be 64 hexadecimal digits",
        "callers.0.app: there is no app `other`",
    ] {
        assert!(error.contains(expected), "{expected} is missing in:\n{error}");
    }
}

#[test]
fn a_secret_set_twice_empty_or_unreadable_is_a_problem() {
    let both = GOOD.replace("client_secret = ", "client_secret_file = \"x\"\nclient_secret = ");
    assert!(problems(&both, &[]).contains("apps.0.client_secret_file: is set beside"));
    let empty = GOOD.replace("\"canary-secret\"", "\"\"");
    assert!(problems(&empty, &[]).contains("apps.0.client_secret: is empty"));
    let missing =
        GOOD.replace("client_secret = \"canary-secret\"", "client_secret_file = \"/does/not/exist\"");
    assert!(problems(&missing, &[]).contains("apps.0.client_secret_file: cannot be read"));
}

#[test]
fn a_broken_file_shows_its_line_and_not_its_text() {
    let error = problems("[[apps]]\nclient_secret = \"canary", &[]);
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn several_apps_need_callers_and_distinct_ids() {
    let app = &GOOD[..GOOD.find("[[callers]]").unwrap()];
    let error = problems(&app.repeat(2), &[]);
    assert!(error.contains("apps.1.id: stands twice"), "{error}");
    assert!(error.contains("apps.1.client_id: stands twice"), "{error}");
    let second = app.replace("default", "second").replace("990602627938098", "2");
    let error = problems(&(app.to_owned() + &second), &[]);
    assert!(error.contains("callers: are needed"), "{error}");
    let error = problems(&(second + GOOD), &[]);
    assert!(error.contains("callers.0.app: is required"), "{error}");
}

#[test]
fn nothing_at_all_says_what_is_needed() {
    assert!(problems("", &[]).contains("THREADS_CLIENT_ID"));
    let error = problems("", &[("THREADS_IDENTITY__APPS__ID", "x")]);
    assert!(error.contains("apps: must be a list of tables"), "{error}");
}

#[test]
fn a_keyring_file_is_looked_at_as_often_as_is_said() {
    let interval = |keys: &str| match parse(&format!("[keys]\nfile = \"keys.toml\"\n{keys}\n{GOOD}"), &[]) {
        Ok(Config { keys: Some(Keys::File { reload_interval, .. }), .. }) => reload_interval,
        other => panic!("{other:?}"),
    };
    assert_eq!(interval(""), Duration::from_secs(5));
    assert_eq!(interval("reload_interval = \"250ms\""), Duration::from_millis(250));
    assert!(
        problems(&format!("[keys]\nreload_interval = \"0s\"\n{GOOD}"), &[]).contains("keys.reload_interval:")
    );
}

#[test]
fn the_commands_that_look_after_keys_need_nothing_else() {
    let environment = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let (url, keys) = Config::load_database_and_keys(None, environment(&[])).unwrap();
    assert!(url.is_none() && keys.is_none());
    let both = [("DATABASE_URL", "postgres://db/x"), ("THREADS_IDENTITY_KEY_FILE", "k.toml")];
    let (url, keys) = Config::load_database_and_keys(None, environment(&both)).unwrap();
    assert!(url.is_some() && matches!(keys, Some(Keys::File { path, .. }) if path == Path::new("k.toml")));
    let wrong = [("DATABASE_URL", "mysql://canary")];
    let error = Config::load_database_and_keys(None, environment(&wrong)).unwrap_err().to_string();
    assert!(error.contains("database.url:") && !error.contains("canary"), "{error}");
}

#[test]
fn retention_has_periods_with_bounds() {
    let config = parse(GOOD, &[]).unwrap().retention;
    assert_eq!(config.audit, Duration::from_hours(400 * 24));
    assert_eq!(config.interval, Duration::from_mins(10));
    let set = parse(&format!("{GOOD}[retention]\nevents = \"3d\"\n"), &[]).unwrap().retention;
    assert_eq!(set.events, Duration::from_hours(72));
    let wrong = "[retention]\nauthorizations = \"1h\"\nevents = \"30s\"\ncodes = \"90m\"\naudit = \"36501d\"\n\
                 unlinked = \"0s\"\nerasures = \"1h\"\ninterval = \"10ms\"\nother = \"1d\"\n";
    let error = problems(&format!("{GOOD}{wrong}"), &[]);
    for key in ["authorizations", "events", "codes", "audit", "unlinked", "erasures", "interval", "other"] {
        assert!(error.contains(&format!("retention.{key}: ")), "{key}: {error}");
    }
    let error = problems(GOOD, &[("THREADS_IDENTITY__RETENTION__UNLINKED", "7d")]);
    assert!(error.contains("retention.authorizations: must not be longer"), "{error}");
}

const ISSUER: &str = r#"
[[issuers]]
issuer = "https://issuer.example.com"
audience = "https://id.example.com"
jwks_url = "https://issuer.example.com/jwks"
"#;

/// A caller with other credentials than `GOOD` has.
fn caller(name: &str, credentials: &str) -> String {
    format!("[[callers]]\nname = \"{name}\"\nroles = [\"read\"]\n{credentials}\n")
}

#[test]
fn an_issuer_needs_little_and_has_bounds() {
    let config = parse(&format!("{GOOD}{ISSUER}"), &[]).unwrap();
    let [issuer] = config.issuers.as_slice() else { panic!("one issuer") };
    assert_eq!(issuer.algorithms.len(), 3);
    assert_eq!(issuer.retry_interval, Duration::from_secs(30));
    assert!(issuer.roles_claim.is_none());
    let wrong = r#"
        [[issuers]]
        issuer = ""
        algorithms = ["RS256", "HS256", "none"]
        jwks_url = "http://issuer.example.com/jwks"
        role_names = { boss = "admin" }
        leeway = "1h"
        lifetime_max = "400d"
        refresh_interval = "2d"
        retry_interval = "soon"
        stale_max = "1m"
        secret = "x"
        [[issuers]]
        issuer = "a"
        audience = "b"
        [[issuers]]
        issuer = "a"
        audience = "b"
        algorithms = []
        jwks_url = "https://a.example/jwks"
        jwks_file = "jwks.json"
        [[issuers]]
        issuer = "c"
        audience = "b"
        jwks_url = "https://a.example/jwks"
        [[issuers]]
        issuer = "c"
        audience = "b"
        jwks_url = "https://a.example/jwks"
    "#;
    let error = problems(&format!("{GOOD}{wrong}"), &[]);
    for expected in [
        "issuers.0.issuer: is empty",
        "issuers.0.audience: is required",
        "issuers.0.algorithms: `HS256` is not one of RS256,",
        "issuers.0.algorithms: `none` is not one of",
        "issuers.0.jwks_url: must be an absolute https URL",
        "issuers.0.role_names: is set without `roles_claim`",
        "issuers.0.role_names.boss: `admin` is not one of",
        "issuers.0.leeway: must be at most \"300s\"",
        "issuers.0.lifetime_max: must be at most",
        "issuers.0.refresh_interval: must be at most",
        "issuers.0.retry_interval: must be a duration",
        "issuers.0.stale_max: must not be shorter than refresh_interval",
        "issuers.0.secret: is not a known key",
        "issuers.1.jwks_url: is required, or jwks_file",
        "issuers.2.algorithms: at least one is required",
        "issuers.2.jwks_file: is set beside `jwks_url`",
        "issuers.4.issuer: stands twice",
    ] {
        assert!(error.contains(expected), "{expected} is missing in:\n{error}");
    }
}

#[test]
fn a_caller_has_credentials_of_any_kind_and_shares_none() {
    let token = r#"tokens = [{ issuer = "https://issuer.example.com", subject = "other" }]"#;
    let names = r#"certificate_names = ["Web.Internal", "spiffe://Example/Web"]"#;
    let good = format!("{GOOD}{}{}{ISSUER}", caller("by-token", token), caller("by-name", names));
    let config = parse(&good, &[]).unwrap();
    assert_eq!(config.callers[1].tokens[0].subject, "other");
    assert_eq!(config.callers[2].certificate_names, ["web.internal", "spiffe://Example/Web"]);

    let shared = [
        (names, "a certificate name of `two` stands twice"),
        (token, "a token's subject of `two` stands twice"),
        (r#"certificate_names = ["WEB.internal"]"#, "a certificate name of `two` stands twice"),
    ];
    for (credential, expected) in shared {
        let first = if credential.contains("WEB") { names } else { credential };
        let text = format!("{GOOD}{}{}{ISSUER}", caller("one", first), caller("two", credential));
        let error = problems(&text, &[]);
        assert!(error.contains(expected), "{error}");
    }
    for (credential, expected) in [
        ("", "callers.1.key_sha256: is required, or certificate_names or tokens"),
        ("key_sha256 = []", "callers.1.key_sha256: is required, or certificate_names or tokens"),
        ("certificate_names = [\"*.internal\"]", "callers.1.certificate_names.0: must be one whole DNS name"),
        ("certificate_names = [\"\"]", "callers.1.certificate_names.0: must be text"),
        ("certificate_names = [\"a b\"]", "callers.1.certificate_names.0: must be one whole DNS name"),
        (
            "tokens = [{ issuer = \"https://other\", subject = \"x\" }]",
            "callers.1.tokens.0.issuer: there is no",
        ),
        ("tokens = [{ issuer = \"https://issuer.example.com\" }]", "callers.1.tokens.0.subject: is required"),
        (
            "tokens = [{ issuer = \"https://issuer.example.com\", subject = \"\" }]",
            "callers.1.tokens.0.subject: is empty",
        ),
        ("tokens = [\"web\"]", "callers.1.tokens.0: must be a table"),
        (
            "tokens = [{ issuer = \"https://issuer.example.com\", subject = \"x\", aud = \"y\" }]",
            "callers.1.tokens.0.aud: is not a known key",
        ),
    ] {
        let error = problems(&format!("{GOOD}{}{ISSUER}", caller("other", credential)), &[]);
        assert!(error.contains(expected), "{expected} is missing in:\n{error}");
    }
}

#[test]
fn what_has_changed_and_needs_a_restart_is_known_by_name() {
    let origin = |text: &str| Origin::new(None, Vec::new(), text);
    let before =
        origin(&format!("[watch]\nheartbeat = \"1s\"\n[database]\nurl = \"postgres://canary\"\n{GOOD}"));
    let callers_only = format!(
        "[watch]\nheartbeat = \"1s\"\n[database]\nurl = \"postgres://canary\"\n{GOOD}{ISSUER}{}",
        caller("more", "")
    );
    assert!(before.needs_restart(&origin(&callers_only)).is_empty());
    let other = format!("[refresh]\nenabled = true\n[database]\nurl = \"postgres://other\"\n{GOOD}");
    assert_eq!(before.needs_restart(&origin(&other)), ["database", "refresh", "watch"]);
    assert!(!format!("{before:?}").contains("canary"));
}
