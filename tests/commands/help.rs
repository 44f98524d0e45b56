//! What a newcomer asks first.

use crate::run::run;

#[test]
fn it_tells_its_version_and_its_commands() {
    assert_eq!(run(&["--version"]).good(), format!("threads-identity {}", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"]).good();
    for command in [
        "dev", "serve", "migrate", "simulate", "keys", "callers", "audit", "erase", "import", "export",
        "doctor", "watch",
    ] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {help}"
        );
    }
    assert!(!help.contains("with-postgres"), "a tool of this repository's own");
    let alone = run(&[]);
    assert_eq!(alone.code, Some(2));
    assert!(alone.err.contains("Usage:"), "{}", alone.err);
}

#[test]
fn every_command_explains_itself() {
    for (command, word) in [
        (vec!["dev"], "--data-dir"),
        (vec!["serve"], "--json"),
        (vec!["migrate"], "--after-restore"),
        (vec!["simulate"], "--redirect-uri"),
        (vec!["keys"], "generate"),
        (vec!["keys", "generate"], "--inline"),
        (vec!["keys", "list"], "--json"),
        (vec!["keys", "activate"], "KEY_ID"),
        (vec!["keys", "reseal"], "--config"),
        (vec!["keys", "retire"], "--now"),
        (vec!["callers"], "add"),
        (vec!["watch"], "THREADS_IDENTITY_CALLER_KEY"),
        (vec!["callers", "add"], "--roles"),
        (vec!["audit"], "--account"),
        (vec!["erase"], "--threads-ids"),
        (vec!["import"], "better-auth"),
        (vec!["import", "authjs"], "THREADS_IDENTITY_IMPORT_URL"),
        (vec!["import", "better-auth"], "--provider"),
        (vec!["import", "csv"], "threads_user_id"),
        (vec!["export"], "--tokens-sealed-to"),
        (vec!["doctor"], "--offline"),
        (vec!["with-postgres"], "DATABASE_URL"),
    ] {
        let help = run(&[command.as_slice(), &["--help"]].concat()).good();
        assert!(help.contains(word), "{command:?}: {help}");
        let version = run(&[command.as_slice(), &["--version"]].concat()).good();
        assert!(version.ends_with(env!("CARGO_PKG_VERSION")), "{command:?}: {version}");
    }
}

#[test]
fn what_is_mistyped_is_refused_with_the_usage() {
    for wrong in [vec!["server"], vec!["serve", "--port", "1"], vec!["keys"], vec!["simulate"]] {
        let ended = run(&wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.err);
        assert!(ended.err.contains("Usage:") && ended.out.is_empty(), "{wrong:?}: {}", ended.err);
    }
}

#[test]
fn with_postgres_answers_with_the_code_of_the_command() {
    let asks = "case $DATABASE_URL in postgres://*) exit 7;; *) exit 1;; esac";
    assert_eq!(run(&["with-postgres", "sh", "-c", asks]).code, Some(7));
    assert_eq!(run(&["with-postgres", "true"]).code, Some(0));
    let missing = run(&["with-postgres", "/nowhere/at-all"]).bad();
    assert!(missing.contains("/nowhere/at-all"), "{missing}");
}
