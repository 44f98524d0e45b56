//! `[[callers]]` and `[[issuers]]`.

use super::*;

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
