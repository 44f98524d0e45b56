use super::*;

mod callers;
mod connections;

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
    // What needs a session of its own goes past the pooler, where there is a way.
    let direct = [("DATABASE_URL", "postgres://pooler/x"), ("DATABASE_DIRECT_URL", "postgres://db/x")];
    let (url, _) = Config::load_database_and_keys(None, environment(&direct)).unwrap();
    assert_eq!(url.unwrap().expose(), "postgres://db/x");
    assert_eq!(Config::load_database_url(None, environment(&direct)).unwrap().expose(), "postgres://db/x");
    let alone = [("DATABASE_DIRECT_URL", "postgres://db/x")];
    assert!(Config::load_database_url(None, environment(&alone)).is_ok());
    assert!(
        Config::load_database_url(None, environment(&[])).unwrap_err().to_string().contains("database.url:")
    );
    let wrong = [("DATABASE_URL", "postgres://db/x"), ("DATABASE_DIRECT_URL", "mysql://canary")];
    let error = Config::load_database_url(None, environment(&wrong)).unwrap_err().to_string();
    assert!(error.contains("database.direct_url: must start with postgres://"), "{error}");
    assert!(!error.contains("canary"), "{error}");
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

#[test]
fn a_collector_is_an_address_and_limits() {
    let config = parse(GOOD, &[]).unwrap().telemetry;
    assert!(config.otlp_endpoint.is_none() && config.log_format == LogFormat::Json);
    let set = |key: &str, value: &str| {
        let name = format!("THREADS_IDENTITY__TELEMETRY__{}", key.to_ascii_uppercase());
        parse(GOOD, &[(&name, value)]).map(|config| config.telemetry)
    };
    assert!(set("otlp_endpoint", "http://collector:4317").unwrap().otlp_endpoint.is_some());
    for (value, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25)] {
        let read = set("trace_ratio", value).unwrap().trace_ratio;
        assert!((read - ratio).abs() < f64::EPSILON, "{value}: {read}");
    }
    for (key, value) in [
        ("otlp_endpoint", ""),
        ("otlp_endpoint", "collector:4317"),
        ("otlp_endpoint", "grpc://collector:4317"),
        ("otlp_endpoint", "http://user:canary@collector:4317"),
        ("trace_ratio", ""),
        ("trace_ratio", "-0.1"),
        ("trace_ratio", "1.1"),
        ("trace_ratio", "nan"),
        ("trace_ratio", "half"),
        ("queue_max", "1"),
        ("queue_max", "many"),
        ("export_interval", "0s"),
        ("export_interval", "6m"),
        ("export_timeout", "5"),
        ("log_format", "xml"),
    ] {
        let error = set(key, value).unwrap_err().to_string();
        assert!(error.contains(&format!("telemetry.{key}: ")) && error.contains("has 1 problem"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    for twice in ["trace_ratio = [0.5]", "otlp_endpoint = 7", "nonsense = 1"] {
        let error = problems(&format!("[telemetry]\n{twice}\n{GOOD}"), &[]);
        assert!(error.contains("\n  telemetry."), "{error}");
    }
}
