//! What a newcomer asks first.

use crate::run::{Directory, run};

#[test]
fn it_tells_its_version_and_its_commands() {
    assert_eq!(run(&["--version"]).good(), format!("threads-identity {}", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"]).good();
    for command in [
        "dev",
        "serve",
        "migrate",
        "simulate",
        "keys",
        "callers",
        "audit",
        "erase",
        "import",
        "export",
        "doctor",
        "link",
        "accounts",
        "profile",
        "watch",
        "completions",
        "man",
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
        (vec!["link"], "THREADS_IDENTITY_SERVER"),
        (vec!["accounts"], "--all"),
        (vec!["profile"], "--fresh"),
        (vec!["completions"], "fish"),
        (vec!["man"], "FOLDER"),
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
        let has_examples = help.contains("\nExamples:\n  threads-identity ");
        assert!(has_examples || command[0] == "with-postgres", "{command:?}: {help}");
        let version = run(&[command.as_slice(), &["--version"]].concat()).good();
        assert!(version.ends_with(env!("CARGO_PKG_VERSION")), "{command:?}: {version}");
    }
}

#[test]
fn shells_and_manuals_know_every_command() {
    let is_listed = |text: &str| {
        for command in ["dev", "serve", "keys", "link", "accounts", "profile", "watch", "doctor"] {
            assert!(text.contains(command), "{command}: {text}");
        }
        assert!(!text.contains("with-postgres"), "a tool of this repository's own");
    };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        is_listed(&run(&["completions", shell]).good());
    }
    // Bash takes it, and completes by it.
    let directory = Directory::new("completions");
    let file = directory.path("completions.bash");
    std::fs::write(&file, run(&["completions", "bash"]).good()).unwrap();
    let completes = "source \"$0\" && COMP_WORDS=(threads-identity prof) COMP_CWORD=1 && \
                     _threads__identity threads-identity prof threads-identity && echo \"${COMPREPLY[*]}\"";
    let offered = std::process::Command::new("bash").args(["-c", completes]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8(offered.stdout).unwrap().trim(), "profile");
    assert!(run(&["completions", "tcsh"]).bad().contains("possible values"));

    is_listed(&run(&["man"]).good());
    let pages = directory.path("man1");
    run(&["man", pages.to_str().unwrap()]).good();
    let page =
        |name: &str| std::fs::read_to_string(pages.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    is_listed(&page("threads-identity.1"));
    assert!(page("threads-identity-link.1").contains("SESSION_MISMATCH"));
    assert!(page("threads-identity-keys-retire.1").contains("Examples:"));
    let in_the_way = directory.path("completions.bash");
    assert!(run(&["man", in_the_way.to_str().unwrap()]).bad().contains("completions.bash"));
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
