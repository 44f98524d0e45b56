//! `callers add`.

use std::path::Path;

use threads_identity::config::{Config, Role};
use threads_identity::grpc::CALLER_KEY_PREFIX;

use crate::run::{run, sha256};

const APP: &str = "[[apps]]\nid = \"default\"\nclient_id = \"1\"\nclient_secret = \"s\"\n\
                   redirect_uris = [\"https://a.example/cb\"]\n";

/// The key that was printed, and the lines for the configuration.
fn parts(out: &str) -> (&str, &str) {
    let key = out.lines().map(str::trim).find(|line| line.starts_with(CALLER_KEY_PREFIX)).unwrap();
    (key, &out[out.find("[[callers]]").unwrap()..])
}

#[test]
fn a_new_caller_has_a_key_and_lines_that_hold_its_hash_alone() {
    let out = run(&["callers", "add", "we\"b", "--roles", "link,read,token"]).good();
    let (key, lines) = parts(&out);
    assert_eq!(out.matches(key).count(), 1, "the key is shown once");
    let config = Config::parse(&format!("{APP}{lines}"), Path::new(""), []).unwrap();
    let caller = &config.callers[0];
    assert_eq!((caller.name.as_str(), caller.app.as_str()), ("we\"b", "default"));
    let roles: Vec<&str> = caller.roles.iter().map(|role| role.name()).collect();
    assert_eq!(roles, ["link", "read", "token"]);
    assert!(lines.contains(&sha256(key)), "{lines}");
    assert_eq!(threads_identity::secret::hex(&caller.key_sha256[0]), sha256(key));
    assert_ne!(key, parts(&run(&["callers", "add", "web"]).good()).0);
}

#[test]
fn roles_and_names_are_checked() {
    let error = run(&["callers", "add", "web", "--roles", "link,admin"]).bad();
    for word in Role::ALL.map(Role::name).into_iter().chain(["`admin`"]) {
        assert!(error.contains(word), "{error}");
    }
    for app in ["", "A", "a b"] {
        let error = run(&["callers", "add", "web", "--app", app]).bad();
        assert!(error.contains("--app"), "{error}");
    }
    for name in ["", "a\nb", &"x".repeat(65)] {
        let error = run(&["callers", "add", name]).bad();
        assert!(error.contains("64 bytes"), "{error}");
    }
    assert!(run(&["callers", "add", "web", "--roles", ""]).bad().contains("is not a role"));
}
